"""The figures of a study's page, as plotly JSON. Colours of text and grid come from `report.css`, by colour scheme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ray_cxr.report.blocks import Figure
from ray_cxr.report.figures import NEUTRAL, PALETTE, axis, base_layout, plotly_text
from ray_cxr.report.tune.study import Study, Trial, short_names, value_text

_ABOVE: dict[str, Any] = {
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
    "showlegend": True,
    "margin": base_layout()["margin"] | {"t": 62},
}
_HEIGHT_PX, _BAR_PX, _SLICE_PX, _ROW_PX = 480, 28, 250, 62
_TWO_LINES_PX = 84
"""Above a figure whose legend takes two lines on a telephone: the buttons stand over it."""
_MAX_EPOCH_TICKS = 20
_SPREAD = 0.16
"""How far points of one value stand apart, so that they can be told from one another; a step between values is 1."""


_WORDS = {
    "mean_auroc": "validation mean AUROC", "worst_average_precision": "worst finding's average precision",
    "macs": "MACs (multiply-adds a film)", "parameters": "parameters",
}  # fmt: skip


def objective_words(name: str) -> str:
    """An objective within a sentence."""
    return _WORDS.get(name, name.replace("_", " "))


def objective_title(name: str) -> str:
    """An objective as an axis or a column has it."""
    words = objective_words(name)
    return words[:1].upper() + words[1:]


def curves_figure(study: Study) -> Figure:
    """The score of every trial by epoch, a colour per backbone; a cross where a trial was stopped, a ring round what was chosen."""
    shown = [t for t in study.trials if t.curve]
    data = []
    for name, colour in backbone_colours(study).items():
        own = [t for t in shown if study.backbone_of(t) == name]
        if own:
            data.append(_lines(study, own, name, colour))
    stopped = [t for t in shown if t.state == "pruned"]
    if stopped:
        data.append(_ends(stopped, "stopped", {"color": NEUTRAL, "size": 8, "symbol": "x"}))
    failed = [t for t in shown if t.state == "failed"]
    if failed:
        data.append(_ends(failed, "failed", {"color": PALETTE[3], "size": 9, "symbol": "triangle-up"}))
    winner = study.winner
    if winner is not None and winner.curve:
        ring = {"color": PALETTE[1], "size": 15, "symbol": "circle-open", "line": {"width": 3}}
        data.append(_points_of([(winner, kept_point(winner))], f"chosen: trial {winner.number}", ring))
    epochs = max((epoch for t in shown for epoch, _ in t.curve), default=1)
    layout = base_layout() | _ABOVE | {
        "height": _HEIGHT_PX, "hovermode": "closest",
        "xaxis": axis("Epoch") | {"range": [0.7, epochs + 0.4]}, "yaxis": axis(objective_title("mean_auroc")) | {"tickformat": ".2f"},
    }  # fmt: skip
    if epochs <= _MAX_EPOCH_TICKS:
        layout["xaxis"]["dtick"] = 1
    return {"data": data, "layout": layout}


def backbone_colours(study: Study) -> dict[str, str]:
    """A colour for each backbone that was tried, in the order of its best trial."""
    names = list(dict.fromkeys(study.backbone_of(t) for t in study.ranked))
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def _lines(study: Study, trials: Sequence[Trial], name: str, colour: str) -> dict[str, Any]:
    """Several curves as one trace, with a gap between two of them: the legend has one line per backbone."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for trial in trials:
        x += [epoch for epoch, _ in trial.curve] + [None]
        y += [round(score, 4) for _, score in trial.curve] + [None]
        text += [plotly_text(f"trial {trial.number}", 40)] * len(trial.curve) + [""]
    return {
        "x": x, "y": y, "text": text, "mode": "lines+markers", "name": plotly_text(name), "opacity": 0.75,
        "line": {"color": colour, "width": 1.6}, "marker": {"color": colour, "size": 4}, "connectgaps": False,
        "hovertemplate": "%{text}, epoch %{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def kept_point(trial: Trial) -> tuple[int, float]:
    """The epoch whose model was kept, and its score: the one that the trial's score is of, the last where none is."""
    score = trial.value("mean_auroc")
    return next(
        (p for p in trial.curve if score is not None and math.isclose(p[1], score, abs_tol=1e-9)),
        trial.curve[-1],
    )


def _ends(trials: Sequence[Trial], name: str, marker: dict[str, Any]) -> dict[str, Any]:
    return _points_of([(t, t.curve[-1]) for t in trials], name, marker)


def _points_of(
    points: Sequence[tuple[Trial, tuple[int, float]]], name: str, marker: dict[str, Any]
) -> dict[str, Any]:
    return {
        "x": [epoch for _, (epoch, _) in points], "y": [round(score, 4) for _, (_, score) in points], "mode": "markers",
        "name": name, "text": [f"trial {t.number}" for t, _ in points], "marker": marker,
        "hovertemplate": "%{text}, epoch %{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def importance_figure(shares: Mapping[str, float]) -> Figure:
    """Shares as bars, the largest on top."""
    names = short_names(list(shares))
    ranked = list(shares.items())[::-1]
    bars = {
        "type": "bar", "orientation": "h", "y": [plotly_text(names[n]) for n, _ in ranked], "x": [round(s, 4) for _, s in ranked],
        "marker": {"color": PALETTE[0]}, "text": [f"{s:.0%}" for _, s in ranked], "textposition": "outside", "cliponaxis": False,
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }  # fmt: skip
    layout = base_layout() | {
        "height": 110 + _BAR_PX * max(len(ranked), 3),
        "xaxis": axis("Share of what mattered")
        | {"range": [0, 1.15 * max(shares.values())], "tickformat": ".0%", "nticks": 6},
        "yaxis": axis("") | {"type": "category", "ticksuffix": " "},
    }
    return {"data": [bars], "layout": layout}


def slice_figure(study: Study, setting: str) -> Figure:
    """Score over the value of one setting: filled = finished, hollow = stopped, with its last score."""
    objective = study.first
    trials = [t for t in study.trials if setting in t.parameters and t.value(objective) is not None]
    scale = Scale.of(study, setting)
    data = [
        _dots(study, [t for t in trials if t.state == "complete"], setting, scale, "finished", "circle"),
        _dots(
            study,
            [t for t in trials if t.state == "pruned"],
            setting,
            scale,
            "stopped: its last score",
            "circle-open",
        ),
    ]
    layout = base_layout() | {
        "height": _SLICE_PX, "hovermode": "closest", "showlegend": False,
        "margin": {"l": 46, "r": 8, "t": 6, "b": 30},
        "font": {"family": "system-ui, sans-serif", "size": 11, "color": "#2b3138"},
        "xaxis": axis("") | scale.axis(), "yaxis": axis("") | {"nticks": 5},
    }  # fmt: skip
    return {"data": [d for d in data if d["x"]], "layout": layout}


def _dots(
    study: Study, trials: Sequence[Trial], setting: str, scale: Scale, name: str, symbol: str
) -> dict[str, Any]:
    colours = backbone_colours(study)
    own = [colours[study.backbone_of(t)] for t in trials]
    values = [t.value(study.first) or 0.0 for t in trials]
    return {
        "x": [scale.at(t.parameters[setting], t.number) for t in trials], "y": [round(v, 4) for v in values], "mode": "markers",
        "name": name, "marker": {"color": own, "size": 8, "symbol": symbol, "line": {"width": 1.6, "color": own}},
        "text": [plotly_text(_spoken(study, t), 400) for t in trials],
        "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _spoken(study: Study, trial: Trial) -> str:
    value = trial.value(study.first)
    score = "no score" if value is None else f"{value:.3f}"
    return f"trial {trial.number}, {study.backbone_of(trial)}: {score} after {trial.epochs} of {trial.epochs_planned} epochs"


class Scale:
    """Where a setting's values lie on an axis: numbers as they are or by their logarithm, all else in steps of 1."""

    def __init__(self, values: Sequence[Any], given: Mapping[str, Any]) -> None:
        self.steps: list[str] = []
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        self.continuous = "low" in given and len(numbers) == len(values)
        self.log = self.continuous and bool(given.get("log"))
        if self.continuous:
            self.low, self.high = min([given["low"], *numbers]), max([given["high"], *numbers])
        else:
            self.steps = list(dict.fromkeys(map(value_text, sorted(values, key=_order))))
            self.low, self.high = 0, max(len(self.steps) - 1, 1)

    @classmethod
    def of(cls, study: Study, setting: str) -> Scale:
        """The scale of all values that trials had."""
        values = [t.parameters[setting] for t in study.trials if setting in t.parameters]
        return cls(values, study.bounds.get(setting, {}))

    def at(self, value: Any, number: int) -> float:
        """The place of a value; trials that share a step stand beside each other, each always at the same place."""
        if self.continuous:
            return float(f"{value:.6g}")
        return round(self.steps.index(value_text(value)) + _SPREAD * math.sin(2.4 * number), 3)

    def share(self, value: Any) -> float:
        """The place of a value between the lowest (0) and the highest (1)."""
        if not self.continuous:
            return self.steps.index(value_text(value)) / self.high if len(self.steps) > 1 else 0.5
        low, high, here = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (here - low) / (high - low) if high > low else 0.5

    def axis(self) -> dict[str, Any]:
        """Settings of a plotly axis."""
        if self.continuous:
            return {"type": "log", "dtick": 1, "exponentformat": "power"} if self.log else {"nticks": 5}
        # Longer or flatter ones would reach past the figure on the left, and are then left out.
        ticks = [plotly_text(s, 18) for s in self.steps]
        return {
            "tickvals": list(range(len(ticks))), "ticktext": ticks, "range": [-0.5, len(ticks) - 0.5],
            "tickangle": -55 if sum(map(len, ticks)) > 22 else 0,
        }  # fmt: skip


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers first, by size; then words."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, value_text(value)


def parallel_figure(study: Study) -> Figure:
    """A line across for each setting and, below, the score; a trial is a line down through its values.

    Plotly's own kind of this figure compiles shaders from text, which the page's policy forbids; and its axes, standing
    side by side, need a wide screen.
    """
    trials = [
        t for t in study.trials if t.state in ("complete", "pruned") and t.value(study.first) is not None
    ]
    scales = {name: Scale.of(study, name) for name in study.settings}
    good = {t.number for t in best_quarter(study, trials)}
    winner = study.winner
    others = [t for t in trials if t.number not in good]
    best = [t for t in trials if t.number in good and t is not winner]
    data = [
        _threads(study, others, scales, "other trials", {"color": NEUTRAL, "width": 1}, 0.45),
        _threads(study, best, scales, "best quarter", {"color": PALETTE[0], "width": 1.8}, 0.9),
        _threads(
            study, [winner] if winner else [], scales, "chosen", {"color": PALETTE[1], "width": 3.5}, 1.0
        ),
    ]
    rows = len(scales) + 1
    layout = base_layout() | _ABOVE | {
        "height": 100 + _ROW_PX * rows, "hovermode": "closest", "margin": {"l": 8, "r": 8, "t": _TWO_LINES_PX, "b": 10},
        "xaxis": axis("") | {"range": [-0.06, 1.06], "showticklabels": False, "showgrid": False},
        "yaxis": axis("") | _row_axis(rows), "annotations": _row_notes(study, scales),
    }  # fmt: skip
    return {"data": [d for d in data if d["x"]], "layout": layout}


def best_quarter(study: Study, trials: Sequence[Trial]) -> list[Trial]:
    """The first quarter of the leaderboard, at least one trial."""
    numbers = {t.number for t in trials}
    ranked = [t for t in study.ranked if t.number in numbers]
    return ranked[: max(1, math.ceil(len(ranked) / 4))]


def _threads(
    study: Study,
    trials: Sequence[Trial],
    scales: Mapping[str, Scale],
    name: str,
    line: dict[str, Any],
    opacity: float,
) -> dict[str, Any]:
    low, high = _score_range(study)
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for trial in trials:
        for row, (setting, scale) in enumerate(scales.items()):
            if setting in trial.parameters:  # a setting that does not apply is passed over
                x.append(round(scale.share(trial.parameters[setting]), 4))
                y.append(len(scales) - row)
        value = trial.value(study.first) or 0.0
        x += [round((value - low) / (high - low) if high > low else 0.5, 4), None]
        y += [0, None]
        text += [plotly_text(_spoken(study, trial), 400)] * (len(x) - 1 - len(text)) + [""]
    return {
        "x": x, "y": y, "text": text, "mode": "lines", "name": name, "line": line, "opacity": opacity, "connectgaps": False,
        "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _score_range(study: Study) -> tuple[float, float]:
    values = [v for t in study.of_state("complete", "pruned") if (v := t.value(study.first)) is not None]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _row_axis(rows: int) -> dict[str, Any]:
    ticks = list(range(rows))
    return {"tickvals": ticks, "showticklabels": False, "range": [-0.5, rows - 0.4], "gridcolor": NEUTRAL}


def _row_notes(study: Study, scales: Mapping[str, Scale]) -> list[dict[str, Any]]:
    """Above each line its setting's name, below it the values: on a telephone there is no room beside it."""
    names = short_names(list(scales))
    low, high = _score_range(study)
    rows = [(names[n], [(s.share(v), t) for v, t in _ticks(s)]) for n, s in scales.items()]
    rows.append((objective_words(study.first), [(0.0, f"{low:.3f}"), (1.0, f"{high:.3f}")]))
    notes = []
    for row, (name, ticks) in enumerate(rows):
        y = len(scales) - row
        notes += [_note(x, y, text, -11, 14) for x, text in ticks]
        notes.append(_note(0, y, f"<b>{plotly_text(name, 40)}</b>", 11))
    return notes


def _ticks(scale: Scale) -> list[tuple[Any, str]]:
    if scale.continuous:
        return [(scale.low, value_text(scale.low)), (scale.high, value_text(scale.high))]
    return [(step, step) for step in scale.steps]


def _note(x: float, y: float, text: str, shift_px: int, longest: int | None = None) -> dict[str, Any]:
    """A text on the page's own ground (`report.css`), so that the lines behind it do not cross it."""
    return {
        "x": x, "y": y, "text": text if longest is None else plotly_text(text, longest), "showarrow": False, "yshift": shift_px,
        "font": {"size": 11}, "xanchor": "left" if x < 0.02 else "right" if x > 0.98 else "center", "bgcolor": "rgba(255,255,255,0.85)",
        "borderpad": 1,
    }  # fmt: skip


def pareto_figure(study: Study, other: str) -> Figure:
    """Finished trials by the first objective and another one; of two goals, the front's trials are joined."""
    trials = [
        t
        for t in study.of_state("complete")
        if t.value(other) is not None and t.value(study.first) is not None
    ]
    front = sorted((t for t in trials if t.pareto), key=lambda t: t.value(other) or 0.0)
    rest = [t for t in trials if not t.pareto]
    # Of three goals or more, a view of two shows no line.
    joined = "lines+markers" if len(study.objectives) == 2 else "markers"
    data = [
        _points(study, rest, other, "other trials", {"mode": "markers", "marker": {"color": NEUTRAL, "size": 8}}),
        _points(
            study, front, other, "Pareto front",
            {"mode": joined, "line": {"color": PALETTE[0], "width": 1.5, "dash": "dot"}, "marker": {"color": PALETTE[0], "size": 10}},
        ),
    ]  # fmt: skip
    values = [t.value(other) or 0.0 for t in trials]
    wide = min(values, default=0) > 0 and max(values, default=1) / min(values, default=1) > 20
    layout = base_layout() | _ABOVE | {
        "height": 420, "hovermode": "closest",
        "xaxis": axis(objective_title(other)) | ({"type": "log", "dtick": "D2", "exponentformat": "SI"} if wide else {"nticks": 6, "exponentformat": "SI"}),
        "yaxis": axis(objective_title(study.first)),
    }  # fmt: skip
    return {"data": [d for d in data if d["x"]], "layout": layout}


def _points(
    study: Study, trials: Sequence[Trial], other: str, name: str, look: dict[str, Any]
) -> dict[str, Any]:
    return {
        "x": [t.value(other) for t in trials], "y": [t.value(study.first) for t in trials], "name": name,
        "text": [plotly_text(f"trial {t.number}, {study.backbone_of(t)}", 80) for t in trials],
        "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.3f}<extra>%{fullData.name}</extra>", **look,
    }  # fmt: skip


def effort_figure(done: Mapping[str, float], saved: float, unit: str) -> Figure:
    """One bar: what finished, stopped and failed trials took, and what was saved by stopping."""
    parts = [*done.items(), ("saved", saved)]
    colours = {"finished": PALETTE[0], "stopped": PALETTE[1], "failed": PALETTE[3], "running": PALETTE[5]}
    data = [
        {
            "type": "bar", "orientation": "h", "y": [""], "x": [amount], "name": name,
            "marker": {"color": colours.get(name, "rgba(125,134,144,0.25)"), "line": {"color": NEUTRAL, "width": 0 if name in colours else 1}},
            "hovertemplate": f"%{{fullData.name}}: %{{x:,.3g}} {unit}<extra></extra>",
        }
        for name, amount in parts if amount > 0
    ]  # fmt: skip
    layout = base_layout() | _ABOVE | {
        "height": 210, "barmode": "stack", "margin": base_layout()["margin"] | {"t": _TWO_LINES_PX}, "xaxis": axis(unit[:1].upper() + unit[1:]) | {"nticks": 6}, "yaxis": axis(""),
    }  # fmt: skip
    return {"data": data, "layout": layout}
