"""Waiting for an autoscaler. With real nodes that come later: tests/cluster/test_one_machine.py."""

from typing import Any

import pytest

from ray_cxr.errors import InputError
from ray_cxr.train import room as module
from ray_cxr.train.room import room
from ray_cxr.train.sizing import Needs

NEEDS = Needs(2, gpu=True)
SMALL, ENOUGH = {"CPU": 1.0}, {"CPU": 16.0, "GPU": 2.0}


class Cluster:
    """A cluster that has other resources each time it is asked, the last ones for ever."""

    def __init__(self, *sizes: dict[str, float]) -> None:
        self.sizes = list(sizes)
        self.requests: list[list[dict[str, float]]] = []
        self.notes: list[str] = []

    def resources(self) -> dict[str, float]:
        return self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]

    def request(self, bundles: list[dict[str, float]]) -> None:
        self.requests.append(bundles)

    def show(self, event: dict[str, Any]) -> None:
        self.notes.append(event["text"])


def use(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.ray, "cluster_resources", cluster.resources)
    monkeypatch.setattr(module, "request_resources", cluster.request)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.01)


def test_where_there_is_room_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(ENOUGH)
    use(cluster, monkeypatch)
    with room(NEEDS, 60, cluster.show):
        pass
    assert (cluster.requests, cluster.notes) == ([], [])


def test_without_an_autoscaler_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(SMALL)
    use(cluster, monkeypatch)
    with pytest.raises(InputError, match=r"2 workers need 2 GPUs, but the cluster has 0; .*train\.wait_s"):
        room(NEEDS, 0, cluster.show).__enter__()
    assert cluster.requests == []


def test_nodes_are_asked_for_waited_for_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(SMALL, SMALL, SMALL, ENOUGH)
    use(cluster, monkeypatch)
    with room(NEEDS, 60, cluster.show):
        assert cluster.requests == [[{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}, {"CPU": 0.5}]]
    assert cluster.requests[1:] == [[]]
    assert len(cluster.notes) == 1


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(SMALL)
    use(cluster, monkeypatch)
    monkeypatch.setattr(module.time, "sleep", lambda s: None)
    clock = iter([0.0, 0.5, 1.5])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with pytest.raises(InputError, match=r"train\.wait_s=1;"):
        room(NEEDS, 1, cluster.show).__enter__()
    assert cluster.requests[-1] == []
