"""Figures of a training for TensorBoard, an extra that `train.tensorboard` switches on.

Reads: the events of `Worker.report`. Writes: event files in `tensorboard/` of the run directory, one for each start. TensorBoard's
own writer would put the machine's name into a file's name, so only its record format is taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO, FileIO
from typing import Any

from ray_cxr.errors import InputError, reason_of
from ray_cxr.storage import Folder
from ray_cxr.train.settings import Recipe
from ray_cxr.train.worker import Worker

NAME = "tensorboard"


def check_tensorboard() -> None:
    """Raises InputError where the extra is not installed."""
    if find_spec("tensorboard") is None:
        raise InputError(
            "train.tensorboard: got true, but the package tensorboard is not installed; "
            "pip install 'ray_cxr[tensorboard]', or leave the setting out."
        )


@contextmanager
def reporting_to_tensorboard(recipe: Recipe, worker: Worker) -> Iterator[Worker]:
    """The worker; where the job asks for it, what rank 0 reports also goes to event files."""
    if not (recipe.train.tensorboard and worker.is_first):
        yield worker
        return
    with closing(EventFile(Folder(recipe.out) / NAME)) as events:

        def report(event: Mapping[str, Any]) -> None:
            worker.report(dict(event))
            try:
                events.take(event)
            except (OSError, InputError) as error:
                events.give_up()
                text = f"no more figures for TensorBoard: {reason_of(error)}; training goes on"
                worker.report({"kind": "note", "text": text})

        yield replace(worker, report=report)


class EventFile:
    """An event file of one start of a training: a local one grows, one at a URL is written whole after each epoch."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._name = f"events.out.tfevents.{time.time_ns()}"
        self._file: BytesIO | FileIO | None = None
        self._given_up = False

    def take(self, event: Mapping[str, Any]) -> None:
        """Writes the figures of a step or an epoch; other events have none. Raises OSError, InputError."""
        if self._given_up or not (figures := figures_of(event)):
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        step = event["trained_steps"] if event["kind"] == "step" else event["step"]
        if self._file is None:
            self._begin(step)
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        self._write(step=step, summary=Summary(value=values))
        if isinstance(self._file, BytesIO) and event["kind"] == "epoch":
            self._folder.write_bytes(self._name, self._file.getvalue())

    def _begin(self, step: int) -> None:
        """Tells TensorBoard to forget what an earlier start has written of this step and later ones."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        if self._folder.is_local:
            os.makedirs(self._folder.path, exist_ok=True)
            self._file = open(f"{self._folder.path}/{self._name}", "xb", buffering=0)  # noqa: SIM115
        else:
            self._file = BytesIO()
        self._write(file_version="brain.Event:2")
        self._write(step=step, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        RecordWriter(self._file).write(Event(wall_time=time.time(), **content).SerializeToString())

    def give_up(self) -> None:
        """Writes no more."""
        self._given_up = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def figures_of(event: Mapping[str, Any]) -> dict[str, float]:
    """Name in TensorBoard → figure, of a step or an epoch; what could not be measured is left out."""
    if event["kind"] == "step":
        return {
            "loss/step": event["loss"],
            "speed/films_per_s": event["images_per_s"],
            "speed/share_waiting": event["wait_share"],
        }
    if event["kind"] != "epoch":
        return {}
    found = {
        "loss/training": event["train_loss"],
        "loss/validation": event["validation_loss"],
        "learning_rate": event["learning_rate"],
        "auroc/mean": event["mean_auroc"],
        **{f"auroc/{finding}": value for finding, value in event["auroc"].items()},
    }
    return {name: value for name, value in found.items() if value is not None}
