"""Room for a training on a cluster: is there, is brought by an autoscaler, or is missing and said so; and how it changes.

While a training runs, `moving` looks whether a node will be taken away, or whether there is room for more workers; then
training saves, and is begun anew with the workers that there is room for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray._private.state import available_resources_per_node, state
from ray.autoscaler.sdk import request_resources

from ray_cxr.errors import InputError
from ray_cxr.ray_session import is_own_ray
from ray_cxr.storage import Folder
from ray_cxr.train.progress import ask_to_move, forget_wishes
from ray_cxr.train.sizing import (
    READING_CPUS,
    ClusterNode,
    Needs,
    newly_leaving,
    workers_beside,
    workers_with_room,
)

_LOOK_EVERY_S = 2.0
_SETTLE_S = 10.0
"""What workers that have just died held is free again a moment later, and a node that is gone is missed a moment later."""
_SETTLE_LOOK_S = 0.2
Show = Callable[[dict[str, Any]], None]


def cluster_nodes() -> list[ClusterNode]:
    """The living nodes of the Ray that runs."""
    free, leaving = available_resources_per_node(), state.get_draining_nodes()
    return [
        ClusterNode(n["NodeID"], n["Resources"], free.get(n["NodeID"], {}), n["NodeID"] in leaving)
        for n in ray.nodes()
        if n["Alive"]
    ]


@contextmanager
def room(needs: Needs, wait_s: int, show: Show) -> Iterator[int]:
    """Gives the number of workers to begin with, once the cluster has what is needed; asks an autoscaler for the most that training
    takes, for the length of the block, where it was told that there is one.

    Ray itself would wait for ever for what a cluster does not have. Raises InputError where it is missing and nobody
    brings it within wait_s.
    """
    nodes = cluster_nodes()
    missing = needs.missing(_total(nodes))
    if missing is not None and wait_s == 0:
        raise InputError(
            f"{missing}; use fewer workers or a larger cluster, or train.wait_s=1800 where an autoscaler brings nodes."
        )
    asked = wait_s > 0 and workers_with_room(needs, nodes, free=False) < needs.most_workers
    try:
        if asked:
            request_resources(bundles=[needs.bundle] * needs.most_workers + [{"CPU": READING_CPUS}])
        if missing is not None:
            show({"kind": "note", "text": f"{missing}; asking its autoscaler, for up to {wait_s} s"})
            _wait(needs, wait_s)
        yield _workers_now(needs) if needs.elastic else needs.workers
    finally:
        # A request stands until it is taken back; nodes would be kept for nobody.
        if asked:
            request_resources(bundles=[])


def _total(nodes: list[ClusterNode]) -> dict[str, float]:
    """What the nodes that stay have together."""
    staying = [n.total for n in nodes if not n.leaving]
    return {what: sum(have.get(what, 0) for have in staying) for what in ("CPU", "GPU")}


def _wait(needs: Needs, wait_s: int) -> None:
    until = time.monotonic() + wait_s
    while (missing := needs.missing(_total(cluster_nodes()))) is not None:
        if time.monotonic() >= until:
            raise InputError(
                f"{missing}, and has not grown within train.wait_s={wait_s}; use fewer workers, wait longer, or look at "
                "the cluster's autoscaler."
            )
        time.sleep(_LOOK_EVERY_S)


def _workers_now(needs: Needs) -> int:
    """As many as are free, after a moment in which what is used becomes free; the fewest, where others use the cluster."""
    until = time.monotonic() + _SETTLE_S
    while True:
        nodes = cluster_nodes()
        there, free = (workers_with_room(needs, nodes, free=free) for free in (False, True))
        if free >= there or time.monotonic() >= until:
            return max(free, needs.workers)
        time.sleep(_SETTLE_LOOK_S)


@contextmanager
def moving(run: Folder, needs: Needs, workers: int, wait_s: int, grow_after_s: float) -> Iterator[None]:
    """While the block runs, asks the training of `run` to move where its cluster changes: it ends with MovedError."""
    if is_own_ray() and not needs.elastic:
        yield
        return
    over = threading.Event()
    looking = threading.Thread(
        target=_look, args=(over, run, needs, workers, wait_s, grow_after_s), daemon=True, name="cluster"
    )
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
        # A wish that came when training had ended by itself must not meet the next one.
        forget_wishes(run)


def _look(
    over: threading.Event, run: Folder, needs: Needs, workers: int, wait_s: int, grow_after_s: float
) -> None:
    known = frozenset(n.name for n in cluster_nodes() if n.leaving)
    steady_since = None
    while not over.wait(_LOOK_EVERY_S):
        nodes = list[ClusterNode]()
        # A control store that restarts does not answer for a while; the training itself tells where it is gone for good.
        with suppress(ray.exceptions.RayError, ConnectionError, TimeoutError):
            nodes = cluster_nodes()
        leaving = newly_leaving(nodes, known)
        elsewhere = workers_with_room(needs, nodes, free=False)
        # With nowhere to go and nobody to bring a node, each step until the node's end is one more.
        if leaving and (wait_s or elsewhere >= needs.workers):
            return ask_to_move(run, "a node of the cluster will be taken away")
        known |= set(leaving)
        could = workers_beside(needs, workers, nodes)
        if could == workers:
            steady_since = None
            continue
        steady_since = time.monotonic() if steady_since is None else steady_since
        if time.monotonic() - steady_since >= grow_after_s:
            return ask_to_move(run, f"the cluster has room for {could} workers")
