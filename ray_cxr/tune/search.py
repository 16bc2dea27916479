"""The search itself: which trial comes next, whether one goes on, how each ends. Knows no Ray cluster and trains nothing.

Reads: the study and the run directories. Writes: the study, `trials.parquet`. Whoever runs trials asks `next`, passes on each
line of a trial's history to `report`, and says how it ended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from optuna.trial import TrialState

from ray_cxr.storage import Folder
from ray_cxr.train.fit import with_absolute_paths
from ray_cxr.train.settings import Recipe
from ray_cxr.tune.check import Checker
from ray_cxr.tune.halving import Halving
from ray_cxr.tune.objectives import Progress, cost
from ray_cxr.tune.records import objective_values, read_lines, run_name, run_names, trial_table, write_table
from ray_cxr.tune.settings import SearchRecipe
from ray_cxr.tune.space import Drawn, Space
from ray_cxr.tune.study import ENDED, Study, is_finite, values_by_epoch
from ray_cxr.tune.trial import lock_name

Show = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Plan:
    """A trial to run: what to train, where, and the settings that it drew."""

    number: int
    settings: Drawn
    recipe: Recipe
    folds: int | None = None

    @property
    def runs(self) -> list[Recipe]:
        """The trainings that it is made of, in order: one, or one for each fold."""
        if self.folds is None:
            return [self.recipe]
        out = Folder(self.recipe.out)
        return [
            self.recipe.model_copy(update={"fold": k, "out": (out / f"fold-{k}").url})
            for k in range(self.folds)
        ]

    @property
    def epochs(self) -> int:
        """Of all its trainings together."""
        return self.recipe.train.epochs * (self.folds or 1)


@dataclass
class Search:
    """One search over a space. `show` gets its events: `trial`, `trial_epoch`, `note`."""

    job: SearchRecipe
    out: Folder
    space: Space
    checker: Checker
    study: Study
    show: Show
    points: Sequence[tuple[str, Drawn]] = ()
    """Origin and settings of the trials that come first."""
    share_films: bool = False
    running: dict[int, Plan] = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)
    _to_continue: deque[int] = field(default_factory=deque)
    _halving: Halving | None = None

    def __post_init__(self) -> None:
        self.study.enqueue(self.space, self.checker.problem, self.points)
        if self.job.tune.scheduler == "asha":
            tune = self.job.tune
            self._halving = Halving(self.most_epochs(), tune.grace_epochs, tune.reduction_factor)
        for trial in self.study.trials:
            if trial.state == TrialState.WAITING:
                continue
            if self._halving is not None:
                self._halving.restore(trial.number, values_by_epoch(trial))
            if trial.state == TrialState.RUNNING:
                self._to_continue.append(trial.number)
            self._read_progress(trial.number)
            if trial.state in ENDED:
                self._show_end(trial.number)
        self.write()

    @property
    def known(self) -> int:
        """Trials that have ended."""
        return sum(t.state in ENDED for t in self.study.trials)

    def most_epochs(self) -> int:
        """Epochs of the longest trial there can be, over all its folds."""
        drawn = self.space.parameters.get("train.epochs", ())
        each = int(max([self.job.train.epochs, *(e for v in drawn for e in (v.choices or [v.high]))]))
        return each * self.runs_of_a_trial

    @property
    def runs_of_a_trial(self) -> int:
        """Trainings that a trial is made of."""
        return self.job.tune.crossval or 1

    def _read_progress(self, number: int) -> None:
        drawn = self.study.trial(number).user_attrs.get("settings", {})
        progress = Progress(drawn.get("train.keep", self.job.train.keep))
        for run, name in enumerate(run_names(number, self.job.tune.crossval)):
            for line in read_lines(self.out / name):
                progress.add(line, run)
        self.progress[number] = progress

    @property
    def failures(self) -> Counter[str]:
        """Reason → trials that failed for it."""
        return Counter(
            t.user_attrs.get("reason", "unknown") for t in self.study.trials if t.state == TrialState.FAIL
        )

    @property
    def aborted(self) -> bool:
        """Whether too many trials have failed."""
        return self.failures.total() >= self.job.tune.max_failed

    @property
    def done(self) -> bool:
        """Whether no trial is running, none will come."""
        return not self.running and (self.aborted or not self._more())

    def _more(self) -> bool:
        begun = [t for t in self.study.trials if t.state != TrialState.WAITING]
        if self._to_continue:
            return True
        return len(begun) < self.job.tune.trials and not self._exhausted(len(begun))

    def _exhausted(self, begun: int) -> bool:
        return self.job.tune.sampler == "grid" and begun == len(self.study.trials)

    def next(self) -> Plan | None:
        """The next trial to run: one that was begun before, or a new one; None where there is none now."""
        while not self.aborted and self._more():
            number, drawn = self._begin()
            # Of a trial that goes on, the epochs before are reported again.
            self.progress[number] = Progress(drawn.get("train.keep", self.job.train.keep))
            problem = self.checker.problem(drawn)
            if problem is not None:
                self.fail(number, problem)
                continue
            plan = Plan(number, drawn, self._recipe(number, drawn), self.job.tune.crossval)
            if "cost" not in self.study.trial(number).user_attrs:
                self.study.keep(number, "cost", cost(plan.recipe, self.job.tune.objectives))
            self.running[number] = plan
            self.study.begin_attempt(number)
            self.show(self._event(number, "running"))
            self.write()
            return plan
        return None

    def _begin(self) -> tuple[int, Drawn]:
        if self._to_continue:
            number = self._to_continue.popleft()
            return number, self.study.settings_of(number, self.space, self.checker.problem)
        return self.study.ask(self.space, self.checker.problem)

    def _recipe(self, number: int, drawn: Drawn) -> Recipe:
        own: Drawn = {"out": (self.out / run_name(number)).url}
        if self.share_films:
            own["stream.cache"] = "node"
        return with_absolute_paths(self.checker.recipe(drawn | own))

    def report(self, number: int, line: Mapping[str, Any], run: int = 0) -> bool:
        """A line of a trial's history.jsonl; whether the trial is to be stopped now. Lines that are known change nothing.

        run: which of the trial's trainings it is of.
        """
        progress, plan = self.progress[number], self.running[number]
        progress.add(line, run)
        # Not `progress.epochs`: a fold that ended early must not bring the trial to a rung before others are there.
        value, epoch = (
            progress.kept[self.job.tune.objectives[0]],
            run * plan.recipe.train.epochs + line["epoch"],
        )
        if not is_finite(value) or epoch in values_by_epoch(self.study.trial(number)):
            return False
        assert value is not None
        self.study.report(number, epoch, value)
        stops = self._halving is not None and self._halving.stops(number, epoch, value)
        self.show(
            {"kind": "trial_epoch", "number": number, "epoch": epoch, "epochs": plan.epochs, "value": value,
             "seconds": line["seconds"]["train"] + line["seconds"]["validate"]}
        )  # fmt: skip
        self.write()
        return stops and epoch < plan.epochs

    def end(self, number: int) -> None:
        """A trial has come to its own end."""
        values = {**self.progress[number].kept, **self.study.trial(number).user_attrs.get("cost", {})}
        wanted = {name: values.get(name) for name in self.job.tune.objectives}
        unknown = [name for name, value in wanted.items() if not is_finite(value)]
        if unknown:
            self.fail(number, f"{unknown[0]} cannot be measured: it is {wanted[unknown[0]]}")
            return
        self.study.complete(number, [float(v) for v in wanted.values() if v is not None])
        self._ended(number)

    def prune(self, number: int) -> None:
        """A trial was stopped, as `report` wished."""
        self.study.prune(number)
        self._ended(number)

    def leave(self, number: int) -> None:
        """A trial was ended with the search: it goes on when the search does."""
        self.running.pop(number, None)
        self.write()

    def fail(self, number: int, reason: str) -> None:
        """A trial has failed, for its settings or for what it needs."""
        self.study.fail(number, reason)
        self._ended(number)

    def died(self, number: int, reason: str) -> None:
        """A trial's process has died: it goes on in another one, as often as `train.max_failures` says."""
        attempts = len(self.study.trial(number).user_attrs.get("attempts", []))
        if attempts > self.running[number].recipe.train.max_failures:
            self.fail(number, f"{reason}, {attempts} times" if attempts > 1 else reason)
            return
        del self.running[number]
        self._to_continue.append(number)
        self.show({"kind": "note", "text": f"trial {number}: {reason}; it goes on from its last checkpoint"})
        self.write()

    def _ended(self, number: int) -> None:
        self.running.pop(number, None)
        if not self.job.tune.keep_checkpoints:
            (self.out / run_name(number)).remove("checkpoints")
        (self.out / "trials").remove(lock_name(f"{number:05d}"))
        self._show_end(number)
        self.write()

    def _show_end(self, number: int) -> None:
        state = self.study.trial(number).state
        names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        self.show(self._event(number, names[state]))

    def _event(self, number: int, state: str) -> dict[str, Any]:
        trial = self.study.trial(number)
        drawn = trial.user_attrs.get("settings", {})
        first = self.job.tune.objectives[0]
        return {
            "kind": "trial",
            "number": number,
            "state": state,
            "parameters": drawn,
            "epochs": int(drawn.get("train.epochs", self.job.train.epochs)) * self.runs_of_a_trial,
            "value": objective_values(trial, self.job.tune.objectives, self.progress[number])[first],
            "reason": trial.user_attrs.get("reason"),
        }

    def write(self) -> None:
        """Writes `trials.parquet`."""
        write_table(self.out, self.table())

    def table(self) -> pd.DataFrame:
        """A row a trial, by number."""
        return trial_table(
            self.study.trials, self.job.tune.objectives, list(self.space.parameters), self.running.keys(),
            self.progress, self.job.train.epochs, self.runs_of_a_trial,
        )  # fmt: skip
