"""How many trials there is room for at once. Pure: a function of what the nodes have and what a trial needs.

Ray would let trials wait for each other for ever where each has a part of what it needs: what is allowed here always fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ray_cxr.crossval.room import PROCESS_BYTES, Node
from ray_cxr.errors import InputError


@dataclass(frozen=True)
class Need:
    """What a trial needs: processes with so many CPUs and GPUs each, and CPUs for reading films beside them."""

    cpus: float
    gpus: float = 0.0
    workers: int = 1
    reading_cpus: float = 0.0

    def __str__(self) -> str:
        gpus = f" and {self.workers * self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.workers * self.cpus + self.reading_cpus:g} CPUs{gpus}"


def trials_at_once(nodes: Sequence[Node], need: Need, asked: int | Literal["auto"]) -> int:
    """Trials that run together, at most `asked`. Raises InputError where there is no room for one."""
    places = sum(_processes(node, need) for node in nodes)
    at_once = places // need.workers
    if need.reading_cpus:
        cpus = sum(node.cpus for node in nodes)
        at_once = min(at_once, int((cpus + 1e-9) // (need.workers * need.cpus + need.reading_cpus)))
    if at_once < 1:
        have = f"{sum(n.cpus for n in nodes):g} CPUs and {sum(n.gpus for n in nodes):g} GPUs on {len(nodes)} nodes"
        raise InputError(
            f"tune.concurrency: a trial needs {need}, but there are {have}; use fewer train.workers, a smaller tune.cpus_per_trial or "
            "tune.gpus_per_trial, or a larger cluster."
        )
    return at_once if asked == "auto" else min(at_once, asked)


def cpus_of_trial(nodes: Sequence[Node], gpus: float, asked: int | Literal["auto"]) -> float:
    """CPUs of a trial with one worker, where nobody says: its part of the node, where it is clear what that is, else 1."""
    if asked != "auto":
        return max(1.0, nodes[0].cpus // asked) if len(nodes) == 1 else 1.0
    if gpus:
        # Each GPU's trial reads films with its share of the node's CPUs.
        shares = [n.cpus // max(n.gpus / gpus, 1) for n in nodes if n.gpus]
        return max(1.0, min(shares, default=1.0))
    return 1.0


def _processes(node: Node, need: Need) -> int:
    """Processes of a trial that fit on a node."""
    limits = [node.cpus / need.cpus if need.cpus else float("inf")]
    if need.gpus:
        # Fractions are Ray's: two trials of 0.5 share a GPU, of 0.4 too.
        limits.append(node.gpus // 1 * (1 // need.gpus) if need.gpus < 1 else node.gpus // need.gpus)
    if node.memory_bytes is not None:
        limits.append(max(1.0, node.memory_bytes / PROCESS_BYTES) if need.workers == 1 else float("inf"))
    return int(min(limits) + 1e-9)
