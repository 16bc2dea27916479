"""Asynchronous successive halving: whether a trial that is behind at a rung is stopped (Li et al., MLSys 2020).

Ray Tune's own scheduler decides, outside of its controller: fed with what the study knows, so that a search that goes on
decides as if it had never been cut. The scheduler of a controller would begin with empty rungs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

_EPOCH, _VALUE = "epoch", "value"


@dataclass(frozen=True)
class _Named:
    """All that the scheduler looks at of a trial."""

    trial_id: str


class Halving:
    """The rungs and what came to each. Epochs count from 1."""

    def __init__(self, epochs: int, grace_epochs: int, reduction_factor: int) -> None:
        # max_t must exceed the last epoch: a trial that comes to it would be stopped, which is not what it deserves.
        self._scheduler = AsyncHyperBandScheduler(
            time_attr=_EPOCH,
            metric=_VALUE,
            mode="max",
            max_t=epochs + 1,
            grace_period=min(grace_epochs, epochs),
            reduction_factor=reduction_factor,
        )
        self._seen: set[int] = set()

    def restore(self, number: int, values: Mapping[int, float]) -> None:
        """What a trial had after each of its epochs; decisions that were made are not made again."""
        for epoch, value in sorted(values.items()):
            self.stops(number, epoch, value)

    def stops(self, number: int, epoch: int, value: float) -> bool:
        """Whether a trial with this value after this epoch is to be stopped. Each epoch is to be asked about once."""
        trial = _Named(str(number))
        if number not in self._seen:
            self._seen.add(number)
            self._scheduler.on_trial_add(None, trial)
        decision = self._scheduler.on_trial_result(None, trial, {_EPOCH: epoch, _VALUE: value})
        return bool(decision == TrialScheduler.STOP)
