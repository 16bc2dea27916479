"""Where a worker is: epoch, step, what it does there and since when. Noted by the loop, read by another thread.

A note is one assignment and costs a microsecond, so that every step can afford some.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Doing = Literal["start", "films", "compute", "others", "telling", "validation", "saving", "done"]
"""`others`: its own part is done, and it waits for the others. `telling`: it writes its progress."""
_USUAL_OF = 16
"""Steps whose median is the usual one."""


@dataclass(frozen=True)
class Here:
    """A place as it is noted. step: from 1; 0 where it is none."""

    doing: Doing
    epoch: int
    step: int
    since: float
    """By the clock of the process."""
    marks: int
    """Notes so far: a worker that gets on makes new ones."""


class Place:
    """A worker's place. Its own thread writes, any other may read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._here = Here("start", 0, 0, clock(), 0)
        self._steps: deque[float] = deque(maxlen=_USUAL_OF)
        self._step_begun = 0.0
        self._hook: torch.utils.hooks.RemovableHandle | None = None
        self._own_part: torch.cuda.Event | None = None

    def at(self, doing: Doing, epoch: int | None = None, step: int | None = None) -> None:
        """Notes what the worker does from now on; without epoch and step, where it was."""
        before, now = self._here, self._clock()
        epoch = before.epoch if epoch is None else epoch
        step = before.step if step is None else step
        if doing == "films":
            if (epoch, step - 1) == (before.epoch, before.step):
                self._steps.append(now - self._step_begun)
            self._step_begun = now
        self._here = Here(doing, epoch, step, now, before.marks + 1)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what returns when all the other workers have come, too."""
        doing = self._here.doing
        self.at("others")
        yield
        self.at(doing)

    def watch_gradient_of(self, first: Tensor) -> None:
        """From now on a step's own part is done when the gradient of this parameter is: the last one to come.

        Then DDP waits for the other workers, inside the backward pass.
        """
        if self._hook is not None:
            self._hook.remove()
        self._own_part = torch.cuda.Event() if first.is_cuda else None  # type: ignore[no-untyped-call]
        self._hook = first.register_post_accumulate_grad_hook(self._own_part_done)  # type: ignore[no-untyped-call]

    def _own_part_done(self, parameter: Tensor) -> None:
        if self._own_part is not None:
            self._own_part.record()
        self.at("others")

    @property
    def here(self) -> Here:
        """Where the worker is. A GPU works behind its process, and is not waiting before it has come as far."""
        here = self._here
        if here.doing == "others" and self._own_part is not None and not self._own_part.query():  # type: ignore[no-untyped-call]
            return Here("compute", here.epoch, here.step, here.since, here.marks)
        return here

    @property
    def usual_step_s(self) -> float | None:
        """The median of the last steps; None before there are any."""
        steps = list(self._steps)
        return statistics.median(steps) if steps else None
