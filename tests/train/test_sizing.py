"""What a training asks of a cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.train.sizing import (
    READING_CPUS,
    ClusterNode,
    Needs,
    most_by_itself,
    newly_leaving,
    workers_beside,
    workers_with_room,
)


@pytest.mark.parametrize(
    ("needs", "have", "says"),
    [
        (Needs(2, gpu=False), {"CPU": 2.5}, None),
        (
            Needs(2, gpu=False),
            {"CPU": 2},
            "2 workers and the reading of films need 2.5 CPUs, but the cluster has 2",
        ),
        (Needs(2, gpu=False), {}, "need 2.5 CPUs, but the cluster has 0"),
        (Needs(4, gpu=True), {"CPU": 32, "GPU": 4}, None),
        (Needs(4, gpu=True), {"CPU": 32, "GPU": 3}, "4 workers need 4 GPUs, but the cluster has 3"),
        (Needs(4, gpu=True), {"CPU": 4, "GPU": 4}, "need 4.5 CPUs, but the cluster has 4"),
    ],
)
def test_what_is_missing_is_said(needs: Needs, have: dict[str, float], says: str | None) -> None:
    missing = needs.missing(have)
    if says is None:
        assert missing is None
    else:
        assert missing is not None
        assert says in missing


def test_a_worker_takes_a_gpu_only_where_it_is_to() -> None:
    assert Needs(2, gpu=True).bundle == {"CPU": 1, "GPU": 1}
    assert Needs(2, gpu=False).bundle == {"CPU": 1}


def node(
    name: str, cpus: float, gpus: float = 0, *, free: tuple[float, float] | None = None, leaving: bool = False
) -> ClusterNode:
    """free: CPUs and GPUs that nobody has; None: all."""
    free_cpus, free_gpus = (cpus, gpus) if free is None else free
    return ClusterNode(name, {"CPU": cpus, "GPU": gpus}, {"CPU": free_cpus, "GPU": free_gpus}, leaving)


CPUS = Needs(1, gpu=False, most=4)


@pytest.mark.parametrize(
    ("needs", "nodes", "workers"),
    [
        (CPUS, [node("a", 2), node("b", 2)], 3),  # half a CPU must stay for reading films
        (CPUS, [node("a", 2), node("b", 2), node("head", 1)], 4),
        (CPUS, [node("a", 2), node("b", 2, leaving=True)], 1),
        (CPUS, [node("a", 16)], 4),
        (CPUS, [node("a", 16, free=(2.5, 0))], 2),
        (CPUS, [node("a", 0.5), node("b", 0.75)], 0),  # a worker does not lie on two nodes
        (
            Needs(1, gpu=True, most=8),
            [node("a", 8, 2), node("b", 1, 2)],
            3,
        ),  # a GPU without a CPU is of no use
        (Needs(2, gpu=True, most=8), [node("a", 8, 1), node("films", 32)], 1),
        (CPUS, [], 0),
    ],
)
def test_workers_that_there_is_room_for(needs: Needs, nodes: list[ClusterNode], workers: int) -> None:
    assert workers_with_room(needs, nodes, free=True) == workers


def test_room_by_what_there_is_counts_what_is_taken_too() -> None:
    nodes = [node("a", 4, free=(0, 0))]
    assert workers_with_room(CPUS, nodes, free=False) == 3
    assert workers_with_room(CPUS, nodes, free=True) == 0


@pytest.mark.parametrize(
    ("workers", "nodes", "could"),
    [
        (2, [node("a", 3, free=(0.5, 0))], 2),
        (2, [node("a", 3, free=(0.5, 0)), node("b", 2)], 4),
        (2, [node("a", 3, free=(0.5, 0)), node("b", 2, leaving=True)], 2),
        (2, [node("a", 3, free=(1, 0))], 2),  # the third CPU is where films are read
        (4, [node("a", 32, free=(28, 0))], 4),
        (3, [], 3),  # nobody knows: all stays as it is
    ],
)
def test_a_training_may_have_what_is_free_beside_it(
    workers: int, nodes: list[ClusterNode], could: int
) -> None:
    assert workers_beside(CPUS, workers, nodes) == could


_nodes = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 4), st.floats(0, 1), st.booleans()), max_size=5
).map(
    lambda of: [
        node(str(n), cpus, gpus, free=(cpus * part, gpus * part), leaving=leaving)
        for n, (cpus, gpus, part, leaving) in enumerate(of)
    ]
)


@given(
    nodes=_nodes, fewest=st.integers(1, 4), more=st.integers(0, 8), gpu=st.booleans(), now=st.integers(1, 4)
)
def test_workers_always_fit(nodes: list[ClusterNode], fewest: int, more: int, now: int, *, gpu: bool) -> None:
    needs = Needs(fewest, gpu, fewest + more)
    staying = [n for n in nodes if not n.leaving]
    for free in (True, False):
        workers = workers_with_room(needs, nodes, free=free)
        have = [n.free if free else n.total for n in staying]
        assert 0 <= workers <= fewest + more
        if workers:
            assert workers + READING_CPUS <= sum(h["CPU"] for h in have)
            assert workers <= sum(int(min(h["CPU"], h["GPU"] if gpu else 99)) for h in have)
    assert workers_with_room(needs, nodes, free=True) <= workers_with_room(needs, nodes, free=False)
    could = workers_beside(needs, now, nodes)
    assert now <= could <= max(now, fewest + more)


def test_a_node_that_leaves_is_of_interest_once_and_where_something_runs() -> None:
    nodes = [
        node("a", 2, free=(1, 0), leaving=True), node("b", 2, leaving=True), node("c", 2, free=(0, 0)),
        node("d", 2, free=(0, 0), leaving=True),
    ]  # fmt: skip
    assert newly_leaving(nodes, frozenset({"d"})) == ["a"]


@pytest.mark.parametrize(
    ("nodes", "batch_size", "gpu", "most"),
    [
        ([node("a", 8)], 32, False, 1),
        ([node("a", 8, 8)], 32, True, 4),  # eight films each
        ([node("a", 8, 8), node("b", 8, 8)], 512, True, 16),
        ([node("head", 0), node("a", 8), node("b", 8)], 64, False, 2),
        ([node("a", 8, 8)], 35, True, 4),
        ([node("a", 64, 64)], 7, True, 1),
        ([node("a", 8, 8)], 62, True, 2),  # a prime times two is made of two streams
        ([], 32, False, 1),
    ],
)
def test_workers_that_auto_stands_for(
    nodes: list[ClusterNode], batch_size: int, *, gpu: bool, most: int
) -> None:
    assert most_by_itself(nodes, batch_size, gpu=gpu) == most
