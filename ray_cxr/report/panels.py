"""Small figures, one for each finding: curves with their bands, and reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ray_cxr.evaluate.bands import GRID, Band
from ray_cxr.report.blocks import Figure
from ray_cxr.report.figures import NEUTRAL, PALETTE, Curve, axis, base_layout, curve_trace

_HEIGHT_PX = 230
_POINTS = 150
_BAND_FILL = "rgba(52,120,209,0.22)"


def roc_panel(curve: Curve, band: Band, points: Sequence[tuple[str, float, float]]) -> Figure:
    """A ROC curve with its band. points: (name, 1 - specificity, sensitivity) of operating points."""
    guess = {
        "x": [0, 1], "y": [0, 1], "mode": "lines", "hoverinfo": "skip", "line": {"color": NEUTRAL, "width": 1, "dash": "dot"},
    }  # fmt: skip
    marks = {
        "x": [x for _, x, _ in points], "y": [y for _, _, y in points], "mode": "markers", "text": [n for n, _, _ in points],
        "hovertemplate": "%{text}<br>sensitivity %{y:.1%}<br>1 − specificity %{x:.1%}<extra></extra>",
        "marker": {"color": PALETTE[1], "size": 8, "symbol": ["circle", "square", "diamond"][: len(points)]},
    }  # fmt: skip
    hover = "sensitivity %{y:.1%}<br>1 − specificity %{x:.1%}<extra></extra>"
    data = [*_band(band, "linear"), guess, _line(curve, "linear", hover), *([marks] if points else [])]
    return {"data": data, "layout": _square("1 − specificity", "Sensitivity")}


def precision_recall_panel(curve: Curve, band: Band, prevalence: float) -> Figure:
    """A precision-recall curve with its band, over the precision of a classifier that guesses."""
    guess = {
        "x": [0, 1], "y": [prevalence] * 2, "mode": "lines", "hoverinfo": "skip",
        "line": {"color": NEUTRAL, "width": 1, "dash": "dot"},
    }  # fmt: skip
    hover = "precision %{y:.1%}<br>recall %{x:.1%}<extra></extra>"
    data = [*_band(band, "linear"), guess, _line(curve, "vh", hover)]
    return {"data": data, "layout": _square("Recall", "Precision")}


def reliability_panel(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of positive films over the mean score, by bins of equally many films, with intervals; the diagonal is right."""
    ends = [b["interval"] or (b["positive_share"],) * 2 for b in bins]
    top = min(1.0, 1.08 * max([0.01, *(b["mean_score"] for b in bins), *(e[1] for e in ends)]))
    curve = {
        "x": [round(b["mean_score"], 5) for b in bins], "y": [round(b["positive_share"], 5) for b in bins],
        "mode": "lines+markers", "line": {"color": PALETTE[0], "width": 1.5}, "marker": {"color": PALETTE[0], "size": 6},
        "error_y": {
            "type": "data", "symmetric": False, "color": PALETTE[0], "thickness": 1, "width": 2,
            "array": [round(e[1] - b["positive_share"], 5) for b, e in zip(bins, ends, strict=True)],
            "arrayminus": [round(b["positive_share"] - e[0], 5) for b, e in zip(bins, ends, strict=True)],
        },
        "text": [f"{b['films']:,}" for b in bins],
        "hovertemplate": "mean score %{x:.3f}<br>positive %{y:.1%}<br>%{text} films<extra></extra>",
    }  # fmt: skip
    right = {
        "x": [0, top], "y": [0, top], "mode": "lines", "hoverinfo": "skip", "line": {"color": NEUTRAL, "width": 1, "dash": "dot"},
    }  # fmt: skip
    return {"data": [right, curve], "layout": _square("Mean score", "Positive films", top)}


def _line(curve: Curve, shape: str, hover: str) -> dict[str, Any]:
    trace = curve_trace(curve, shape, hover, _POINTS)
    return trace | {"line": {"color": PALETTE[0], "width": 2, "shape": shape}}


def _band(band: Band, shape: str) -> list[dict[str, Any]]:
    """The lower end, and the upper end filled down to it; empty where the band has no point."""
    known = ~(np.isnan(band.low) | np.isnan(band.high))
    if known.sum() < 2:
        return []
    x = np.round(GRID[known], 3).tolist()
    edge = {
        "x": x,
        "mode": "lines",
        "hoverinfo": "skip",
        "line": {"width": 0, "color": PALETTE[0], "shape": shape},
    }
    low, high = (np.round(e[known], 4).tolist() for e in (band.low, band.high))
    return [edge | {"y": low}, edge | {"y": high, "fill": "tonexty", "fillcolor": _BAND_FILL}]


def _square(x_title: str, y_title: str, top: float = 1.0) -> dict[str, Any]:
    unit = {"range": [-0.02 * top, 1.02 * top], "nticks": 5, "constrain": "domain"}
    return base_layout() | {
        "height": _HEIGHT_PX,
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 46, "r": 6, "t": 6, "b": 40},
        "font": {"family": "system-ui, sans-serif", "size": 11, "color": "#2b3138"},
        "xaxis": axis(x_title) | unit | {"scaleanchor": "y"},
        "yaxis": axis(y_title) | unit,
    }
