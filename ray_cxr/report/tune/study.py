"""What a study's page is made from: its trials, their curves, its summary. Read once, then plain data.

Reads: `trials.parquet`, `summary.json`, `config.yaml`, `best.yaml`, `trials/**/history.jsonl`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import pandas as pd
import yaml

from ray_cxr.parquet import read_frame
from ray_cxr.report.tune.importance import Importance
from ray_cxr.storage import Folder

State = Literal["waiting", "running", "complete", "pruned", "failed"]
BACKBONE = "model.backbone"
_PARAMETER, _OBJECTIVE = "param:", "objective:"
_HISTORY = "history.jsonl"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: what was tried, how far it came, and what it reached."""

    number: int
    state: State
    origin: str
    parameters: Mapping[str, Any]
    """Dotted setting → value, of the settings that apply."""
    objectives: Mapping[str, float]
    """Objective → value, where there is one; of a stopped trial its last."""
    pareto: bool = False
    epochs: int
    """Epochs done."""
    epochs_planned: int
    seconds: float
    """Wall time of the trial."""
    train_seconds: float = 0.0
    """Training and validation alone."""
    reason: str = ""
    run: str = ""
    curve: Sequence[tuple[int, float]] = ()
    """(epoch, validation mean AUROC), in order; the epochs of several folds are counted on."""

    @property
    def began(self) -> bool:
        """Whether it was ever at work: one that was cut waits to go on."""
        return self.state != "waiting" or self.epochs > 0

    def value(self, objective: str) -> float | None:
        """Its value of an objective; None where it has none."""
        return self.objectives.get(objective)


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that the page shows."""

    title: str
    out: str
    """The study's directory as the job names it."""
    trials: Sequence[Trial]
    summary: Mapping[str, Any]
    """`summary.json`."""
    space: Mapping[str, Sequence[Mapping[str, Any]]]
    """`tune.space`: dotted setting → its alternatives, each choices or a range, and when it holds."""
    backbone: str
    """The job's own backbone, for trials that do not choose one."""
    config_yaml: str
    best_yaml: str
    """Empty where no trial came to its end."""
    importance: Importance | None = None
    """None where there is too little to tell from."""
    folds: int | None = None
    """Trainings of each trial, one after the other; None: one, without folds."""
    objectives: Mapping[str, str] = field(default_factory=lambda: {"mean_auroc": "maximize"})
    """Objective → maximize or minimize; the first is the one that trials are stopped by."""

    @property
    def first(self) -> str:
        """The objective that trials are ranked and stopped by."""
        return next(iter(self.objectives))

    def sign(self, objective: str) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.objectives[objective] == "maximize" else -1

    @property
    def bounds(self) -> dict[str, Mapping[str, Any]]:
        """Setting → low, high, log, of those that are a range in every alternative."""
        return bounds(self.space)

    @property
    def settings(self) -> list[str]:
        """The settings that were searched, in the order of the space, then of appearance."""
        seen = {name: None for t in self.trials for name in t.parameters}
        return [*(n for n in self.space if n in seen), *(n for n in seen if n not in self.space)]

    def of_state(self, *states: State) -> list[Trial]:
        return [t for t in self.trials if t.state in states]

    def backbone_of(self, trial: Trial) -> str:
        return str(trial.parameters.get(BACKBONE, self.backbone))

    @property
    def ranked(self) -> list[Trial]:
        """Finished trials, best first; then the stopped ones, those that came furthest first; then the rest."""
        order = {"complete": 0, "pruned": 1, "running": 2, "failed": 3, "waiting": 4}

        def key(trial: Trial) -> tuple[float, ...]:
            value = trial.value(self.first)
            worth = math.inf if value is None else -self.sign(self.first) * value
            # Scores of different epochs are not comparable, so stopped trials go by epochs first.
            reached = 0 if trial.state == "complete" else -trial.epochs
            return order[trial.state], reached, worth, trial.number

        return sorted(self.trials, key=key)

    @property
    def winner(self) -> Trial | None:
        """The trial that was chosen; None where none came to its end."""
        chosen = self.summary.get("winner")
        if chosen is None:
            return None
        return next(t for t in self.trials if t.number == chosen["number"])


def alternatives(space: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """`tune.space` as `config.yaml` has it, with a list of alternatives for every setting."""
    return {name: given if isinstance(given, list) else [given] for name, given in space.items()}


def bounds(space: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """Setting → low, high, log of the range that holds all its alternatives; nothing of choices."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, given in space.items():
        if all(values.get("low") is not None for values in given):
            found[name] = {
                "low": min(values["low"] for values in given),
                "high": max(values["high"] for values in given),
                "log": all(values.get("log") for values in given),
            }
    return found


def short_names(settings: Sequence[str]) -> dict[str, str]:
    """Dotted setting → its last part in words, or the dotted name where two settings end alike."""
    last = [name.rpartition(".")[2] for name in settings]
    return {
        name: name if last.count(end) > 1 else end.replace("_", " ")
        for name, end in zip(settings, last, strict=True)
    }


def value_text(value: Any) -> str:
    """A value of a setting as a person writes it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def read_trials(folder: Folder) -> list[Trial]:
    """The trials of `trials.parquet` with their curves, by number."""
    table = read_frame(folder.read_bytes("trials.parquet"), f"{folder}/trials.parquet")
    return [_trial(row, folder) for row in table.sort_values("number").to_dict("records")]


def _trial(row: Mapping[Any, Any], folder: Folder) -> Trial:
    def number(name: str) -> float:
        value = row.get(name)
        return 0.0 if value is None or pd.isna(value) else float(value)

    def text(name: str) -> str:
        value = row.get(name)
        return "" if value is None or pd.isna(value) else str(value)

    state = text("state")
    if state not in get_args(State):
        raise ValueError(f"trials.parquet: trial {row['number']} has the state {state!r}")
    objectives = {k.removeprefix(_OBJECTIVE): v for k, v in row.items() if k.startswith(_OBJECTIVE)}
    return Trial(
        number=int(row["number"]),
        state=cast(State, state),
        origin=text("origin"),
        parameters={
            k.removeprefix(_PARAMETER): json.loads(v)
            for k, v in row.items()
            if k.startswith(_PARAMETER) and isinstance(v, str)
        },
        objectives={k: float(v) for k, v in objectives.items() if v is not None and math.isfinite(v)},
        pareto=bool(row.get("pareto")),
        epochs=int(number("epochs")),
        epochs_planned=int(number("epochs_planned")),
        seconds=number("seconds"),
        train_seconds=number("train_seconds"),
        reason=text("reason"),
        run=text("run"),
        curve=_curve(folder, text("run")),
    )


def _curve(folder: Folder, run: str) -> list[tuple[int, float]]:
    """Of one training, or of one for each fold after the other, their epochs counted on."""
    if not run:
        return []
    place, curve, before = folder / run, list[tuple[int, float]](), 0
    runs = _folds(place) or [place]
    for one in runs:
        lines = _lines(one)
        curve += [
            (before + int(e["epoch"]), float(e["mean_auroc"])) for e in lines if e["mean_auroc"] is not None
        ]
        before += len(lines)
    return curve


def _folds(trial: Folder) -> list[Folder]:
    """Trainings of a trial's folds that have come to the end of an epoch."""
    found: list[Folder] = []
    while (fold := trial / f"fold-{len(found)}").exists(_HISTORY):
        found.append(fold)
    return found


def _lines(run: Folder) -> list[dict[str, Any]]:
    if not run.exists(_HISTORY):
        return []
    return [json.loads(line) for line in run.read_bytes(_HISTORY).decode().splitlines()]


def read_settings(folder: Folder) -> tuple[str, dict[str, Any]]:
    """`config.yaml` as text and as settings."""
    text = folder.read_bytes("config.yaml").decode()
    return text, yaml.safe_load(text)
