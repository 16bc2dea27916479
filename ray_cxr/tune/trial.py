"""A trial as its process sees it: the training in a thread, which hands over an event and waits to be told to go on.

Reads: the data set; the run directory, which may hold the beginning of this trial. Writes: the run directory. An event is
`epoch` with its line of history.jsonl and the number of its run (0, or the fold), and at last `end`, or `failed` with the reason.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ray_cxr.config import to_yaml
from ray_cxr.errors import RayCxrError, reason_of
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.storage import Folder
from ray_cxr.train.alone import alone
from ray_cxr.train.loop import train
from ray_cxr.train.run import claim_run
from ray_cxr.train.settings import Recipe
from ray_cxr.train.worker import Worker
from ray_cxr.tune.records import read_lines

Event = dict[str, Any]
Train = Callable[[Recipe, Callable[[Event], None], threading.Event], None]
"""Trains a recipe to its end, or until the event is set; passes on the events of `Worker.report`."""

_DEAD_AFTER_S = 120.0
"""A process of this trial that is still there after a kill of the search ends with its cluster, well before this."""
_STOP_S = 60.0


def lock_name(run: str) -> str:
    """The file beside a run's directory that its process has locked."""
    return f".{run}.lock"


class _StopError(BaseException):
    """Unwinds the training loop, closing what it has open. No Exception: nothing on the way is to catch it."""


class TrialRun:
    """One trial, begun by its constructor. Call `next` until it gives `end` or `failed`, or `stop` at any time."""

    def __init__(self, trial: Folder, runs: Sequence[Recipe], train: Train, *, waits: bool = True) -> None:
        """trial: its directory. runs: one, or one of each fold. waits: for `next` after each epoch, before it trains on."""
        self._trial, self._runs, self._train, self._waits = trial, runs, train, waits
        self._events: queue.Queue[Event] = queue.Queue()
        self._go = threading.Semaphore(0)
        self._stopping = threading.Event()
        self._asked = False
        self._thread = threading.Thread(target=self._main, daemon=True, name="trial")
        self._thread.start()

    def next(self) -> Event:
        """Lets the training go on and gives its next event, waiting for it."""
        if self._asked:
            self._go.release()
        self._asked = True
        return self._events.get()

    def stop(self) -> bool:
        """Ends the training at its next step, and gives whether it has ended; what it saved stays."""
        self._stopping.set()
        self._go.release()
        self._thread.join(_STOP_S)
        return not self._thread.is_alive()

    def _main(self) -> None:
        parent, name = os.path.split(self._trial.url)
        try:
            with alone(Folder(parent), lock_name(name), f"the trial {self._trial}", wait_s=_DEAD_AFTER_S):
                for number, recipe in enumerate(self._runs):
                    self._one_run(number, recipe)
            last: Event = {"kind": "end"}
        except _StopError:
            return
        except RayCxrError as error:
            last = {"kind": "failed", "reason": error.message}
        except Exception as error:  # noqa: BLE001  whatever fails, fails this trial and not the search
            traceback.print_exc()
            last = {"kind": "failed", "reason": _reason(error)}
        self._events.put(last)

    def _one_run(self, number: int, recipe: Recipe) -> None:
        for line in read_lines(Folder(recipe.out)):
            self._hand_over({"kind": "epoch", "run": number, "line": line})
        claim_run(recipe, to_yaml(recipe), open_dataset(recipe.dataset, ("train", "validation"), recipe.fold))

        def on_event(event: Event) -> None:
            if event["kind"] != "epoch":
                if self._stopping.is_set() and self._waits:
                    raise _StopError
                return
            epoch = {"kind": "epoch", "run": number, "line": event}
            if self._waits:
                self._hand_over(epoch)
            else:
                self._events.put(epoch)

        self._train(recipe, on_event, self._stopping)

    def _hand_over(self, event: Event) -> None:
        self._events.put(event)
        self._go.acquire()
        if self._stopping.is_set():
            raise _StopError


def train_here(device: torch.device, threads: int) -> Train:
    """Trains in this process, as the only worker."""

    def run(recipe: Recipe, report: Callable[[Event], None], stopping: threading.Event) -> None:
        train(recipe, Worker(device=device, threads=threads, report=report))

    return run


def _reason(error: Exception) -> str:
    what = f"{type(error).__name__}: {reason_of(error)}"
    lacking = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
    return f"out of memory ({what})" if lacking else what
