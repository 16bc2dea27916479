"""Optuna's study of a search: where it is kept, what draws from it, what is told to it.

Reads and writes: `journal.log` in `out`, or a database. A trial's state there is the truth of the search; its settings are
its user attribute `settings`, since a setting that does not apply is no parameter.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from ray_cxr.errors import InputError, RefusedError, reason_of
from ray_cxr.storage import Folder
from ray_cxr.tune.settings import TuneSettings
from ray_cxr.tune.space import Drawn, Fits, Options, Space

JOURNAL = "journal.log"
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "mean_auroc": "maximize",
    "worst_average_precision": "maximize",
    "macs": "minimize",
    "parameters": "minimize",
}
_DRAWS = 128
"""How often settings are drawn until some come that no trial has had."""
_DRAWS_OF_SAMPLER = 8
"""The first of them, by the sampler; the others are at random."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Study:
    """The trials of a search, by number."""

    def __init__(self, out: Folder, settings: TuneSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = _open_storage(out, settings.storage)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="ray-cxr" if settings.storage is None else f"ray-cxr {out.url}",
            directions=[DIRECTIONS[name] for name in settings.objectives],
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def claim(self, fingerprint: str) -> None:
        """Notes the data set of the search. Raises RefusedError where its trials are of another."""
        before = self._study.user_attrs.get("fingerprint")
        if before is None:
            self._study.set_user_attr("fingerprint", fingerprint)
        elif before != fingerprint:
            raise RefusedError(
                "dataset: the search in out was begun with another data set (other films, labels or split); give another out, or "
                "the data set that it was begun with."
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All of them, in the order of their numbers; to be read only."""
        return self._study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        return self.trials[number]

    def ask(self, space: Space, fits: Fits) -> tuple[int, Drawn]:
        """Begins a trial, one that waits before a new one: its number and its settings.

        New ones have settings that no trial has had, as far as such are found: the same settings would train the same model again.
        """
        waiting = [t.number for t in self.trials if t.state == TrialState.WAITING]
        number = min(waiting, default=len(self.trials))
        if not waiting and (params := self._params_of_others(number, space, fits)):
            self._study.enqueue_trial(params)
        self._study.sampler = build_sampler(self._settings, self._seed, number)
        return number, self._draw(self._study.ask(), space, fits)

    def _params_of_others(self, number: int, space: Space, fits: Fits) -> dict[str, Any]:
        """Optuna's parameters of settings that no trial has had; none where those that the sampler draws first are such."""
        had = [t.user_attrs.get("settings") for t in self.trials]
        for draw in range(_DRAWS):
            probe = optuna.create_study(
                directions=self._study.directions,
                sampler=build_sampler(self._settings, self._seed, number, draw),
            )
            probe.add_trials(self.trials)
            trial = probe.ask()
            if space.draw(partial(suggest, trial), fits) not in had:
                return trial.params if draw else {}
        return {}

    def settings_of(self, number: int, space: Space, fits: Fits) -> Drawn:
        """The settings of a trial that was begun; drawn to their end where a kill came between."""
        trial = self.trial(number)
        if "settings" in trial.user_attrs:
            return dict(trial.user_attrs["settings"])
        self._study.sampler = build_sampler(self._settings, self._seed, number)
        return self._draw(optuna.Trial(self._study, trial._trial_id), space, fits)

    def _draw(self, trial: optuna.Trial, space: Space, fits: Fits) -> Drawn:
        drawn = space.draw(lambda options: suggest(trial, options), fits)
        trial.set_user_attr("settings", drawn)
        if "origin" not in trial.user_attrs:
            trial.set_user_attr("origin", "sampler")
        return drawn

    def enqueue(self, space: Space, fits: Fits, points: Sequence[tuple[str, Drawn]]) -> None:
        """Puts trials with these settings first, in this order, each once: also where a kill came between two of them."""
        there = {t.user_attrs.get("point") for t in self.trials}
        for origin, point in points:
            fixed: dict[str, Any] = {}
            drawn = space.draw(partial(_fix, point=point, fixed=fixed), fits)
            name = f"{origin} {json.dumps(drawn, sort_keys=True)}"
            if name not in there:
                self._study.enqueue_trial(fixed, user_attrs={"origin": origin, "point": name})

    def begin_attempt(self, number: int) -> None:
        """A process begins, or goes on with, a trial."""
        attempts = self.trial(number).user_attrs.get("attempts", [])
        self._set(number, "attempts", [*attempts, [_now(), _now()]])

    def report(self, number: int, epoch: int, value: float) -> None:
        """The value of the first objective after an epoch (1, 2, …)."""
        trial = self.trial(number)
        if len(self._settings.objectives) == 1:
            self._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
        else:
            # Optuna's TPE sorts stopped trials by their last value, which it cannot for several objectives: it raises.
            self._set(number, "values", {**trial.user_attrs.get("values", {}), str(epoch): value})
        self._still_there(trial)

    def _still_there(self, trial: FrozenTrial) -> None:
        *before, last = trial.user_attrs.get("attempts", [[_now(), _now()]])
        self._set(trial.number, "attempts", [*before, [last[0], _now()]])

    def complete(self, number: int, values: Sequence[float]) -> None:
        """A trial has ended with these objectives, in the order of the settings."""
        self._still_there(self.trial(number))
        self._study.tell(number, list(values))

    def prune(self, number: int) -> None:
        """A trial was stopped by the scheduler."""
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """A trial has failed; reason: one sentence."""
        self._set(number, "reason", reason)
        self._study.tell(number, state=TrialState.FAIL)

    def keep(self, number: int, name: str, value: Any) -> None:
        """Keeps something with a trial."""
        self._set(number, name, value)

    def _set(self, number: int, name: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self.trial(number)._trial_id, name, value)


def values_by_epoch(trial: FrozenTrial) -> dict[int, float]:
    """Epoch → the first objective after it, as far as the trial has come."""
    own = trial.intermediate_values
    return dict(own) or {int(e): v for e, v in trial.user_attrs.get("values", {}).items()}


def build_sampler(settings: TuneSettings, seed: int, number: int, draw: int = 0) -> BaseSampler:
    """The sampler of one trial. A function of seed and number, so that a search that goes on draws as if never cut.

    draw: which of several draws for that trial, from 0; from `_DRAWS_OF_SAMPLER` on it is at random.
    """
    own = int(np.random.SeedSequence([seed, number, *([draw] if draw else [])]).generate_state(1)[0])
    if draw >= _DRAWS_OF_SAMPLER:
        return RandomSampler(seed=own)
    with warnings.catch_warnings():
        # `group` is marked experimental since version 2.8.
        warnings.simplefilter("ignore", ExperimentalWarning)
        if settings.sampler == "tpe":
            return TPESampler(
                seed=own, n_startup_trials=settings.startup_trials, multivariate=True, group=True, constant_liar=True,
            )  # fmt: skip
        if settings.sampler == "gp":
            return GPSampler(
                seed=own, n_startup_trials=settings.startup_trials, warn_independent_sampling=False
            )
    return RandomSampler(seed=own)


def suggest(trial: optuna.Trial, options: Options) -> Any:
    """Draws one value; choices that are no plain values go by their JSON."""
    if options.choices:
        plain = [_plain(choice) for choice in options.choices]
        return options.choices[plain.index(trial.suggest_categorical(options.label, plain))]
    if options.integer:
        return trial.suggest_int(options.label, int(options.low), int(options.high), log=options.log)
    return trial.suggest_float(options.label, options.low, options.high, log=options.log)


def _plain(choice: Any) -> str | int | float | bool | None:
    return choice if choice is None or isinstance(choice, (str, int, float)) else json.dumps(choice)


def contains(options: Options, value: Any) -> bool:
    """Whether a value is among the options."""
    if options.choices:
        return value in options.choices
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = not options.integer or float(value).is_integer() if number else False
    return number and whole and options.low <= value <= options.high


def _fix(options: Options, point: Mapping[str, Any], fixed: dict[str, Any]) -> Any:
    """The point's value where the options hold it, noted in `fixed`; else something that the sampler draws anew."""
    name = options.label.partition(" ")[0]
    if name in point and contains(options, point[name]):
        fixed[options.label] = _plain(point[name]) if options.choices else point[name]
        return point[name]
    return options.choices[0] if options.choices else options.low


def _open_storage(out: Folder, url: str | None) -> BaseStorage:
    if url is not None:
        try:
            return RDBStorage(url)
        except Exception as error:  # noqa: BLE001  each database has errors of its own
            raise InputError(
                f"tune.storage: {url!r} cannot be opened ({reason_of(error)}); give a database URL such as "
                "sqlite:///study.db, or null for a journal in out."
            ) from None
    if not out.is_local:
        raise InputError(
            f"tune.storage: {out} is no local directory, and a journal of Optuna needs one; give the URL of a database."
        )
    path = out.full(JOURNAL)
    os.makedirs(out.path, exist_ok=True)
    mend_journal(path)
    return JournalStorage(JournalFileBackend(path))


def mend_journal(path: str) -> None:
    """Takes back what a kill left behind: a last line that was not written to its end, and the lock of the dead writer.

    Optuna would read the next line as part of the first, and wait half a minute for the lock. Only for the search's own process, which
    holds the lock of the study.
    """
    if os.path.lexists(f"{path}.lock"):
        os.unlink(f"{path}.lock")
    if not os.path.exists(path):
        return
    with open(path, "r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)


def is_finite(value: float | None) -> bool:
    """Whether a score can be told to Optuna."""
    return value is not None and math.isfinite(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
