"""Figures of a model beside readers: its ROC and precision-recall curves, a point for each reader and for their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray_cxr.axes import Labels
from ray_cxr.bootstrap import Floats
from ray_cxr.evaluate.readers_study import Beside, Estimate, FindingStudy
from ray_cxr.report.blocks import Figure
from ray_cxr.report.figures import (
    NEUTRAL,
    PALETTE,
    Curve,
    curve_trace,
    plotly_text,
    precision_recall_curves,
    roc_curves,
    unit_square,
)

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagon2")
_MOST_BARS = 6
"""Readers whose points carry their intervals; more would hide each other."""
_THIN_POINTS = 80
_FAINT = 0.5


def reader_roc_figure(study: FindingStudy, names: Sequence[str], curve: Curve) -> Figure:
    """The model's curve, each reader's point with its interval, and the mean reader.

    Where a reader was left out of his reference, the model's curve against that reference is there too, thin.
    """
    hover = "%{fullData.name}<br>sensitivity %{y:.1%}<br>1 − specificity %{x:.1%}<extra></extra>"
    data = [*_own_curves(study, 0), _model(curve, "linear", hover)]
    bars = len(study.readers) <= _MOST_BARS
    for reader in study.readers:
        point = _point(reader, names, 1 - _value(reader.specificity), _value(reader.sensitivity), hover)
        if bars:
            point["error_x"] = _bar(_mirrored(reader.specificity), reader.reader)
            point["error_y"] = _bar(reader.sensitivity, reader.reader)
        data.append(point)
    if study.mean is not None:
        data.append(_mean(study.mean.readers, 1 - study.mean.specificity, study.mean.sensitivity, hover))
    guess = {
        "x": [0, 1], "y": [0, 1], "mode": "lines", "hoverinfo": "skip", "showlegend": False,
        "line": {"color": NEUTRAL, "width": 1.5, "dash": "dot"},
    }  # fmt: skip
    return {
        "data": [*data, guess],
        "layout": _titled(study, unit_square("1 − specificity", "Sensitivity", "", _in_legend(data))),
    }


def reader_precision_figure(study: FindingStudy, names: Sequence[str], curve: Curve) -> Figure:
    """The model's precision-recall curve and each reader's point; a reader who never says yes has none."""
    hover = "%{fullData.name}<br>precision %{y:.1%}<br>recall %{x:.1%}<extra></extra>"
    data = [*_own_curves(study, 1), _model(curve, "vh", hover)]
    for reader in study.readers:
        if reader.precision.value is not None:
            point = _point(reader, names, _value(reader.sensitivity), reader.precision.value, hover)
            if len(study.readers) <= _MOST_BARS:
                point["error_x"] = _bar(reader.sensitivity, reader.reader)
                point["error_y"] = _bar(reader.precision, reader.reader)
            data.append(point)
    return {
        "data": data,
        "layout": _titled(study, unit_square("Recall (sensitivity)", "Precision", "", _in_legend(data))),
    }


def model_curves(
    finding: str, labels: Labels, scores: Floats, auroc: float, precision: float
) -> tuple[Curve, Curve]:
    """ROC and precision-recall curve of one finding from [N] labels and [N] scores."""
    columns = ([finding], labels[:, None], scores[:, None])
    return (
        roc_curves(*columns, {finding: auroc})[0],
        precision_recall_curves(*columns, {finding: precision})[0],
    )


def matched_curves(finding: str, reader: Beside) -> tuple[Curve, Curve]:
    """The model's curves on the films and labels that the reader was measured on."""
    chosen = reader.chosen
    return model_curves(finding, reader.reference[chosen], reader.scores[chosen], 0.0, 0.0)


def _own_curves(study: FindingStudy, which: int) -> list[dict[str, Any]]:
    """Thin curves of the model (which: 0 = ROC, 1 = precision-recall) for readers left out of their reference."""
    style = {"mode": "lines", "showlegend": False, "hoverinfo": "skip", "opacity": _FAINT}
    shape = ("linear", "vh")[which]
    drawn = []
    for reader in study.readers:
        if reader.left_out:
            curve = curve_trace(matched_curves(study.finding, reader)[which], shape, "", _THIN_POINTS)
            line = {"color": _colour(reader.reader), "width": 1.2, "shape": shape}
            drawn.append(
                {"x": curve["x"], "y": curve["y"], "line": line, "legendgroup": _group(reader), **style}
            )
    return drawn


def _model(curve: Curve, shape: str, hover: str) -> dict[str, Any]:
    trace = curve_trace(curve, shape, hover)
    return trace | {
        "name": f"model {curve.value:.3f}",
        "line": {"color": NEUTRAL, "width": 3, "shape": shape},
    }


def _point(reader: Beside, names: Sequence[str], x: float, y: float, hover: str) -> dict[str, Any]:
    return {
        "x": [round(x, 5)], "y": [round(y, 5)], "mode": "markers", "name": plotly_text(names[reader.reader]),
        "legendgroup": _group(reader), "hovertemplate": hover,
        "marker": {"color": _colour(reader.reader), "size": 10, "symbol": SYMBOLS[reader.reader // len(PALETTE) % len(SYMBOLS)]},
    }  # fmt: skip


def _mean(readers: int, x: float, y: float, hover: str) -> dict[str, Any]:
    return {
        "x": [round(x, 5)], "y": [round(y, 5)], "mode": "markers", "name": f"mean of {readers} readers",
        "hovertemplate": hover,
        "marker": {"color": NEUTRAL, "size": 15, "symbol": "x-thin", "line": {"width": 4, "color": NEUTRAL}},
    }  # fmt: skip


def _bar(estimate: Estimate, reader: int) -> dict[str, Any]:
    if estimate.interval is None or estimate.value is None:
        return {"visible": False}
    low, high = estimate.interval
    return {
        "type": "data", "symmetric": False, "array": [round(max(high - estimate.value, 0), 5)],
        "arrayminus": [round(max(estimate.value - low, 0), 5)], "thickness": 1, "width": 3, "color": _colour(reader),
    }  # fmt: skip


def _mirrored(estimate: Estimate) -> Estimate:
    """1 minus a figure, with its interval turned round."""
    if estimate.value is None or estimate.interval is None:
        return Estimate(None)
    return Estimate(1 - estimate.value, (1 - estimate.interval[1], 1 - estimate.interval[0]))


def _value(estimate: Estimate) -> float:
    assert estimate.value is not None, "a reader with both classes has a sensitivity and a specificity"
    return estimate.value


def _group(reader: Beside) -> str:
    return f"reader {reader.reader}"


def _titled(study: FindingStudy, layout: dict[str, Any]) -> dict[str, Any]:
    title = {
        "text": plotly_text(study.finding),
        "x": 0,
        "xref": "container",
        "y": 0.985,
        "yanchor": "top",
        "font": {"size": 15},
    }
    return layout | {"title": title}


def _colour(reader: int) -> str:
    return PALETTE[reader % len(PALETTE)]


def _in_legend(data: Sequence[dict[str, Any]]) -> int:
    return sum(trace.get("showlegend", True) for trace in data)
