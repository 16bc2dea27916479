"""How many folds there is room for at once. Pure: a function of what the nodes have and what a fold needs.

Two folds that each hold a part of what they need would wait for each other for ever: what is allowed here always fits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ray_cxr.errors import InputError

PROCESS_BYTES = int(1.5 * 2**30)
"""Memory that a process which trains alone is taken to need, beside the films: torch, timm and Ray take 0.6 GiB of it."""


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has. memory_bytes: None where nobody knows."""

    cpus: float
    gpus: float = 0.0
    memory_bytes: float | None = None


@dataclass(frozen=True)
class Room:
    """Folds at a time, and threads that each of their processes computes on."""

    at_once: int
    threads: int = 1


def room_for_folds(nodes: Sequence[Node], folds: int, *, gpu: bool) -> Room:
    """For folds that are one process each, with at least one CPU and, where `gpu`, one GPU.

    The folds go in as few rounds as they can, and with as many CPUs each as that leaves. CPUs are a function of all folds,
    also of those that are done, and not of the memory that is free now: a run that goes on computes on as many threads as
    before, and so gives the same figures. Raises InputError.
    """
    at_once = _in_rounds(folds, sum(_places(n, 1, gpu=gpu) for n in nodes))
    if not at_once:
        raise InputError(_no_room(nodes, 1, 1.0, gpu=gpu))
    most = int(max(n.cpus for n in nodes))
    fits = (c for c in range(most, 1, -1) if sum(_places(n, c, gpu=gpu) for n in nodes) >= at_once)
    cpus = next(fits, 1)
    in_memory = sum(min(_places(n, cpus, gpu=gpu), _in_memory(n)) for n in nodes)
    return Room(max(1, min(at_once, in_memory)), cpus)


def room_for_trainers(
    nodes: Sequence[Node], folds: int, workers: int, reading_cpus: float, *, gpu: bool
) -> Room:
    """For folds that are `workers` processes each, with a CPU (and a GPU) each and CPUs for reading films beside them."""
    cpus, all_cpus = workers + reading_cpus, sum(n.cpus for n in nodes)
    places = sum(_places(n, 1, gpu=gpu) for n in nodes)
    at_once = _in_rounds(folds, min(places // workers, int(all_cpus // cpus)))
    if not at_once:
        raise InputError(_no_room(nodes, workers, cpus, gpu=gpu))
    return Room(at_once, max(1, int(all_cpus // (at_once * workers))))


def _in_rounds(folds: int, most: int) -> int:
    """As few at a time as need no more rounds than `most` at a time do; 0 where there is no room."""
    return math.ceil(folds / math.ceil(folds / most)) if most else 0


def _places(node: Node, cpus: int, *, gpu: bool) -> int:
    """Processes with so many CPUs, and where `gpu` one GPU, that fit on a node."""
    return int(min(node.cpus // cpus, node.gpus if gpu else math.inf))


def _in_memory(node: Node) -> int:
    """One-worker folds that a node has the memory for."""
    return sys.maxsize if node.memory_bytes is None else int(node.memory_bytes // PROCESS_BYTES)


def _no_room(nodes: Sequence[Node], workers: int, cpus: float, *, gpu: bool) -> str:
    needs = f"{cpus:g} CPUs" + (f" and {workers} GPUs" if gpu else "")
    have = (
        f"{sum(n.cpus for n in nodes):g} CPUs and {sum(n.gpus for n in nodes):g} GPUs on {len(nodes)} nodes"
    )
    return f"train.workers: a fold needs {needs}, but there are {have}; use fewer workers, train.gpu=false or a larger cluster."
