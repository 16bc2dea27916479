"""What a person sees while folds train beside each other: a count of epochs over all folds, and a line for each that ends."""

from __future__ import annotations

import threading
from typing import Any

from ray_cxr.console import ConsoleProgress


class FoldProgress:
    """Shows the events of a cross-validation; called from several threads."""

    def __init__(self, progress: ConsoleProgress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._epochs = 0
        self._done: dict[int, int] = {}
        """Epochs done, by fold."""
        self._places: dict[int, str] = {}
        """Where each fold that trains stands, in words."""

    def __call__(self, event: dict[str, Any]) -> None:
        with self._lock:
            known = {
                "folds": self._folds, "note": self._note, "step": self._step, "validation": self._validation,
                "epoch": self._epoch, "end": self._end,
            }  # fmt: skip
            if event["kind"] in known:
                known[event["kind"]](event)

    def _folds(self, event: dict[str, Any]) -> None:
        self._epochs, self._done = event["epochs"], dict(event["standing"])
        begun = sum(done > 0 for done in self._done.values())
        if begun:
            self._progress.say(f"going on: {begun} of {event['folds']} folds have been begun or are done")
        self._progress.start("training epochs", event["epochs"] * event["folds"])
        self._count()

    def _note(self, event: dict[str, Any]) -> None:
        fold = f"fold {event['fold']}: " if "fold" in event else ""
        self._progress.say(f"{fold}{event['text']}")

    def _step(self, event: dict[str, Any]) -> None:
        self._places[event["fold"]] = (
            f"fold {event['fold']}: epoch {event['epoch']}, step {event['step']}/{event['steps']}"
        )
        self._count()

    def _validation(self, event: dict[str, Any]) -> None:
        self._places[event["fold"]] = f"fold {event['fold']}: epoch {event['epoch']}, its own films"
        self._count()

    def _epoch(self, event: dict[str, Any]) -> None:
        best = ", best so far" if event["best"] else ""
        self._progress.say(
            f"fold {event['fold']}, epoch {event['epoch']}/{event['epochs']}: loss {event['train_loss']:.4f}, "
            f"mean AUROC on the fold {event['mean_auroc']:.4f}{best} ({event['images_per_s']:.0f} films/s)"
        )
        self._done[event["fold"]] = event["epoch"]
        self._count()

    def _end(self, event: dict[str, Any]) -> None:
        self._places.pop(event["fold"], None)
        if event["error"]:
            self._progress.say(f"fold {event['fold']} failed: {event['error']}")
        else:
            self._done[event["fold"]] = self._epochs  # early stopping leaves some out
        self._count()

    def _count(self) -> None:
        self._progress.update(
            sum(self._done.values()), "; ".join(self._places[f] for f in sorted(self._places))
        )
