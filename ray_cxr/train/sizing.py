"""What a training asks of a cluster, in the units that Ray counts, and how many workers it begins or goes on with. Pure: no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray_cxr.stream.plan import canonical_streams
from ray_cxr.stream.read import READ_TASK_CPUS, READS_AT_ONCE

CPUS_PER_WORKER = 1.0
READING_CPUS = READS_AT_ONCE * READ_TASK_CPUS
"""Beside the workers, for the tasks that read films: without them the stream of a training stands still."""
FILMS_OF_A_WORKER = 8
"""`auto` leaves each worker so many films of a step at least: with fewer it would mostly wait for the others."""


@dataclass(frozen=True)
class Needs:
    """What must be free at once: a `bundle` for each worker, and READING_CPUS for the reading of films.

    workers: the fewest that training begins with; most: those that it takes where there is room, None: no more than these.
    """

    workers: int
    gpu: bool
    most: int | None = None

    @property
    def most_workers(self) -> int:
        return self.workers if self.most is None else self.most

    @property
    def elastic(self) -> bool:
        return self.most_workers > self.workers

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
        workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
        if gpus < self.gpus:
            return f"train.gpu: {workers} need {self.gpus} GPUs, but the cluster has {gpus:g}"
        if cpus < self.cpus:
            return f"train.workers: {workers} and the reading of films need {self.cpus:g} CPUs, but the cluster has {cpus:g}"
        return None


@dataclass(frozen=True)
class ClusterNode:
    """A living node: what Ray counts on it in all, and what of that nobody has now. leaving: it will be taken away."""

    name: str
    total: Mapping[str, float]
    free: Mapping[str, float]
    leaving: bool = False

    @property
    def in_use(self) -> bool:
        """Whether something runs on it that takes a worker's part of its CPUs."""
        return self.total.get("CPU", 0) - self.free.get("CPU", 0) >= CPUS_PER_WORKER


def most_by_itself(nodes: Sequence[ClusterNode], batch_size: int, *, gpu: bool) -> int:
    """Workers of `train.workers: auto`, at most: one for each GPU or, without any, for each node, and no more than the films of a
    step give work to."""
    of_nodes = [int(n.total.get("GPU", 0)) if gpu else int(n.total.get("CPU", 0) >= 1) for n in nodes]
    return max(1, min(sum(of_nodes), canonical_streams(batch_size), batch_size // FILMS_OF_A_WORKER))


def workers_with_room(needs: Needs, nodes: Sequence[ClusterNode], *, free: bool) -> int:
    """Workers that fit on the nodes that stay, at most those asked for: by what is free or, else, by what there is."""
    staying = [n.free if free else n.total for n in nodes if not n.leaving]
    places = sum(
        min(int(have.get(what, 0) // much) for what, much in needs.bundle.items()) for have in staying
    )
    cpus = sum(have.get("CPU", 0) for have in staying)
    return max(0, min(needs.most_workers, places, int((cpus - READING_CPUS) // CPUS_PER_WORKER)))


def workers_beside(needs: Needs, workers: int, nodes: Sequence[ClusterNode]) -> int:
    """Workers that a training which has `workers` now could have in all, with what is free on the nodes that stay."""
    staying = [n for n in nodes if not n.leaving]
    more = sum(min(int(n.free.get(what, 0) // much) for what, much in needs.bundle.items()) for n in staying)
    cpus = sum(n.total.get("CPU", 0) for n in staying)
    most = min(needs.most_workers, int((cpus - READING_CPUS) // CPUS_PER_WORKER))
    return max(workers, min(workers + more, most))


def newly_leaving(nodes: Sequence[ClusterNode], known: frozenset[str]) -> list[str]:
    """Nodes that something runs on and that will be taken away, beside those of which that was known."""
    return [n.name for n in nodes if n.leaving and n.in_use and n.name not in known]
