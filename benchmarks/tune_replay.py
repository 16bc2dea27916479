"""Searches whose trainings are looked up in the recorded grid instead of run: ours, plain Optuna's, random search.

All begin another trial as long as a whole training fits into what is left of the epochs, and choose the finished trial
with the best score. A search with seed n sees the curves that the grid recorded with seed n mod 2.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from ray_cxr.config import dotted, overlaid, validated
from ray_cxr.storage import Folder
from ray_cxr.train.settings import Recipe
from ray_cxr.tune.search import Search
from ray_cxr.tune.settings import SearchRecipe
from ray_cxr.tune.space import Drawn, build_space
from ray_cxr.tune.study import Study

TOP = 3
"""A choice among so many of the grid's best is a good one."""


@dataclass(frozen=True)
class Lookup:
    """What `tune_grid.py` recorded: of each configuration the score after every epoch, by seed."""

    epochs: int
    entries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Lookup:
        table = json.loads(path.read_text("utf-8"))
        return cls(table["epochs"], table["entries"])

    @property
    def grid(self) -> dict[str, list[Any]]:
        """Setting → its values."""
        found: dict[str, list[Any]] = {}
        for entry in self.entries.values():
            for name, value in entry["parameters"].items():
                if value not in found.setdefault(name, []):
                    found[name].append(value)
        return found

    @property
    def passes(self) -> int:
        """Seeds that the grid was trained with."""
        return len(next(iter(self.entries.values()))["scores"])

    def name_of(self, drawn: Drawn) -> str:
        """The configuration with these settings; others than the grid's do not count."""
        wanted = {name: drawn[name] for name in self.grid}
        return next(name for name, e in self.entries.items() if e["parameters"] == wanted)

    def scores(self, name: str, seed: int) -> Sequence[float]:
        """The score after each epoch."""
        by_seed: Sequence[Sequence[float]] = self.entries[name]["scores"]
        return by_seed[seed % len(by_seed)]

    def place(self, name: str) -> int:
        """1 for the configuration with the best final score, as a mean over seeds."""
        own = self.entries[name]["final"]
        return 1 + sum(e["final"] > own for e in self.entries.values())

    def is_good(self, name: str) -> bool:
        """Whether it is among the best, or behind the best one by no more than the standard error of that difference."""
        best = max(e["final"] for e in self.entries.values())
        entry = self.entries[name]
        return self.place(name) <= TOP or best - entry["final"] <= entry["standard_error_to_best"]


@dataclass(frozen=True)
class Outcome:
    """choice: name of a configuration; epochs and trials: what finding it took."""

    choice: str
    epochs: int
    trials: int


class Purse:
    """Epochs to spend, and the finished trials that they bought."""

    def __init__(self, lookup: Lookup, epochs: int) -> None:
        self._lookup, self._left = lookup, epochs
        self.spent = self.trials = 0
        self._finished: list[tuple[float, str]] = []

    @property
    def holds_another(self) -> bool:
        """Whether a whole training fits into what is left."""
        return self._left - self.spent >= self._lookup.epochs

    def train(self, name: str, seed: int, stops: Callable[[int, float], bool]) -> float | None:
        """A trial: its final score, or None where `stops` (epoch, score) ended it before."""
        self.trials += 1
        for epoch, score in enumerate(self._lookup.scores(name, seed), 1):
            self.spent += 1
            if stops(epoch, score) and epoch < self._lookup.epochs:
                return None
        self._finished.append((score, name))
        return score

    def outcome(self) -> Outcome:
        """The best finished trial; of equal ones the first."""
        choice = max(self._finished, key=lambda found: found[0])[1]
        return Outcome(choice, self.spent, self.trials)


class _Known:
    """Stands where the search checks a trial's settings: whatever the grid holds can be trained."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        self._base = base

    def recipe(self, drawn: Drawn) -> Recipe:
        return validated(Recipe, overlaid(self._base, drawn))

    def problem(self, drawn: Drawn) -> str | None:
        return None


def replay_search(lookup: Lookup, job: SearchRecipe, seed: int, epochs: int) -> Outcome:
    """Our search, all of it but the training."""
    purse = Purse(lookup, epochs)
    # No line is put on the disk: the journal waits for it at every one.
    memory = Path("/dev/shm")  # noqa: S108  in a directory of its own
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        tune = job.tune.model_copy(update={"trials": len(lookup.entries) * lookup.epochs, "recipes": False})
        job = job.model_copy(update={"seed": seed, "out": folder, "tune": tune})
        base = job.model_dump(mode="json", include=set(Recipe.model_fields))
        out = Folder(folder)
        search = Search(
            job, out, build_space(tune.space, dotted(base)), _Known(base), Study(out, tune, seed), lambda event: None,
        )  # type: ignore[arg-type]  # fmt: skip
        search.write = lambda: None  # type: ignore[method-assign]  # nobody reads the table of trials
        while purse.holds_another and (plan := search.next()) is not None:
            name, number = lookup.name_of(plan.settings), plan.number
            score = purse.train(name, seed, lambda e, s, n=number: search.report(n, _line(e, s)))  # type: ignore[misc]
            (search.prune if score is None else search.end)(number)
    return purse.outcome()


def _line(epoch: int, score: float) -> dict[str, Any]:
    """What the search reads of a line of history.jsonl."""
    return {
        "epoch": epoch, "mean_auroc": score, "average_precision": {}, "best": True, "seconds": {"train": 0.0, "validate": 0.0},
    }  # fmt: skip


def replay_optuna(lookup: Lookup, pruner: optuna.pruners.BasePruner, seed: int, epochs: int) -> Outcome:
    """Optuna by itself: its TPE as it comes, a pruner of its own, one trial after the other."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner
    )
    purse = Purse(lookup, epochs)
    while purse.holds_another:
        trial = study.ask()
        # A choice is put as its place, since Optuna takes plain values only.
        drawn = {
            name: values[trial.suggest_categorical(name, list(range(len(values))))]
            for name, values in lookup.grid.items()
        }

        def stops(epoch: int, score: float, trial: optuna.Trial = trial) -> bool:
            trial.report(score, epoch)
            return trial.should_prune()

        score = purse.train(lookup.name_of(drawn), seed, stops)
        study.tell(trial, score, state=None if score is not None else optuna.trial.TrialState.PRUNED)
    return purse.outcome()


def replay_random(lookup: Lookup, seed: int, epochs: int) -> Outcome:
    """Configurations at random, none twice, each trained to its end."""
    purse, names = Purse(lookup, epochs), list(lookup.entries)
    for place in np.random.default_rng(seed).permutation(len(names)):
        if not purse.holds_another:
            break
        purse.train(names[place], seed, lambda epoch, score: False)
    return purse.outcome()
