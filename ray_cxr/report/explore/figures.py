"""The figures of the page, as plotly JSON. Colours of text and grid come from `report.css`, by colour scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_cxr.report.blocks import Figure
from ray_cxr.report.explore.counts import FindingCount
from ray_cxr.report.explore.pixels import FilmFacts
from ray_cxr.report.figures import NEUTRAL, PALETTE, axis, base_layout, plotly_text

POSITIVE, NEGATIVE = PALETTE[0], NEUTRAL
_BAR_PX = 26
_SMALL_PX = 340
_HISTOGRAM_BINS = 64
_LEGEND_ABOVE: dict[str, Any] = {
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    "showlegend": True,
    "margin": base_layout()["margin"] | {"t": 62},
}
"""Between the buttons, which stand at the top, and the figure: on a telephone they would cover each other."""


def count_figure(findings: Mapping[str, FindingCount]) -> Figure:
    """Positive films of each finding, the most frequent on top."""
    ranked = sorted(findings.items(), key=lambda item: item[1].positives)
    bars = _bars_along(ranked, [c.positives for _, c in ranked], "positive films", POSITIVE, "x") | {
        "text": [f"{c.positives:,}" for _, c in ranked],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{y}: %{x:,} films<extra></extra>",
    }
    most = max((c.positives for _, c in ranked), default=0)
    return {
        "data": [bars],
        "layout": _lying_bars(len(ranked)) | {
            "xaxis": axis("Films that show the finding") | {"range": [0, 1.15 * max(most, 1)], "nticks": 6},
        },
    }  # fmt: skip


def balance_figure(findings: Mapping[str, FindingCount]) -> Figure:
    """The share of positives and negatives among the labelled films, as they are and as the loss weighs them."""
    ranked = [i for i in sorted(findings.items(), key=lambda item: item[1].positives) if i[1].labelled]
    shares = [c.prevalence or 0.0 for _, c in ranked]
    # A positive weighs the share of negatives, and the other way round: both products are the same.
    weighed = [share * (1 - share) for share in shares]
    data = [
        _bars_along(ranked, shares, "positive", POSITIVE, "x"),
        _bars_along(ranked, [1 - s for s in shares], "negative", NEGATIVE, "x"),
        _bars_along(ranked, weighed, "positive", POSITIVE, "x2") | {"showlegend": False},
        _bars_along(ranked, weighed, "negative", NEGATIVE, "x2") | {"showlegend": False},
    ]
    layout = _lying_bars(len(ranked)) | {
        "barmode": "stack",
        **_LEGEND_ABOVE,
        "xaxis": axis("as they are") | {"domain": [0, 0.45], "tickformat": ".0%", "nticks": 3},
        "xaxis2": axis("weighed") | {"domain": [0.55, 1], "tickformat": ".0%", "nticks": 3},
    }
    return {"data": data, "layout": layout}


def column_figure(counts: Mapping[str, int], what: str, of_what: str, colour: str = POSITIVE) -> Figure:
    """Upright bars: one count per name."""
    bars = {
        "type": "bar", "x": list(counts), "y": list(counts.values()), "marker": {"color": colour},
        "text": [f"{n:,}" for n in counts.values()], "textposition": "outside", "cliponaxis": False,
        "textangle": 0, "hovertemplate": "%{x}: %{y:,}<extra></extra>",
    }  # fmt: skip
    layout = base_layout() | {
        "height": _SMALL_PX,
        "xaxis": axis(what) | {"type": "category", "tickangle": 0},
        "yaxis": axis(of_what) | {"range": [0, 1.12 * max([*counts.values(), 1])], "nticks": 6},
    }
    return {"data": [bars], "layout": layout}


def age_figure(histogram: Mapping[str, Mapping[str, int]]) -> Figure:
    """Films by decade of age, stacked by sex."""
    data = [
        {
            "type": "bar", "name": plotly_text(sex), "x": list(films), "y": list(films.values()),
            "marker": {"color": PALETTE[i % len(PALETTE)]}, "hovertemplate": "%{fullData.name}, %{x}: %{y:,} films<extra></extra>",
        }
        for i, (sex, films) in enumerate(histogram.items())
    ]  # fmt: skip
    layout = base_layout() | {
        "height": _SMALL_PX, "barmode": "stack", **_LEGEND_ABOVE,
        "xaxis": axis("Age in years") | {"type": "category"}, "yaxis": axis("Films") | {"nticks": 6},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def gray_figure(histogram: NDArray[np.int64], channels: Sequence[tuple[float, float]], after: str) -> Figure:
    """Gray values before (0..255) and after normalisation; channels: mean and std (0..1) that it takes off and divides by."""
    share = histogram.reshape(_HISTOGRAM_BINS, -1).sum(1) / max(int(histogram.sum()), 1)
    centres = (np.arange(_HISTOGRAM_BINS) + 0.5) * 256 / _HISTOGRAM_BINS - 0.5
    data = [_area(centres, share, "stored", PALETTE[0], "y")]
    different = list(dict.fromkeys(channels))
    for number, (mean, std) in enumerate(different):
        name = after if len(different) == 1 else f"{after}, channel {number + 1}"
        data.append(
            _area((centres / 255 - mean) / std, share, name, PALETTE[number + 1], "y2") | {"xaxis": "x2"}
        )
    layout = base_layout() | {
        "height": 460,
        **_LEGEND_ABOVE,
        "xaxis": axis("Gray value as stored") | {"range": [-1, 256], "anchor": "y"},
        "yaxis": axis("Pixels") | {"domain": [0.62, 1], "tickformat": ".0%", "nticks": 5},
        "xaxis2": axis("Value that reaches the network") | {"anchor": "y2"},
        "yaxis2": axis("Pixels") | {"domain": [0, 0.38], "tickformat": ".0%", "nticks": 5},
    }
    return {"data": data, "layout": layout}


def film_figure(histogram: NDArray[np.int64]) -> Figure:
    """Gray values of one film, with its mean."""
    share = histogram.reshape(_HISTOGRAM_BINS, -1).sum(1) / histogram.sum()
    centres = (np.arange(_HISTOGRAM_BINS) + 0.5) * 256 / _HISTOGRAM_BINS - 0.5
    mean = float(np.average(np.arange(256), weights=histogram))
    line = {"type": "line", "x0": mean, "x1": mean, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": PALETTE[1], "width": 1.5, "dash": "dot"}}  # fmt: skip
    layout = base_layout() | {
        "height": _SMALL_PX,
        "shapes": [line],
        "xaxis": axis("Gray value (dotted: mean)") | {"range": [-1, 256]},
        "yaxis": axis("Pixels") | {"tickformat": ".0%", "nticks": 6},
    }
    return {"data": [_area(centres, share, "this film", PALETTE[0], "y")], "layout": layout}


def brightness_figure(films: Sequence[FilmFacts], groups: Sequence[str]) -> Figure:
    """Each film by the mean and spread of its gray values, coloured by group (the view)."""
    data = []
    for number, group in enumerate(sorted(set(groups))):
        some = [f for f, g in zip(films, groups, strict=True) if g == group]
        data.append({
            "type": "scatter", "mode": "markers", "name": plotly_text(group),
            "x": [round(f.mean, 1) for f in some], "y": [round(f.std, 1) for f in some],
            "customdata": [f.row for f in some],
            "marker": {"color": PALETTE[number % len(PALETTE)], "size": 6, "opacity": 0.6},
            "hovertemplate": "film %{customdata}<br>mean %{x}, spread %{y}<extra>%{fullData.name}</extra>",
        })  # fmt: skip
    layout = base_layout() | {
        "height": 400,
        "hovermode": "closest",
        **_LEGEND_ABOVE,
        "xaxis": axis("Mean gray value of the film") | {"range": [0, 255]},
        "yaxis": axis("Standard deviation") | {"rangemode": "tozero"},
    }
    return {"data": data, "layout": layout}


def _area(
    x: NDArray[np.float64], y: NDArray[np.float64], name: str, colour: str, y_axis: str
) -> dict[str, Any]:
    return {
        "x": np.round(x, 4).tolist(), "y": np.round(y, 6).tolist(), "yaxis": y_axis, "mode": "lines", "name": name,
        "line": {"color": colour, "width": 1.5, "shape": "hvh"}, "fill": "tozeroy",
        "hovertemplate": "%{x:.2f}: %{y:.2%} of the pixels<extra></extra>",
    }  # fmt: skip


def _bars_along(
    ranked: Sequence[tuple[str, FindingCount]], values: Sequence[float], name: str, colour: str, x_axis: str
) -> dict[str, Any]:
    return {
        "type": "bar", "orientation": "h", "y": [plotly_text(f) for f, _ in ranked], "x": list(values), "xaxis": x_axis,
        "name": name, "marker": {"color": colour}, "hovertemplate": "%{y}, %{fullData.name}: %{x:.1%}<extra></extra>",
    }  # fmt: skip


def _lying_bars(bars: int) -> dict[str, Any]:
    return base_layout() | {
        "height": 130 + _BAR_PX * max(bars, 3),
        "yaxis": axis("") | {"type": "category", "ticksuffix": " "},
    }
