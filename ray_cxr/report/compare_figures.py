"""Figures of a comparison: the models' ROC curves over each other, and their differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray_cxr.evaluate.compare_result import Comparison, Pair
from ray_cxr.report.blocks import Figure
from ray_cxr.report.figures import (
    DASHES,
    NEUTRAL,
    PALETTE,
    axis,
    base_layout,
    curve_trace,
    plotly_text,
    roc_curves,
    unit_square,
)

SIGNIFICANT = 0.05
_POINTS = 200
_ROW_PX, _HEIGHT_PX = 26, 480


def overlay_figure(comparison: Comparison, finding: str) -> Figure:
    """The ROC curve of each model, best AUROC first in the legend: on the films of all, or on its own where there are none."""
    hover = "%{fullData.name}<br>sensitivity %{y:.1%}<br>1 − specificity %{x:.1%}<extra></extra>"
    drawn: list[tuple[float, dict[str, Any]]] = []
    shown = zip(comparison.names, comparison.shown_films, comparison.shown_levels, strict=True)
    for number, (name, scored, levels) in enumerate(shown):
        value = levels.auroc[finding].value
        if value is not None:
            truth, score = scored.column(finding)
            curve = roc_curves([finding], truth[:, None], score[:, None], {finding: value})[0]
            line = {
                "color": PALETTE[number % len(PALETTE)],
                "dash": DASHES[number // len(PALETTE) % len(DASHES)],
                "width": 2,
            }
            trace = curve_trace(curve, "linear", hover, _POINTS)
            drawn.append((value, trace | {"name": f"{plotly_text(name)} {value:.3f}", "line": line}))
    guess = {
        "x": [0, 1], "y": [0, 1], "mode": "lines", "name": "guessing 0.500", "hoverinfo": "skip",
        "line": {"color": NEUTRAL, "width": 1.5, "dash": "dot"},
    }  # fmt: skip
    lines = [trace for _, trace in sorted(drawn, key=lambda pair: -pair[0])]
    layout = unit_square("1 − specificity", "Sensitivity", "AUROC", len(lines) + 1)
    title = {
        "text": plotly_text(finding),
        "x": 0,
        "xref": "container",
        "y": 0.985,
        "yanchor": "top",
        "font": {"size": 15},
    }
    return {"data": [*lines, guess], "layout": layout | {"title": title}}


def forest_figure(pairs: Sequence[Pair], mean: str) -> Figure:
    """A row for each finding, the mean last: the difference of the AUROCs with its 95 % interval, and the line of no difference."""
    rows = [p for p in pairs if p.auroc.value is not None]
    names = [plotly_text(p.finding or mean) for p in rows]
    data = []
    for (name, colour, symbol), belongs in _KINDS.items():
        chosen = [n for n, p in enumerate(rows) if belongs(p)]
        if chosen:
            data.append(_forest_points([rows[n] for n in chosen], chosen, name, colour, symbol))
    layout = base_layout() | {
        "height": max(_HEIGHT_PX, 130 + _ROW_PX * len(rows)),
        "hovermode": "closest",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": axis("Difference of AUROC") | {"tickformat": "+.2f"},
        "yaxis": axis("")
        | {"tickvals": list(range(len(rows))), "ticktext": names, "range": [len(rows) - 0.5, -0.5], "showgrid": False},
        "shapes": [
            {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper",
             "line": {"color": NEUTRAL, "width": 1.5, "dash": "dot"}}
        ],
    }  # fmt: skip
    return {"data": data, "layout": layout}


_KINDS: Mapping[tuple[str, str, str], Callable[[Pair], bool]] = {
    ("p < 0.05 after Holm", PALETTE[0], "square"): lambda p: p.p_holm is not None and p.p_holm < SIGNIFICANT,
    ("not shown to differ", NEUTRAL, "square-open"): lambda p: (
        p.p_holm is not None and p.p_holm >= SIGNIFICANT
    ),
    ("not tested", NEUTRAL, "x-thin-open"): lambda p: p.p_holm is None,
}
"""(name in the legend, colour, symbol) → which rows of the forest plot are of the kind."""


def _forest_points(
    rows: Sequence[Pair], places: Sequence[int], name: str, colour: str, symbol: str
) -> dict[str, Any]:
    values = [p.auroc.value or 0.0 for p in rows]
    ends = [p.auroc.interval or (v, v) for p, v in zip(rows, values, strict=True)]
    return {
        "x": [round(v, 5) for v in values], "y": list(places), "mode": "markers", "name": name,
        "marker": {"color": colour, "size": 9, "symbol": symbol},
        "error_x": {
            "type": "data", "symmetric": False, "color": colour, "thickness": 1.5, "width": 4,
            "array": [round(high - v, 5) for (_, high), v in zip(ends, values, strict=True)],
            "arrayminus": [round(v - low, 5) for (low, _), v in zip(ends, values, strict=True)],
        },
        "hovertemplate": "%{y}: %{x:+.3f}<extra></extra>",
    }  # fmt: skip
