"""Heartbeats of workers, through Ray's key-value store: each says every two seconds where it is, the driver listens.

The store belongs to Ray's control process, so that a heartbeat needs neither an actor nor the run's directory, which may be
what hangs. It is sent by a thread, so that a worker whose loop hangs still says where.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import ray
from ray.experimental import internal_kv

from ray_cxr.train.place import Doing
from ray_cxr.train.stall import BEAT_S, Beat, StallWatch
from ray_cxr.train.worker import Worker

_NAMESPACE = b"ray_cxr"
_END_S = 5.0
"""A store that does not answer holds nobody up for longer."""


@contextmanager
def heartbeat(run: str, worker: Worker) -> Iterator[None]:
    """Sends where the worker is, from a thread, while the `with` block runs. run: the id of the run."""
    over, number = threading.Event(), 0
    node, process = ray.util.get_node_ip_address(), os.getpid()

    def beat(doing: Doing | None = None) -> None:
        nonlocal number
        number, here, world = number + 1, worker.place.here, worker.world
        said = Beat(
            world.rank, world.size, node, process, number, doing or here.doing, here.epoch, here.step,
            round(time.monotonic() - here.since, 3), here.marks, worker.place.usual_step_s,
        )  # fmt: skip
        # What the store cannot take now, it may the next time; training does not depend on it.
        with suppress(Exception):
            key = f"{run}/{world.rank}".encode()
            internal_kv._internal_kv_put(key, json.dumps(asdict(said)).encode(), namespace=_NAMESPACE)

    def beat_on() -> None:
        while not over.wait(BEAT_S):
            beat()

    beat()
    thread = threading.Thread(target=beat_on, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_END_S)
        if not thread.is_alive():
            beat("done")


@contextmanager
def telling_of_stalls(run: str, show: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Shows a note of each worker that stands still, and when it goes on, while the `with` block runs. In the driver."""
    over, watch = threading.Event(), StallWatch()

    def listen() -> None:
        while not over.wait(BEAT_S):
            beats: list[Beat] = []
            # Without the store nothing is known of the workers; what becomes of them, the training's own end tells.
            with suppress(Exception):
                beats = _read(run)
            for text in watch.look(beats, time.monotonic()) if beats else ():
                show({"kind": "note", "text": text})

    _clear(run)
    thread = threading.Thread(target=listen, daemon=True, name="stalls")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_END_S)
        _clear(run)


def _read(run: str) -> list[Beat]:
    keys = internal_kv._internal_kv_list(f"{run}/".encode(), namespace=_NAMESPACE)
    if not keys:
        return []
    values = internal_kv.internal_kv_get_gcs_client().internal_kv_multi_get(keys, namespace=_NAMESPACE)
    return [Beat(**json.loads(value)) for value in values.values()]


def _clear(run: str) -> None:
    """Heartbeats of an earlier start say nothing of this one."""
    with suppress(Exception):
        internal_kv._internal_kv_del(f"{run}/".encode(), del_by_prefix=True, namespace=_NAMESPACE)
