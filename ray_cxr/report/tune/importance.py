"""How much each searched setting mattered, by Optuna's PED-ANOVA (Watanabe et al., IJCAI 2023).

Settings that apply to some trials only are what Optuna 5's evaluator was extended for (conditional PED-ANOVA). Pure.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

FEWEST = 10
"""Trials that must have reached an epoch before anything is said of what mattered at it."""
_TOP = 5
"""Trials that count as good, at least: with fewer, PED-ANOVA follows each of them."""


@dataclass(frozen=True)
class Seen:
    """A trial for this purpose: dotted setting → value, and its scores by epoch."""

    parameters: Mapping[str, Any]
    scores: Mapping[int, float]


@dataclass(frozen=True)
class Importance:
    """shares: setting → 0..1, largest first. epoch: scores after this epoch of so many trials were looked at."""

    shares: Mapping[str, float]
    epoch: int
    trials: int
    top: int
    """So many of the trials count as good."""


def importance(
    trials: Sequence[Seen], bounds: Mapping[str, Any], *, maximize: bool = True
) -> Importance | None:
    """What mattered for the score after the last epoch that at least `FEWEST` trials came to; None if there is none.

    A search stops most trials early. To look at the finished ones alone would leave too few, so trials are compared at
    an epoch that enough of them have seen. bounds: dotted setting → low, high, log, of ranges alone.
    """
    epoch = common_epoch([t.scores for t in trials])
    if epoch is None:
        return None
    seen = [t for t in trials if epoch in t.scores]
    names = sorted({name for t in seen for name in t.parameters})
    kinds = {
        n: distribution([t.parameters[n] for t in seen if n in t.parameters], bounds.get(n)) for n in names
    }
    varied = {n: kind for n, kind in kinds.items() if not kind.single()}
    if not varied:
        return None
    made = [_optuna_trial(t, varied, t.scores[epoch]) for t in seen]
    top = max(_TOP, math.ceil(0.1 * len(seen)))
    return Importance(_shares(made, top, "maximize" if maximize else "minimize"), epoch, len(seen), top)


def common_epoch(scores: Sequence[Mapping[int, float]]) -> int | None:
    """The last epoch that at least `FEWEST` trials came to."""
    counts: dict[int, int] = {}
    for by_epoch in scores:
        for epoch in by_epoch:
            counts[epoch] = counts.get(epoch, 0) + 1
    return max((epoch for epoch, count in counts.items() if count >= FEWEST), default=None)


def distribution(values: Sequence[Any], given: Mapping[str, Any] | None) -> BaseDistribution:
    """Where a setting's values came from: the bounds that the space gives, else the values seen."""
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if given is not None and len(numbers) == len(values):
        low, high = min(given["low"], *numbers), max(given["high"], *numbers)
        log = bool(given.get("log"))
        if all(isinstance(v, int) for v in numbers):
            return IntDistribution(int(low), int(high), log=log)
        return FloatDistribution(float(low), float(high), log=log)
    return CategoricalDistribution(sorted({_text(v) for v in values}))


def _optuna_trial(
    trial: Seen, kinds: Mapping[str, BaseDistribution], value: float
) -> optuna.trial.FrozenTrial:
    own = {name: kind for name, kind in kinds.items() if name in trial.parameters}
    parameters = {
        name: _text(trial.parameters[name])
        if isinstance(kind, CategoricalDistribution)
        else trial.parameters[name]
        for name, kind in own.items()
    }
    return optuna.trial.create_trial(params=parameters, distributions=own, value=value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shares(
    trials: Sequence[optuna.trial.FrozenTrial], top: int, direction: Literal["maximize", "minimize"]
) -> dict[str, float]:
    evaluator = PedAnovaImportanceEvaluator(target_quantile=top / len(trials))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would say that a study was made
    try:
        study = optuna.create_study(direction=direction)
        study.add_trials(trials)
        with warnings.catch_warnings():
            # It warns of settings that few trials have: their share is small then.
            warnings.simplefilter("ignore", UserWarning)
            shares = get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {name: float(share) for name, share in shares.items()}
