"""How many folds train at once. Numbers by hand."""

import pytest

from ray_cxr.crossval.room import PROCESS_BYTES, Node, Room, room_for_folds, room_for_trainers
from ray_cxr.errors import InputError


@pytest.mark.parametrize(
    ("nodes", "folds", "gpu", "room"),
    [
        ([Node(2)], 5, False, Room(2, 1)),
        # Two rounds of three need no more time than one of four and one of one, and have two threads each.
        ([Node(4)], 5, False, Room(3, 1)),
        ([Node(6)], 5, False, Room(5, 1)),
        ([Node(16)], 5, False, Room(5, 3)),
        ([Node(16)], 2, False, Room(2, 8)),
        ([Node(1)], 5, False, Room(1, 1)),
        # Two GPUs are two folds at most, whatever CPUs there are.
        ([Node(16, 2)], 5, True, Room(2, 8)),
        # Not five threads: the smaller node could not take its fold.
        ([Node(8, 1), Node(4, 1)], 2, True, Room(2, 4)),
        # Memory for two folds of the four: fewer at once, but on as many threads as a run with memory had.
        ([Node(4, memory_bytes=2.5 * PROCESS_BYTES)], 4, False, Room(2, 1)),
        ([Node(4, memory_bytes=0.5 * PROCESS_BYTES)], 4, False, Room(1, 1)),
    ],
)
def test_room_for_folds_of_one_process(nodes: list[Node], folds: int, gpu: bool, room: Room) -> None:
    assert room_for_folds(nodes, folds, gpu=gpu) == room


@pytest.mark.parametrize(
    ("nodes", "gpu", "room"),
    [
        ([Node(3)], False, Room(1, 1)),
        ([Node(6)], False, Room(2, 1)),
        ([Node(16)], False, Room(5, 1)),
        # The two workers of a fold may lie on two nodes.
        ([Node(16, 1), Node(16, 1)], True, Room(1, 16)),
    ],
)
def test_room_for_folds_with_two_workers_and_a_cpu_for_reading(
    nodes: list[Node], gpu: bool, room: Room
) -> None:
    assert room_for_trainers(nodes, 5, 2, 1.0, gpu=gpu) == room


def test_no_room_is_told() -> None:
    with pytest.raises(
        InputError, match=r"train\.workers: a fold needs 1 CPUs and 1 GPUs, but there are 4 CPUs and 0 GPUs"
    ):
        room_for_folds([Node(4)], 5, gpu=True)
    with pytest.raises(InputError, match=r"a fold needs 5 CPUs, but there are 4 CPUs"):
        room_for_trainers([Node(4)], 5, 4, 1.0, gpu=False)
