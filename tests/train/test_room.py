"""Waiting for an autoscaler. With real nodes that come later: tests/cluster/test_elastic.py."""

import time
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.errors import InputError
from ray_cxr.storage import Folder
from ray_cxr.train import room as module
from ray_cxr.train.progress import STOP, ask_to_stop
from ray_cxr.train.room import moving, room
from ray_cxr.train.sizing import ClusterNode, Needs

NEEDS = Needs(2, gpu=True)
SMALL, ENOUGH = {"CPU": 1.0}, {"CPU": 16.0, "GPU": 2.0}


class Cluster:
    """A cluster that has other resources each time it is asked, the last ones for ever."""

    def __init__(self, *sizes: dict[str, float]) -> None:
        self.sizes = list(sizes)
        self.requests: list[list[dict[str, float]]] = []
        self.notes: list[str] = []

    def nodes(self) -> list[ClusterNode]:
        size = self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]
        return [ClusterNode("a", size, size)]

    def request(self, bundles: list[dict[str, float]]) -> None:
        self.requests.append(bundles)

    def show(self, event: dict[str, Any]) -> None:
        self.notes.append(event["text"])


def use(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cluster_nodes", cluster.nodes)
    monkeypatch.setattr(module, "request_resources", cluster.request)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.01)


def test_where_there_is_room_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(ENOUGH)
    use(cluster, monkeypatch)
    with room(NEEDS, 60, cluster.show) as workers:
        assert workers == 2
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


def test_as_many_as_there_is_room_for_and_more_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({"CPU": 16.0, "GPU": 3.0})
    use(cluster, monkeypatch)
    with room(Needs(2, gpu=True, most=4), 60, cluster.show) as workers:
        assert workers == 3
        assert cluster.requests == [[*[{"CPU": 1, "GPU": 1}] * 4, {"CPU": 0.5}]]
    assert (cluster.requests[1:], cluster.notes) == ([[]], [])
    cluster.requests.clear()
    with room(Needs(2, gpu=True, most=4), 0, cluster.show) as workers:
        assert (workers, cluster.requests) == (3, [])


def test_what_died_a_moment_ago_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"CPU": 4.0}
    seen = [{"CPU": 4.0}, {"CPU": 0.0}, {"CPU": 1.0}, {"CPU": 4.0}]
    monkeypatch.setattr(
        module,
        "cluster_nodes",
        lambda: [ClusterNode("a", there, seen.pop(0) if len(seen) > 1 else seen[0])],
    )
    with room(Needs(1, gpu=False, most=3), 0, Cluster(there).show) as workers:
        assert workers == 3


def test_what_others_use_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLE_S", 0.05)
    monkeypatch.setattr(module, "cluster_nodes", lambda: [ClusterNode("a", {"CPU": 8.0}, {"CPU": 2.5})])
    with room(Needs(1, gpu=False, most=4), 0, Cluster({}).show) as workers:
        assert workers == 2


class _Moves:
    """A cluster whose nodes are those that the test has put there, and the wish that the training of a run finds."""

    def __init__(self, run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.now = run, list[ClusterNode]()
        monkeypatch.setattr(module, "cluster_nodes", lambda: list(self.now))
        monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.01)
        monkeypatch.setattr(module, "is_own_ray", lambda: False)

    def wish(self, within_s: float = 5.0) -> str | None:
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            if self.run.exists(STOP):
                return self.run.read_bytes(STOP).decode()
            time.sleep(0.01)
        return None


@pytest.fixture
def moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Moves:
    return _Moves(Folder(str(tmp_path)), monkeypatch)


ELASTIC = Needs(1, gpu=False, most=3)
BUSY, FREE = ClusterNode("a", {"CPU": 3}, {"CPU": 0.5}), ClusterNode("b", {"CPU": 2}, {"CPU": 2})
LEAVES = ClusterNode("a", {"CPU": 3}, {"CPU": 0.5}, leaving=True)


def test_a_training_grows_once_there_has_been_room_for_a_while(moves: _Moves) -> None:
    moves.now = [BUSY]
    with moving(moves.run, ELASTIC, 2, wait_s=0, grow_after_s=0.3):
        assert moves.wish(0.5) is None
        moves.now, came = [BUSY, FREE], time.monotonic()
        assert moves.wish() == "the cluster has room for 3 workers"
        assert time.monotonic() - came >= 0.3
    assert not moves.run.exists(STOP)


def test_a_training_leaves_a_node_that_will_be_taken_away(moves: _Moves) -> None:
    moves.now = [BUSY, FREE]
    with moving(moves.run, Needs(1, gpu=False), 1, wait_s=0, grow_after_s=0.0):
        assert moves.wish(0.2) is None  # one worker is all that was asked for
        moves.now = [LEAVES, FREE]
        assert moves.wish() == "a node of the cluster will be taken away"


@pytest.mark.parametrize(("wait_s", "moves_on"), [(0, False), (60, True)])
def test_with_nowhere_to_go_it_stays_unless_nodes_may_come(
    moves: _Moves, wait_s: int, *, moves_on: bool
) -> None:
    moves.now = [BUSY]
    with moving(moves.run, Needs(2, gpu=False), 2, wait_s=wait_s, grow_after_s=0.0):
        moves.now = [LEAVES]
        assert (moves.wish(1.0) is not None) == moves_on


def test_the_wish_that_it_shall_end_outlives_a_move(moves: _Moves) -> None:
    moves.now = [BUSY]
    with moving(moves.run, ELASTIC, 2, wait_s=0, grow_after_s=9.0):
        ask_to_stop(moves.run)
    assert moves.run.exists(STOP)
