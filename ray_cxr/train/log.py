"""`log.jsonl`: what happened in a run, one JSON object a line, for programs that collect logs.

Written by the process that drives the training, from the events that it shows. No patient, no film: a film is named by its row
in the index, as everywhere. No host, but the node of a worker that stands still, since somebody has to look there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ray_cxr import __version__
from ray_cxr.errors import RayCxrError
from ray_cxr.storage import Folder

NAME = "log.jsonl"
JOB_VARIABLE = "RAY_CXR_JOB"
"""Environment variable: the id under which a cluster knows this command."""
_STEP_INTERVAL_S = 30.0
_FIELDS = {
    "note": ("text",),
    "resumed": ("epochs",),
    "step": ("epoch", "step", "steps", "loss", "images_per_s", "wait_share"),
    "epoch": (
        "epoch", "epochs", "step", "films", "train_loss", "validation_loss", "mean_auroc", "best", "learning_rate",
        "images_per_s", "storage_retries", "seconds",
    ),
}  # fmt: skip


def run_id(out: Folder) -> str:
    """Twelve hex digits that name a run in logs and metrics: a function of its place, so that they stay when it goes on."""
    return hashlib.sha256(out.url.encode()).hexdigest()[:12]


class RunLog:
    """Shows each event of a training and writes it down; steps every half a minute, all else at once."""

    def __init__(self, run: Folder, show: Callable[[dict[str, Any]], None]) -> None:
        self._run, self._show = run, show
        job = os.environ.get(JOB_VARIABLE)
        self._head = {"run": run_id(run)} | ({"job": job} if job else {})
        self._step_written = 0.0
        # An object store knows no appending: there the whole log is written again, without a line for each step.
        self._before = b"" if run.is_local or not run.exists(NAME) else run.read_bytes(NAME)

    def __enter__(self) -> RunLog:
        self._write("started", "info", {"ray_cxr": __version__})
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._write("ended", "info", {})
        else:
            # Only our own sentences are known to name no patient.
            text = error.message if isinstance(error, RayCxrError) else type(error).__name__
            self._write("failed", "error", {"text": text})

    def __call__(self, event: dict[str, Any]) -> None:
        self._show(event)
        kind = event["kind"]
        if kind not in _FIELDS:  # how far a validation is, is worth telling only while it lasts
            return
        now = time.monotonic()
        if kind == "step" and (not self._run.is_local or now - self._step_written < _STEP_INTERVAL_S):
            return
        if kind == "step":
            self._step_written = now
        level = "warning" if "warning:" in event.get("text", "") else "info"
        self._write(kind, level, {f: event[f] for f in _FIELDS[kind] if f in event})

    def _write(self, event: str, level: str, fields: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": level, **self._head, "event": event, **fields}
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        if self._run.is_local:
            self._run.append_bytes(NAME, data)
        else:
            self._before += data
            self._run.write_bytes(NAME, self._before)
