"""Progress of a training across processes: rank 0 writes `progress.json` now and then, the driver follows it.

A file needs no extra process and works wherever the run directory can be seen by both. Events by `kind`: `note`, `resumed`,
`epoch`, which are all told; `step` and `validation`, which are worth telling while they are the newest. By a file,
too, a training that a search has no more use for is asked to end, and one whose cluster changes is asked to move.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ray_cxr.errors import RayCxrError
from ray_cxr.storage import Folder, UnreachableError

NAME = "progress.json"
PASSING = ("step", "validation")
"""Kinds of events that the next one takes the place of."""
STOP = "stop-training"
"""A file of this name in the run directory ends the training at one of the next steps; what it holds says why it shall go on elsewhere."""
_TOLD = ("epoch", "train_loss", "validation_loss", "mean_auroc", "best", "images_per_s", "seconds")
_LOCAL_INTERVAL_S = 0.5
_URL_INTERVAL_S = 5.0


class StoppedError(RayCxrError):
    """The training was asked to end; what it has saved stays."""


def ask_to_stop(run: Folder) -> None:
    """Ends the training of a run, wherever its workers are, with `StoppedError`."""
    run.write_bytes(STOP, b"")


class MovedError(RayCxrError):
    """The training was asked to go on with other workers, and can from where it was; its message says why."""


def ask_to_move(run: Folder, why: str) -> None:
    """Ends the training of a run with `MovedError`, once it has saved."""
    run.write_bytes(STOP, why.encode())


def forget_wishes(run: Folder) -> None:
    """Takes back that a training shall move; that it shall end stays."""
    if run.exists(STOP) and run.read_bytes(STOP):
        run.remove(STOP)


def told(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each line of a history what a person is shown when a run goes on."""
    return [{name: line[name] for name in _TOLD if name in line} for line in history]


class ProgressFile:
    """Rank 0's end: keeps what stays, and the newest of what passes; written at most twice a second.

    Raises StoppedError where the run was asked to end, and MovedError where it was asked to move: after a step or an epoch that is
    not the last, when its state can be saved.
    """

    def __init__(self, run: Folder) -> None:
        self._run = run
        self._interval_s = _LOCAL_INTERVAL_S if run.is_local else _URL_INTERVAL_S
        self._events: list[dict[str, Any]] = []
        self._written = 0.0
        self._attempt = time.time_ns()

    def __call__(self, event: dict[str, Any]) -> None:
        if self._events and self._events[-1]["kind"] in PASSING:
            self._events.pop()
        self._events.append(event)
        now = time.monotonic()
        if event["kind"] not in PASSING or now - self._written >= self._interval_s:
            self._written = now
            # A store that is away for a moment is told next time; training does not wait for it.
            with suppress(UnreachableError):
                written = {"attempt": self._attempt, "events": self._events}
                self._run.write_bytes(NAME, json.dumps(written).encode(), patient=False)
                if self._run.exists(STOP, patient=False):
                    self._obey(event)

    def _obey(self, event: dict[str, Any]) -> None:
        why = self._run.read_bytes(STOP).decode()
        if not why:
            raise StoppedError("the training was asked to end.")
        between_steps = event["kind"] == "step" and event["step"] < event["steps"]
        between_epochs = event["kind"] == "epoch" and event["epoch"] < event["epochs"]
        if between_steps or between_epochs:
            raise MovedError(why)


class ProgressFollower:
    """The driver's end: calls `show` with each event once, from a thread, while the `with` block runs."""

    def __init__(self, run: Folder, show: Callable[[dict[str, Any]], None]) -> None:
        self._run, self._show = run, show
        self._interval_s = _LOCAL_INTERVAL_S if run.is_local else _URL_INTERVAL_S
        self._done = threading.Event()
        self._shown = 0
        self._attempt = 0
        self._passed: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._follow, daemon=True, name="progress")

    def __enter__(self) -> ProgressFollower:
        for name in (NAME, STOP):
            self._run.remove(name)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()
        for name in (NAME, STOP):
            self._run.remove(name)

    def _follow(self) -> None:
        while not self._done.wait(self._interval_s):
            self._look()

    def _look(self) -> None:
        try:
            written: dict[str, Any] = self._run.read_json(NAME)
        # Not there yet, between two writes on a store without rename, or the store does not answer.
        except (OSError, ValueError, UnreachableError):
            return
        if written["attempt"] != self._attempt:  # the workers were started, or started again
            self._attempt, self._shown = written["attempt"], 0
        events: list[dict[str, Any]] = written["events"]
        kept = [e for e in events if e["kind"] not in PASSING]
        for event in kept[self._shown :]:
            self._show(event)
        self._shown = len(kept)
        if events and events[-1]["kind"] in PASSING and events[-1] != self._passed:
            self._passed = events[-1]
            self._show(self._passed)
