"""What a training asks of a cluster, in the units that Ray counts. Pure: no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray_cxr.stream.read import READ_TASK_CPUS, READS_AT_ONCE

CPUS_PER_WORKER = 1.0
READING_CPUS = READS_AT_ONCE * READ_TASK_CPUS
"""Beside the workers, for the tasks that read films: without them the stream of a training stands still."""


@dataclass(frozen=True)
class Needs:
    """What must be free at once: a `bundle` for each worker, and READING_CPUS for the reading of films."""

    workers: int
    gpu: bool

    @property
    def bundle(self) -> dict[str, float]:
        """What one worker takes."""
        return {"CPU": CPUS_PER_WORKER, **({"GPU": 1.0} if self.gpu else {})}

    @property
    def cpus(self) -> float:
        """Workers that take every CPU would starve Ray Data, which reads films for them."""
        return self.workers * CPUS_PER_WORKER + READING_CPUS

    @property
    def gpus(self) -> int:
        return self.workers if self.gpu else 0

    def missing(self, have: Mapping[str, float]) -> str | None:
        """The sentence that says what a cluster with these resources lacks; None: it has enough."""
        cpus, gpus = have.get("CPU", 0), have.get("GPU", 0)
        if gpus < self.gpus:
            return f"train.gpu: {self.workers} workers need {self.gpus} GPUs, but the cluster has {gpus:g}"
        if cpus < self.cpus:
            return (
                f"train.workers: {self.workers} workers and the reading of films need {self.cpus:g} CPUs, but the cluster "
                f"has {cpus:g}"
            )
        return None
