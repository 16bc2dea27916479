"""Which trial is best, and how sure that is: the contents of `summary.json`.

Reads: the study, the validation predictions in the run directories. The best of many noisy scores looks better than it is, so
its interval and that of its lead stand beside it: by draws of patients, the same draws for both trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import TrialState

from ray_cxr.bootstrap import (
    Draws,
    area_draws,
    draw_patient_weights,
    interval_of_whole,
    weigh_patients,
    whole_mean,
)
from ray_cxr.parquet import read_frame
from ray_cxr.storage import Folder
from ray_cxr.tune.records import run_names
from ray_cxr.tune.search import Search
from ray_cxr.tune.study import DIRECTIONS

DRAWS = 2000
_LOOKED_AT = 20
"""For `lower_bound`: so many of the best scores; one far behind has no better lower end."""


@dataclass(frozen=True)
class Candidate:
    """A trial that came to its end. draws: [D] its score in each draw of patients, or None without predictions."""

    number: int
    value: float
    draws: NDArray[np.float64] | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.draws is None else interval_of_whole(self.draws)

    def as_dict(self) -> dict[str, Any]:
        return {"number": self.number, "value": self.value, "interval": _ends(self.interval)}


def score_draws(predictions: pd.DataFrame, objective: str, draws: Draws) -> NDArray[np.float64]:
    """[D] an objective in each draw; NaN where a draw lacks a class of any finding that all films can measure.

    predictions: `predictions-validation.parquet`.
    """
    figures = []
    for column in (str(c) for c in predictions if str(c).startswith("label_")):
        labels = predictions[column].to_numpy(np.float64)
        if {0.0, 1.0} <= set(labels[~np.isnan(labels)].tolist()):
            scores = predictions[f"prob_{column.removeprefix('label_')}"].to_numpy(np.float64)
            figures.append(area_draws(labels, scores, draws)[objective != "mean_auroc"])
    # A minimum with NaN is NaN, as a mean is.
    return whole_mean(figures) if objective == "mean_auroc" else np.asarray(np.stack(figures).min(axis=0))


def rank(candidates: Sequence[Candidate], select: str) -> list[Candidate]:
    """Best first: by score, or by the lower end of the interval where it has one; equal ones by number."""
    if select == "lower_bound":
        return sorted(
            candidates, key=lambda c: (-(c.interval[0] if c.interval else -np.inf), -c.value, c.number)
        )
    return sorted(candidates, key=lambda c: (-c.value, c.number))


def summarise(search: Search) -> dict[str, Any]:
    """What `summary.json` holds; `winner` is null where no trial came to its end."""
    tune = search.job.tune
    ended = [t for t in search.study.trials if t.state == TrialState.COMPLETE]
    by_score = rank([Candidate(t.number, t.values[0]) for t in ended], "best")
    looked_at = _LOOKED_AT if tune.select == "lower_bound" else 2
    drawn, patients = _with_draws(search, by_score[:looked_at])
    ranked = rank(drawn, tune.select)
    winner, runner_up = (*ranked[:2], None, None)[:2]
    states = Counter(t.state for t in search.study.trials)
    return {
        "compared": states[TrialState.COMPLETE] + states[TrialState.PRUNED],
        "select": tune.select,
        "objectives": {name: DIRECTIONS[name] for name in tune.objectives},
        "winner": winner.as_dict() if winner else None,
        "runner_up": runner_up.as_dict() if runner_up else None,
        "difference": _difference(winner, runner_up) if winner and runner_up else None,
        "draws": DRAWS,
        "patients": patients,
        "folds": tune.crossval,
        **_compute(search),
        "states": _states(search),
        "failures": dict(search.failures.most_common()),
    }


def _with_draws(search: Search, candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
    """The candidates with their draws, and how patients were drawn: where too many draws lack a rare finding, by weights."""
    folds = search.job.tune.crossval
    predictions = [
        [_predictions(search.out / name) for name in run_names(c.number, folds)] for c in candidates
    ]
    found = _drawn(search, candidates, predictions, draw_patient_weights)
    if all(c.draws is None or c.interval is not None for c in found):
        return found, "drawn"
    return _drawn(search, candidates, predictions, weigh_patients), "weighted"


def _drawn(
    search: Search, candidates: Sequence[Candidate], predictions: Sequence[Sequence[pd.DataFrame | None]],
    draw: Callable[[Sequence[Any], int, int], Draws],
) -> list[Candidate]:  # fmt: skip
    def scores(table: pd.DataFrame) -> NDArray[np.float64]:
        draws = draw(table["patient_id"].tolist(), DRAWS, search.job.seed)
        return score_draws(table, search.job.tune.objectives[0], draws)

    drawn = []
    for candidate, tables in zip(candidates, predictions, strict=True):
        there = [table for table in tables if table is not None]
        if len(there) == len(tables):
            # Folds share no patient: each is drawn by itself, and the mean is taken in each draw.
            drawn.append(replace(candidate, draws=whole_mean([scores(table) for table in there])))
        else:
            drawn.append(candidate)
    return drawn


def _predictions(run: Folder) -> pd.DataFrame | None:
    try:
        name = "predictions-validation.parquet"
        return read_frame(run.read_bytes(name), f"{run}/{name}")
    except FileNotFoundError:
        return None


def _difference(winner: Candidate, runner_up: Candidate) -> dict[str, Any]:
    value = winner.value - runner_up.value
    if winner.draws is None or runner_up.draws is None:
        return {"value": value, "interval": None}
    return {"value": value, "interval": _ends(interval_of_whole(winner.draws - runner_up.draws))}


def _ends(ends: tuple[float, float] | None) -> list[float] | None:
    return None if ends is None else list(ends)


def _states(search: Search) -> dict[str, int]:
    return {str(state): int(count) for state, count in search.table()["state"].value_counts().items()}


def _compute(search: Search) -> dict[str, Any]:
    """Epochs and seconds of training and validation spent, and what full training of all trials that were begun would have been.

    Only a trial that was stopped saves anything.
    """
    table = search.table()
    begun = table[table["epochs"] > 0]
    planned = begun["epochs_planned"].where(begun["state"] == "pruned", begun["epochs"])
    full = (begun["train_seconds"] / begun["epochs"] * planned).sum()
    return {
        "epochs_spent": int(begun["epochs"].sum()),
        "epochs_full": int(planned.sum()),
        "seconds_spent": round(float(begun["train_seconds"].sum()), 1),
        "seconds_full": round(float(full), 1),
    }
