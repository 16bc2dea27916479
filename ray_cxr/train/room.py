"""Room for a training on a cluster: is there, is brought by an autoscaler, or is missing and said so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from ray_cxr.errors import InputError
from ray_cxr.train.sizing import READING_CPUS, Needs

_LOOK_EVERY_S = 2.0
Show = Callable[[dict[str, Any]], None]


@contextmanager
def room(needs: Needs, wait_s: int, show: Show) -> Iterator[None]:
    """Goes on once the cluster has what is needed; asks an autoscaler for it for the length of the block.

    Ray itself would wait for ever for what a cluster does not have. Raises InputError where it is missing and nobody
    brings it within wait_s.
    """
    missing = needs.missing(ray.cluster_resources())
    if missing is None:
        yield
        return
    if wait_s == 0:
        raise InputError(
            f"{missing}; use fewer workers or a larger cluster, or train.wait_s=1800 where an autoscaler brings nodes."
        )
    show({"kind": "note", "text": f"{missing}; asking its autoscaler, for up to {wait_s} s"})
    request_resources(bundles=[needs.bundle] * needs.workers + [{"CPU": READING_CPUS}])
    try:
        _wait(needs, wait_s)
        yield
    finally:
        # A request stands until it is taken back; nodes would be kept for nobody.
        request_resources(bundles=[])


def _wait(needs: Needs, wait_s: int) -> None:
    until = time.monotonic() + wait_s
    while (missing := needs.missing(ray.cluster_resources())) is not None:
        if time.monotonic() >= until:
            raise InputError(
                f"{missing}, and has not grown within train.wait_s={wait_s}; use fewer workers, wait longer, or look at "
                "the cluster's autoscaler."
            )
        time.sleep(_LOOK_EVERY_S)
