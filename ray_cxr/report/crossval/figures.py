"""Figures of a cross-validation: every fold's AUROC by finding with mean and spread, and the folds' learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_cxr.report.blocks import Figure
from ray_cxr.report.figures import DASHES, NEUTRAL, PALETTE, axis, base_layout, plotly_text

MEAN = "Mean"
_ROW_PX, _LEAST_PX, _LEARNING_PX = 30, 270, 500
_TOP_PX = 64
"""Above the curves: a line of buttons, and below it the legend, which is as wide."""
_SYMBOLS = (
    "circle-open",
    "square-open",
    "diamond-open",
    "triangle-up-open",
    "cross-open",
    "x-open",
    "star-open",
)
_MAX_EPOCH_TICKS = 20


def spread_figure(metrics: Mapping[str, Any]) -> Figure:
    """A row for each finding, their mean last: folds as open marks, the mean over folds with one standard deviation to each side."""
    rows = [f for f, value in metrics["auroc"].items() if value is not None]
    names = [*rows, MEAN] if metrics["mean_auroc"] is not None and len(rows) > 1 else rows
    data = [_fold_marks(metrics, fold, names) for fold in metrics["by_fold"]]
    data.append(_means(metrics, names))
    layout = base_layout() | {
        "height": max(_LEAST_PX, 150 + _ROW_PX * len(names)),
        "margin": base_layout()["margin"] | {"t": _TOP_PX},
        "hovermode": "closest",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": axis("AUROC on the films of the fold") | {"tickformat": ".2f", "minallowed": 0, "maxallowed": 1.02},
        "yaxis": axis("") | {"tickvals": list(range(len(names))), "ticktext": [plotly_text(n) for n in names],
                             "range": [len(names) - 0.5, -0.5], "showgrid": False},
        "shapes": [
            {"type": "line", "x0": 0.5, "x1": 0.5, "y0": 0, "y1": 1, "yref": "paper",
             "line": {"color": NEUTRAL, "width": 1.5, "dash": "dot"}}
        ],
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _of(entry: Mapping[str, Any], name: str) -> float | None:
    value: float | None = entry["mean_auroc"] if name == MEAN else entry["auroc"][name]
    return value


def _fold_marks(metrics: Mapping[str, Any], fold: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """One fold's marks, a little below those of the fold before, so that equal ones can be told apart."""
    number, folds = fold["fold"], metrics["folds"]
    below = 0.44 * (number / (folds - 1) - 0.5) if folds > 1 else 0.0
    known = [(value, place) for place, name in enumerate(names) if (value := _of(fold, name)) is not None]
    return {
        "x": [round(value, 5) for value, _ in known], "y": [round(place + below, 3) for _, place in known],
        "mode": "markers", "name": f"fold {number}",
        "marker": {"color": PALETTE[number % len(PALETTE)], "size": 8, "symbol": _SYMBOLS[number % len(_SYMBOLS)]},
        "text": [plotly_text(names[place]) for _, place in known],
        "hovertemplate": "%{text}, %{fullData.name}: %{x:.3f}<extra></extra>",
    }  # fmt: skip


def _means(metrics: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    values = [_of(metrics, name) or 0.0 for name in names]
    spreads = [_of(metrics["standard_deviation"], name) or 0.0 for name in names]
    return {
        "x": [round(v, 5) for v in values], "y": list(range(len(names))), "mode": "markers",
        "name": "mean ± SD",
        "marker": {"color": NEUTRAL, "size": 11, "symbol": "line-ns", "line": {"color": NEUTRAL, "width": 3}},
        "error_x": {"type": "data", "array": [round(s, 5) for s in spreads], "color": NEUTRAL, "thickness": 2, "width": 5},
        "text": [plotly_text(n) for n in names], "customdata": [round(s, 5) for s in spreads],
        "hovertemplate": "%{text}, mean %{x:.3f} ± %{customdata:.3f}<extra></extra>",
    }  # fmt: skip


def folds_learning_figure(histories: Sequence[Sequence[Mapping[str, Any]]], chosen: Sequence[int]) -> Figure:
    """A colour for each fold: losses above (training, and dotted that of the fold), mean AUROC on the fold below.

    chosen: the epoch that each fold's scores are of, which is marked.
    """
    data = []
    for fold, (history, epoch) in enumerate(zip(histories, chosen, strict=True)):
        colour, dash = PALETTE[fold % len(PALETTE)], DASHES[fold // len(PALETTE) % len(DASHES)]
        group = {"legendgroup": str(fold)}
        data += [
            _line(history, "train_loss", f"fold {fold}", colour, dash, "y") | group,
            _line(history, "validation_loss", f"fold {fold}, its own films", colour, "dot", "y") | group | {"showlegend": False},
            _line(history, "mean_auroc", f"fold {fold}", colour, dash, "y2") | group | {"showlegend": False},
            _chosen(history, epoch, fold, colour) | group,
        ]  # fmt: skip
    epochs = [line["epoch"] for history in histories for line in history]
    layout = base_layout() | {
        "hovermode": "closest",
        "height": _LEARNING_PX,
        "margin": base_layout()["margin"] | {"t": _TOP_PX},
        "xaxis": axis("Epoch") | {"anchor": "y2", "range": [min(epochs) - 0.5, max(epochs) + 0.5]},
        "yaxis": axis("Loss") | {"domain": [0.55, 1]},
        "yaxis2": axis("Mean AUROC") | {"domain": [0, 0.45], "tickformat": ".2f", "minallowed": 0, "maxallowed": 1},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }  # fmt: skip
    if len(set(epochs)) <= _MAX_EPOCH_TICKS:
        layout["xaxis"]["dtick"] = 1
    return {"data": data, "layout": layout}


def _line(
    history: Sequence[Mapping[str, Any]], key: str, name: str, colour: str, dash: str, on: str
) -> dict[str, Any]:
    return {
        "x": [line["epoch"] for line in history], "y": [line[key] for line in history], "yaxis": on,
        "mode": "lines+markers", "name": name, "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"color": colour, "size": 5}, "hovertemplate": "%{fullData.name}: %{y:.4f}<extra></extra>",
    }  # fmt: skip


def _chosen(history: Sequence[Mapping[str, Any]], epoch: int, fold: int, colour: str) -> dict[str, Any]:
    at = [line for line in history if line["epoch"] == epoch]
    return {
        "x": [line["epoch"] for line in at], "y": [line["mean_auroc"] for line in at], "yaxis": "y2", "mode": "markers",
        "name": f"fold {fold}: epoch {epoch}, whose scores count", "showlegend": False,
        "marker": {"color": colour, "size": 13, "symbol": "diamond-open"},
        "hovertemplate": "%{fullData.name}: %{y:.4f}<extra></extra>",
    }  # fmt: skip
