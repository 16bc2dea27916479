"""Heartbeats through the store of a real Ray. Workers in processes of their own: test_stalled_worker.py."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from ray.experimental import internal_kv

from ray_cxr.stream.plan import World
from ray_cxr.train import heartbeat as module
from ray_cxr.train import stall
from ray_cxr.train.heartbeat import heartbeat, telling_of_stalls
from ray_cxr.train.worker import Worker


def _until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not so():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    monkeypatch.setattr(stall, "MOST_S", 1.0)
    monkeypatch.setattr(stall, "_WAITED_S", 0.5)


@pytest.mark.usefixtures("ray_cluster", "quick")
def test_worker_that_gets_no_films_is_told_and_when_it_goes_on() -> None:
    first, second = Worker(World(0, 2)), Worker(World(1, 2))
    events: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(telling_of_stalls("a-run", events.append))
        for worker in (first, second):
            stack.enter_context(heartbeat("a-run", worker))
            worker.place.at("films", 1, 5)
        first.place.at("others")
        _until(lambda: len(events) == 1)
        second.place.at("compute")
        _until(lambda: len(events) == 2)
    texts = [e["text"] for e in events if e["kind"] == "note"]
    assert texts[0].startswith("warning: worker 2 of 2 (rank 1, node ") and "waiting for films" in texts[0]
    assert (
        "at step 5 of epoch 1" in texts[0] and texts[1].startswith("worker 2 of 2") and "goes on" in texts[1]
    )
    assert internal_kv._internal_kv_list(b"a-run/", namespace=b"ray_cxr") == []


@pytest.mark.usefixtures("ray_cluster", "quick")
def test_runs_beside_each_other_and_earlier_starts_are_not_heard() -> None:
    events: list[dict[str, Any]] = []
    other = Worker(World(1, 2))
    other.place.at("films", 1, 1)
    with heartbeat("run-2", other), heartbeat("run-1", Worker(World(1, 2))):
        pass  # an earlier start of the same run, whose last word stays
    first = Worker(World(0, 2))
    with telling_of_stalls("run-1", events.append), heartbeat("run-1", first), heartbeat("run-2", other):
        first.place.at("others", 1, 1)
        time.sleep(2.5)
    assert events == []


@pytest.mark.usefixtures("ray_cluster", "quick")
def test_store_that_fails_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OSError("the store is gone")

    for name in ("_internal_kv_put", "_internal_kv_list", "_internal_kv_del"):
        monkeypatch.setattr(internal_kv, name, gone)
    events: list[dict[str, Any]] = []
    with telling_of_stalls("a-run", events.append), heartbeat("a-run", Worker(World(0, 1))):
        time.sleep(0.3)
    assert events == []
