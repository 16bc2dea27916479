"""Curves of the test split and of the training, and their plotly figures as JSON.

Colours are set for a transparent background; grid and text take theirs from `report.css`, by colour scheme.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from ray_cxr.axes import Labels, Scores
from ray_cxr.report.blocks import Figure

Points = NDArray[np.float64]

PALETTE = ("#3478d1", "#c9620a", "#2b8a4b", "#d1435b", "#8f5cd6", "#12869a", "#b9479c")
"""Line colours, each with a contrast of at least 3 to both page backgrounds (WCAG 2.2, 1.4.11)."""
DASHES = ("solid", "dash", "dot", "dashdot")
"""When the colours are used up, the next dash begins: 28 findings can be told apart."""
NEUTRAL = "#7d8690"
CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtons": [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "typesetMath": False,
}
"""The buttons are listed one by one, because plotly.js 4 adds one that sends the figure to plotly's cloud."""
SMALL_CONFIG = CONFIG | {"displayModeBar": False}
"""Of small figures, which the buttons would cover."""

_MAX_POINTS = 400
_MAX_NAME = 26
_MAX_EPOCH_TICKS = 20
_HEIGHT_PX = 480
_LEARNING_PX = 640
_LEGEND_LINE_PX = 19


@dataclass(frozen=True)
class Curve:
    """A curve of one finding: x ascending, y, both 0..1; `value` is its area (AUROC or average precision).

    ROC: x = 1 - specificity, y = sensitivity. Precision-recall: x = recall, y = precision.
    """

    finding: str
    colour: str
    dash: str
    value: float
    x: Points
    y: Points


def roc_curves(
    findings: Sequence[str], labels: Labels, scores: Scores, aurocs: Mapping[str, float]
) -> list[Curve]:
    """ROC curves of the findings in `aurocs`, every threshold kept."""
    curves = []
    for index, finding in enumerate(findings):
        if finding in aurocs:
            known = ~np.isnan(labels[:, index])
            x, y, _ = roc_curve(labels[known, index], scores[known, index], drop_intermediate=False)
            curves.append(Curve(finding, *_line_style(index), aurocs[finding], x, y))
    return curves


def precision_recall_curves(
    findings: Sequence[str], labels: Labels, scores: Scores, precisions: Mapping[str, float]
) -> list[Curve]:
    """Precision-recall curves of the findings in `precisions`: the steps that average precision sums up."""
    curves = []
    for index, finding in enumerate(findings):
        if finding in precisions:
            known = ~np.isnan(labels[:, index])
            y, x, _ = precision_recall_curve(labels[known, index], scores[known, index])
            x, y = x[::-1], y[::-1].copy()
            y[0] = y[1]  # scikit-learn ends at precision 1, which no threshold gives
            curves.append(Curve(finding, *_line_style(index), precisions[finding], x, y))
    return curves


def sensitivity_at(curve: Curve, specificity: float) -> float:
    """The best sensitivity (0..1) that a threshold gives at no less than this specificity (0..1)."""
    return float(curve.y[curve.x <= 1 - specificity + 1e-9].max())


def precision_at(curve: Curve, recall: float) -> float:
    """The best precision (0..1) that a threshold gives at no less than this recall (0..1)."""
    return float(curve.y[curve.x >= recall - 1e-9].max())


def roc_figure(curves: Sequence[Curve]) -> Figure:
    """The curves, best AUROC first in the legend, over the diagonal of a classifier that guesses."""
    guess = {
        "x": [0, 1], "y": [0, 1], "mode": "lines", "name": "guessing 0.500", "hoverinfo": "skip",
        "line": {"color": NEUTRAL, "width": 1.5, "dash": "dot"},
    }  # fmt: skip
    hover = "%{fullData.name}<br>sensitivity %{y:.1%}<br>1 − specificity %{x:.1%}<extra></extra>"
    lines = [curve_trace(curve, "linear", hover) for curve in _by_value(curves)]
    return {
        "data": [*lines, guess],
        "layout": unit_square("1 − specificity", "Sensitivity", "AUROC", len(lines) + 1),
    }


def precision_recall_figure(curves: Sequence[Curve]) -> Figure:
    """The curves as steps, best average precision first in the legend."""
    hover = "%{fullData.name}<br>precision %{y:.1%}<br>recall %{x:.1%}<extra></extra>"
    lines = [curve_trace(curve, "vh", hover) for curve in _by_value(curves)]
    return {
        "data": lines,
        "layout": unit_square("Recall (sensitivity)", "Precision", "Average precision", len(lines)),
    }


def learning_figure(history: Sequence[Mapping[str, Any]], chosen_epoch: int) -> Figure:
    """Losses, validation mean AUROC and learning rate by epoch, below each other; the tested weights' epoch is marked."""
    epochs = [line["epoch"] for line in history]
    chosen = [line for line in history if line["epoch"] == chosen_epoch]
    data = [
        _epoch_line(history, "train_loss", "training loss", PALETTE[0], "y"),
        _epoch_line(history, "validation_loss", "validation loss", PALETTE[1], "y"),
        _epoch_line(history, "mean_auroc", "validation mean AUROC", PALETTE[2], "y2"),
        _epoch_line(chosen, "mean_auroc", f"chosen: epoch {chosen_epoch}", PALETTE[2], "y2")
        | {"mode": "markers", "marker": {"color": PALETTE[2], "size": 13, "symbol": "diamond-open"}},
        _epoch_line(history, "learning_rate", "learning rate", PALETTE[4], "y3")
        | {"hovertemplate": "%{y:.3g}"},
    ]
    layout = base_layout() | {
        "hovermode": "x unified",
        "height": _LEARNING_PX,
        "xaxis": _epoch_axis(epochs, "y3"),
        "yaxis": axis("Loss") | {"domain": [0.64, 1]},
        "yaxis2": axis("Mean AUROC") | {"domain": [0.24, 0.58], "tickformat": ".2f", "minallowed": 0, "maxallowed": 1},
        "yaxis3": axis("Rate") | {"domain": [0, 0.18], "tickformat": ".1g", "nticks": 4, "rangemode": "tozero"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "shapes": [_chosen_line(chosen_epoch)],
    }  # fmt: skip
    return {"data": data, "layout": layout}


def finding_learning_figure(
    history: Sequence[Mapping[str, Any]], findings: Sequence[str], chosen_epoch: int
) -> Figure:
    """Validation AUROC of each finding by epoch; a gap where it could not be measured."""
    epochs = [line["epoch"] for line in history]
    data = []
    for index, finding in enumerate(findings):
        colour, dash = _line_style(index)
        by_epoch = [{"epoch": line["epoch"], "auroc": line["auroc"].get(finding)} for line in history]
        trace = _epoch_line(by_epoch, "auroc", plotly_text(finding), colour, "y")
        data.append(trace | {"line": {"color": colour, "width": 2, "dash": dash}})
    layout = base_layout() | {
        "hovermode": "closest",
        "height": max(_HEIGHT_PX, 150 + _LEGEND_LINE_PX * len(findings)),
        "xaxis": _epoch_axis(epochs, "y"),
        "yaxis": axis("Validation AUROC") | {"tickformat": ".2f", "minallowed": 0, "maxallowed": 1},
        "showlegend": True,
        "legend": {"title": {"text": "Finding"}, "font": {"size": 12}, "x": 1.02, "y": 1, "tracegroupgap": 0},
        "shapes": [_chosen_line(chosen_epoch)],
    }
    return {"data": data, "layout": layout}


def _epoch_axis(epochs: Sequence[int], anchor: str) -> dict[str, Any]:
    made = axis("Epoch") | {"anchor": anchor, "range": [min(epochs) - 0.5, max(epochs) + 0.5]}
    return made | {"dtick": 1} if len(epochs) <= _MAX_EPOCH_TICKS else made


def _chosen_line(epoch: int) -> dict[str, Any]:
    line = {"color": NEUTRAL, "width": 1.5, "dash": "dot"}
    return {"type": "line", "x0": epoch, "x1": epoch, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def plotly_text(text: str, longest: int = _MAX_NAME) -> str:
    """A text for a figure, shortened. Plotly reads a little HTML in names; escaped, all of it is shown as it is."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return html.escape(short, quote=False)


def _line_style(index: int) -> tuple[str, str]:
    return PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)]


def _by_value(curves: Sequence[Curve]) -> list[Curve]:
    return sorted(curves, key=lambda curve: -curve.value)


def curve_trace(curve: Curve, shape: str, hover: str, points: int = _MAX_POINTS) -> dict[str, Any]:
    """A curve as a line of at most so many points, named by its finding and value."""
    x, y = _thin(curve.x, curve.y, points)
    return {
        "x": x, "y": y, "mode": "lines", "name": f"{plotly_text(curve.finding)} {curve.value:.3f}",
        "line": {"color": curve.colour, "dash": curve.dash, "width": 2, "shape": shape}, "hovertemplate": hover,
    }  # fmt: skip


def _thin(x: Points, y: Points, points: int) -> tuple[list[float], list[float]]:
    """At most so many points, evenly along the line with both ends: more only make the file heavy."""
    if len(x) > points:
        along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points - 1)))
        kept = np.append(kept[kept < len(x) - 1], len(x) - 1)
        x, y = x[kept], y[kept]
    return np.round(x, 5).tolist(), np.round(y, 5).tolist()


def _epoch_line(
    history: Sequence[Mapping[str, Any]], key: str, name: str, colour: str, axis: str
) -> dict[str, Any]:
    return {
        "x": [line["epoch"] for line in history], "y": [line[key] for line in history], "yaxis": axis,
        "mode": "lines+markers", "name": name, "hovertemplate": "%{y:.4f}",
        "line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 6},
    }  # fmt: skip


def unit_square(x_title: str, y_title: str, legend_title: str, lines: int) -> dict[str, Any]:
    """Both axes 0..1 at equal aspect, high enough for all lines of the legend: on paper nobody can scroll it."""
    unit = {"range": [-0.01, 1.01], "dtick": 0.2, "tickformat": ".1f", "constrain": "domain"}
    return base_layout() | {
        "hovermode": "closest",
        "height": max(_HEIGHT_PX, 150 + _LEGEND_LINE_PX * lines),
        "xaxis": axis(x_title) | unit | {"scaleanchor": "y", "constraintoward": "left"},
        "yaxis": axis(y_title) | unit | {"constraintoward": "top"},
        "showlegend": True,
        "legend": {
            "title": {"text": legend_title},
            "font": {"size": 12},
            "x": 1.02,
            "y": 1,
            "tracegroupgap": 0,
        },
    }


def base_layout() -> dict[str, Any]:
    """What all figures share: no ground of their own, the page's font, narrow margins."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#2b3138"},
        "margin": {"l": 58, "r": 8, "t": 34, "b": 56},
        "modebar": {"bgcolor": "rgba(0,0,0,0)"},
    }


def axis(title: str) -> dict[str, Any]:
    """An axis with its title, which makes room for its labels."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": "#d5dae0",
        "zeroline": False,
        "automargin": True,
    }
