"""Figures of a running training for Prometheus, through the metrics agent that Ray has on every node.

`cluster/grafana-dashboard.json` draws them. Each worker sets its own, tagged with the run's id and its rank; a value is
set twice a second at most, so that steps of a millisecond do not pay for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.util.metrics import Counter, Gauge

from ray_cxr.stream.plan import World

PREFIX = "cxr_"
"""Ray puts `ray_` before it, so that Prometheus knows `ray_cxr_…`."""
OF_THE_RUN = {
    "films_per_second": "Training films per second over all workers, since the epoch began.",
    "train_loss": "Training loss of the newest step.",
    "epoch": "Epoch that is being trained, from 1.",
    "epochs": "Epochs that the job asks for.",
    "step": "Step of this epoch, from 1.",
    "steps": "Steps of this epoch.",
    "validation_loss": "Loss over the validation films after the newest epoch.",
    "validation_auroc": "Mean AUROC over findings of the validation films after the newest epoch.",
}
"""Gauges that rank 0 sets."""
OF_A_WORKER = {
    "wait_share": "Share of the training time of this epoch that this worker has waited for films.",
    "step_time": "Time (Unix, s) at which this worker ended its newest step: one that stands still is stalled.",
}
"""Gauges that every worker sets."""
COUNTED = {"steps_total": "Steps that this worker has trained since it was started."}
_INTERVAL_S = 0.5
Report = Callable[[dict[str, Any]], None]


class Watch:
    """A worker's `report` that also sets metrics."""

    def __init__(self, run: str, world: World, report: Report) -> None:
        self._report, self._is_first = report, world.rank == 0
        self._of_run = _gauges(OF_THE_RUN, {"run": run}) if self._is_first else {}
        worker = {"run": run, "rank": str(world.rank)}
        self._of_worker = _gauges(OF_A_WORKER, worker)
        self._steps = Counter(f"{PREFIX}steps_total", COUNTED["steps_total"], tuple(worker))
        self._steps.set_default_tags(worker)
        self._set_at, self._uncounted = 0.0, 0

    def __call__(self, event: dict[str, Any]) -> None:
        if event["kind"] == "step":
            self._step(event)
        elif event["kind"] == "epoch":
            self._set(
                {
                    "epochs": event["epochs"],
                    "validation_loss": event["validation_loss"],
                    "validation_auroc": event["mean_auroc"],
                }
            )
        self._report(event)

    def _step(self, event: dict[str, Any]) -> None:
        self._uncounted += 1
        now = time.monotonic()
        if now - self._set_at < _INTERVAL_S and event["step"] < event["steps"]:
            return
        self._set_at = now
        self._steps.inc(self._uncounted)
        self._uncounted = 0
        self._of_worker["wait_share"].set(event["wait_share"])
        self._of_worker["step_time"].set(time.time())
        self._set(
            {
                "films_per_second": event["images_per_s"],
                "train_loss": event["loss"],
                "epoch": event["epoch"],
                "step": event["step"],
                "steps": event["steps"],
            }
        )

    def _set(self, values: dict[str, float]) -> None:
        if self._is_first:
            for name, value in values.items():
                self._of_run[name].set(value)


def _gauges(described: dict[str, str], tags: dict[str, str]) -> dict[str, Gauge]:
    gauges = {}
    for name, text in described.items():
        gauges[name] = Gauge(f"{PREFIX}{name}", text, tuple(tags))
        gauges[name].set_default_tags(tags)
    return gauges
