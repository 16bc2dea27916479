"""Sections on the search itself: curves, what mattered, slices, parallel coordinates, effort, failures, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray_cxr.report.blocks import Block, Code, Fold, Panel, Panels, Plot, Section, Table, Text
from ray_cxr.report.tune.effort import effort, seconds_spared
from ray_cxr.report.tune.figures import (
    best_quarter,
    curves_figure,
    effort_figure,
    importance_figure,
    objective_title,
    parallel_figure,
    slice_figure,
)
from ray_cxr.report.tune.importance import FEWEST
from ray_cxr.report.tune.study import Study, short_names, value_text
from ray_cxr.report.words import count_text, duration_text

_HOUR_S, _MINUTE_S = 3600, 60
FREEZE, RESAMPLING = "model.freeze_depth", "stream.resampling"


def curves(study: Study) -> Section:
    """The learning curves of all trials, with the stops."""
    if not any(t.curve for t in study.trials):
        return Section("curves", "Learning curves", [Text("No trial has finished an epoch.")])
    rows = [[str(epoch), str(came), str(stopped), best] for epoch, came, stopped, best in _by_epoch(study)]
    table = Table("Trials by epoch", ["Epoch", "Came here", "Stopped here", "Best score"], rows)
    label = "Validation mean AUROC of every trial by epoch. The table says how many came to each epoch."
    text = "A trial that is behind the others at an epoch is stopped there (a cross), and its time goes to new trials."
    if study.folds:
        text += f" Each trial trains {study.folds} models, one for each fold after the other; its epochs are counted on, and its curve falls where a fold begins."
    blocks: list[Block] = [
        Text(text),
        Plot("plot-curves", curves_figure(study), label, table),
    ]
    return Section("curves", "Learning curves", blocks)


def _by_epoch(study: Study) -> list[tuple[int, int, int, str]]:
    last = max(epoch for t in study.trials for epoch, _ in t.curve)
    rows = []
    for epoch in range(1, last + 1):
        scores = [score for t in study.trials for e, score in t.curve if e == epoch]
        stopped = sum(t.state == "pruned" and bool(t.curve) and t.curve[-1][0] == epoch for t in study.trials)
        rows.append((epoch, len(scores), stopped, f"{max(scores):.3f}" if scores else "–"))
    return rows


def importances(study: Study) -> Section:
    """How much each setting mattered, or why nobody can say."""
    found = study.importance
    if found is None:
        text = (
            f"Too few trials to tell what mattered: it takes {FEWEST} that came to the same epoch and differ in a setting, and even "
            "then it is a hint."
        )
        return Section("importance", "What mattered", [Text(text)])
    names = short_names(list(found.shares))
    table = Table(
        "Share of each setting",
        ["Setting", "Share"],
        [[names[n], f"{s:.1%}"] for n, s in found.shares.items()],
    )
    label = "Importance of each searched setting as bars. The table says the same in figures."
    blocks: list[Block] = [
        Text(
            f"What set the best {found.top} of {found.trials} trials apart after epoch {found.epoch}, the last that so many came to "
            "(PED-ANOVA)."
        ),
        Plot("plot-importance", importance_figure(found.shares), label, table),
        Text(
            "Shares add up to 100 % whatever the trials show, and with few trials some of it is chance. A setting that the search soon "
            "settled looks less important than it was.",
            "lesson",
        ),
    ]
    return Section("importance", "What mattered", blocks)


def slices(study: Study) -> Section:
    """Score over each setting by itself; freeze depth and resampling first."""
    first = [s for s in (FREEZE, RESAMPLING) if s in study.settings]
    settings = [*first, *(s for s in study.settings if s not in first)]
    if not settings:
        return Section("slices", "Setting by setting", [Text("No setting was searched.")])
    names = short_names(settings)
    panels = [
        Panel(
            f"slice-{i}",
            names[s].capitalize(),
            slice_figure(study, s),
            f"{objective_title(study.first)} over {names[s]}.",
        )
        for i, s in enumerate(settings)
    ]
    table = Table(
        "The best score by setting and value, of finished trials",
        ["Setting", "Value", "Tried", "Finished", "Best score"],
        [row for s in settings for row in _value_rows(study, s, names[s])],
    )
    about = f"{objective_title(study.first)} of each trial over one setting at a time, in the colours of the backbones above"
    blocks: list[Block] = [
        Text(
            f"{about}: filled where the trial finished, hollow where it was stopped (its last score, after fewer epochs)."
        ),
        Panels(panels, table),
        Text(
            "All settings change at once from trial to trial, so a slice shows where good trials lie, not what one setting does by itself.",
            "lesson",
        ),
    ]
    return Section("slices", "Setting by setting", blocks)


def _value_rows(study: Study, setting: str, name: str) -> list[list[str]]:
    """A row per value; of a number that takes any value, its lower and upper half."""
    groups: dict[str, list[int]] = {}
    trials = {t.number: t for t in study.trials if setting in t.parameters}
    values = sorted(
        {t.parameters[setting] for t in trials.values()},
        key=lambda v: (isinstance(v, str), v if isinstance(v, str) else float(v)),
    )
    middle = values[(len(values) - 1) // 2] if setting in study.bounds and len(values) > 4 else None
    for number, trial in trials.items():
        value = trial.parameters[setting]
        group = value_text(value) if middle is None else _half(value, middle)
        groups.setdefault(group, []).append(number)
    order = (
        [value_text(v) for v in values]
        if middle is None
        else [_half(middle, middle), _half(values[-1], middle)]
    )
    rows = []
    for group in dict.fromkeys(order):
        own = [trials[n] for n in groups.get(group, [])]
        scores = [v for t in own if t.state == "complete" and (v := t.value(study.first)) is not None]
        best = f"{max(scores, key=lambda v: study.sign(study.first) * v):.3f}" if scores else "–"
        rows.append([name, group, str(len(own)), str(len(scores)), best])
    return rows


def _half(value: float, middle: float) -> str:
    return f"up to {value_text(middle)}" if value <= middle else f"above {value_text(middle)}"


def parallel(study: Study) -> Section | None:
    """All settings of all trials in one figure."""
    trials = [t for t in study.of_state("complete", "pruned") if t.value(study.first) is not None]
    if len(study.settings) < 2 or not trials:
        return None
    names = short_names(study.settings)
    good = best_quarter(study, trials)
    rows = [[names[s].capitalize(), _common(study, s, [t.number for t in good])] for s in study.settings]
    table = Table(
        f"Most common among the best quarter ({count_text(len(good), 'trial')})", ["Setting", "Value"], rows
    )
    label = "Every trial as a line through the values of its settings. The table says what the best quarter has in common."
    text = "Each trial is a line from above down through its values to its score; a setting that does not apply to it is passed over."
    return Section(
        "parallel",
        "Settings together",
        [Text(text), Plot("plot-parallel", parallel_figure(study), label, table)],
    )


def _common(study: Study, setting: str, numbers: list[int]) -> str:
    values = [t.parameters[setting] for t in study.trials if t.number in numbers and setting in t.parameters]
    if not values:
        return "does not apply"
    if setting in study.bounds:
        return f"{value_text(min(values))} to {value_text(max(values))}"
    value, count = Counter(map(value_text, values)).most_common(1)[0]
    return f"{value} ({count} of {len(values)})"


def compute(study: Study) -> Section:
    """What was spent and what was saved, against training every trial to its end."""
    spent = effort(study)
    large = spent.seconds_full >= 2 * _HOUR_S
    unit_s, unit = (_HOUR_S, "compute hours") if large else (_MINUTE_S, "minutes")
    states = {
        "finished": "complete",
        "stopped": "pruned",
        "failed": "failed",
        "running": "running",
        "cut": "waiting",
    }
    of = {words: study.of_state(state) for words, state in states.items()}  # type: ignore[arg-type]
    of["cut"] = [t for t in of["cut"] if t.began]
    done = {words: sum(t.seconds for t in trials) / unit_s for words, trials in of.items()}
    saved = sum(map(seconds_spared, study.trials))
    rows = [
        [words, str(len(trials)), f"{sum(t.epochs for t in trials):,}", duration_text(sum(t.seconds for t in trials))]
        for words, trials in of.items() if trials
    ]  # fmt: skip
    table = Table(
        "What the trials took",
        ["Trials", "Number", "Epochs", "Time"],
        [
            *rows,
            [
                "saved by stopping",
                str(len(study.of_state("pruned"))),
                f"{spent.epochs_full - spent.epochs:,}",
                duration_text(saved),
            ],
        ],
        [
            "full training of all",
            str(sum(t.began for t in study.trials)),
            f"{spent.epochs_full:,}",
            duration_text(spent.seconds_full),
        ],
    )
    label = "Time of finished, stopped and failed trials, and what was saved, as one bar. The table says the same."
    lead = (
        f"{duration_text(spent.seconds)} of trials ran; training all of them to the end would have taken {duration_text(spent.seconds_full)}: "
        f"{spent.share_saved:.0%} saved. Times of trials that ran side by side are added."
    )
    return Section(
        "compute",
        "What it took",
        [
            Text(lead),
            Plot("plot-effort", effort_figure(done, saved / unit_s, unit), label, table, wide_table=True),
        ],
    )


def failures(study: Study) -> Section:
    """Which trials failed and why."""
    failed = study.of_state("failed")
    if not failed:
        return Section("failures", "Failures", [Text("No trial failed.", "good")])
    reasons: dict[str, list[int]] = {}
    for trial in failed:
        reasons.setdefault(trial.reason or "no reason is recorded", []).append(trial.number)
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    table = Table(
        f"{count_text(len(failed), 'failed trial')} by reason",
        ["Reason", "Trials", "Which"],
        [[reason, str(len(numbers)), _listed(numbers)] for reason, numbers in ranked],
    )
    return Section("failures", "Failures", [table])


def _listed(numbers: list[int], most: int = 8) -> str:
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more


def settings(study: Study) -> Section:
    """The space, and the settings of the search."""
    rows = [[name, "; else ".join(map(space_text, given))] for name, given in study.space.items()]
    blocks: list[Block] = [Table("What was searched", ["Setting", "Values"], rows)] if rows else []
    return Section(
        "settings", "Settings of the search", [*blocks, Fold("config.yaml", Code(study.config_yaml))]
    )


def space_text(given: Mapping[str, Any]) -> str:
    """Choices or bounds of a setting, and when it applies."""
    if given.get("choices") is not None:
        values = ", ".join(map(value_text, given["choices"]))
    else:
        kind = " by the logarithm" if given.get("log") else ""
        values = f"{value_text(given.get('low'))} to {value_text(given.get('high'))}{kind}"
    when = given.get("when")
    if not isinstance(when, dict) or not when:
        return values
    conditions = [f"{name} is {_one_of(wanted)}" for name, wanted in when.items()]
    return f"{values}; where {' and '.join(conditions)}"


def _one_of(wanted: object) -> str:
    return " or ".join(map(value_text, wanted)) if isinstance(wanted, list) else value_text(wanted)
