"""Which worker stands still, from heartbeats alone. With real processes: test_stalled_worker.py."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ray_cxr.train.place import Doing
from ray_cxr.train.stall import Beat, Heard, Stall, StallWatch, longest_s, stalls


def beat(rank: int, doing: Doing, for_s: float, **more: Any) -> Beat:
    """Of step 120 in epoch 2, of a training whose steps take half a second."""
    known = {
        "size": 2, "node": f"10.0.0.{rank + 2}", "process": 4710 + rank, "number": 1, "epoch": 2, "step": 120, "marks": 5,
        "usual_step_s": 0.5,
    }  # fmt: skip
    return Beat(rank=rank, doing=doing, for_s=for_s, **(known | more))


def found(*beats: Beat, silent_s: Sequence[float] = (1.0, 1.0, 1.0)) -> dict[int, Stall]:
    return stalls([Heard(b, s) for b, s in zip(beats, silent_s, strict=False)])


def test_worker_that_others_wait_for_is_named_with_what_it_does() -> None:
    assert found(beat(0, "others", 25), beat(1, "films", 25)) == {
        1: Stall("films", silent=False, waited_for=True)
    }
    assert found(beat(0, "others", 25), beat(1, "compute", 25)) == {
        1: Stall("compute", silent=False, waited_for=True)
    }
    assert found(beat(0, "telling", 25), beat(1, "others", 25)) == {
        0: Stall("telling", silent=False, waited_for=True)
    }


@pytest.mark.parametrize(
    ("usual_s", "longest"),
    # No fewer than 20 s, ten steps, no more than 60 s, two steps.
    [(None, 60), (0.01, 20), (2, 20), (4, 40), (10, 60), (30, 60), (100, 200)],
)
def test_how_long_a_step_may_take(usual_s: float | None, longest: float) -> None:
    assert longest_s("compute", usual_s) == longest_s("films", usual_s) == longest
    waits = beat(0, "others", longest, usual_step_s=usual_s)
    # A second of silence counts.
    assert found(waits, beat(1, "films", longest - 2, usual_step_s=usual_s)) == {}
    assert found(waits, beat(1, "films", longest, usual_step_s=usual_s)).keys() == {1}


def test_worker_that_is_further_waits_although_it_cannot_know() -> None:
    """In a norm over all workers it waits inside its forward pass."""
    assert found(beat(0, "compute", 25), beat(1, "films", 25)) == {
        1: Stall("films", silent=False, waited_for=True)
    }
    assert found(beat(0, "films", 25, step=121), beat(1, "telling", 25)).keys() == {1}


def test_slow_steps_that_move_are_no_stall() -> None:
    # A step takes two minutes; one worker is half as fast.
    assert (
        found(beat(0, "others", 110, usual_step_s=120.0), beat(1, "compute", 230, usual_step_s=120.0)) == {}
    )
    # All compute, and nobody waits: a first step that compiles, a machine that is busy.
    assert found(beat(0, "compute", 400, usual_step_s=None), beat(1, "compute", 410, usual_step_s=None)) == {}


@pytest.mark.parametrize("doing", ["saving", "start"])
def test_writing_and_opening_may_take_minutes(doing: Doing) -> None:
    assert found(beat(0, doing, 250), beat(1, "others", 250)) == {}
    assert found(beat(0, doing, 300), beat(1, "others", 300)).keys() == {0}


def test_validation_may_take_a_minute_a_batch() -> None:
    assert found(beat(0, "others", 58), beat(1, "validation", 58)) == {}
    assert found(beat(0, "others", 60), beat(1, "validation", 60)).keys() == {1}


def test_process_that_does_not_answer_is_named_within_seconds_where_others_wait() -> None:
    silent = Stall("compute", silent=True, waited_for=True)
    assert found(beat(0, "others", 20), beat(1, "compute", 1), silent_s=(1, 22)) == {1: silent}
    # It may itself have been waiting when it was stopped.
    assert found(beat(0, "others", 20), beat(1, "others", 1), silent_s=(1, 22)).keys() == {1}
    # In the middle of a long step nobody waits for it yet.
    assert found(beat(0, "compute", 38), beat(1, "compute", 1), silent_s=(1, 38)) == {}
    assert found(beat(0, "compute", 40), beat(1, "compute", 1), silent_s=(1, 40)).keys() == {1}


def test_workers_that_are_all_silent_are_being_started_again() -> None:
    assert found(beat(0, "others", 1), beat(1, "films", 1), silent_s=(100, 100)) == {}
    assert found(beat(0, "films", 1, size=1), silent_s=(60,)).keys() == {0}


def test_films_that_do_not_come_are_told_also_where_nobody_waits() -> None:
    alone = Stall("films", silent=False, waited_for=False)
    assert found(beat(0, "films", 61, size=1)) == {0: alone}
    assert found(beat(0, "films", 58, size=1)) == {}
    assert found(beat(0, "films", 61), beat(1, "films", 61)) == {0: alone, 1: alone}


def test_all_that_wait_for_each_other_are_named() -> None:
    assert found(beat(0, "others", 61), beat(1, "others", 61)).keys() == {0, 1}
    assert found(beat(0, "others", 61), beat(1, "others", 50)) == {}
    assert found(beat(0, "others", 61, usual_step_s=50.0), beat(1, "others", 61)) == {}


def test_workers_that_are_done_wait_for_nobody() -> None:
    assert found(beat(0, "saving", 400), beat(1, "done", 0), silent_s=(1, 400)) == {}


class Told:
    """A watch that is given the heartbeats of a moment."""

    def __init__(self) -> None:
        self.watch, self.number = StallWatch(), 0

    def at(self, now: float, *beats: Beat, silent: Sequence[int] = ()) -> list[str]:
        self.number += 1
        spoken = [replace(b, number=self.number) if b.rank not in silent else b for b in beats]
        return self.watch.look(spoken, now)


WAITS = "while the others wait for it in the all-reduce"
WORKER = "worker 2 of 2 (rank 1, node 10.0.0.3, process 4711)"


def test_a_stall_is_said_once_and_once_that_it_goes_on() -> None:
    told = Told()
    assert told.at(0, beat(0, "others", 1), beat(1, "films", 1)) == []
    assert told.at(18, beat(0, "others", 19), beat(1, "films", 19)) == []
    assert told.at(44, beat(0, "others", 45), beat(1, "films", 45)) == [
        f"warning: {WORKER} has been at step 120 of epoch 2 for 45 s {WAITS}: it is waiting for films, and none has come since"
    ]
    assert told.at(46, beat(0, "others", 47), beat(1, "films", 47)) == []
    assert told.at(50, beat(0, "films", 1, marks=6), beat(1, "films", 1, marks=6)) == [
        f"{WORKER} goes on, after 51 s"
    ]
    assert told.at(52, beat(0, "films", 1, marks=7), beat(1, "films", 1, marks=7)) == []
    # The next stall is another one.
    assert len(told.at(90, beat(0, "others", 30, marks=8), beat(1, "compute", 30, marks=8))) == 1


def test_a_stopped_process_is_named_and_its_silence_is_measured_here() -> None:
    told, last = Told(), beat(1, "compute", 0.5)
    told.at(0, beat(0, "compute", 0.5), last)
    said = [told.at(now, beat(0, "others", now, step=121), last, silent=[1]) for now in range(2, 40, 2)]
    assert [s for s in said if s] == [
        [
            f"warning: {WORKER} has not answered for 20 s: its process is stopped, or cut off from the cluster; the others wait for it "
            "at step 121 of epoch 2"
        ]
    ]
    # It speaks again, first from where it was.
    assert told.at(40, beat(0, "others", 40), beat(1, "compute", 40)) == []
    assert told.at(42, beat(0, "films", 0, marks=6), beat(1, "films", 0, marks=6)) == [
        f"{WORKER} goes on, after 42 s"
    ]


def test_several_are_named_in_one_sentence() -> None:
    told = Told()
    beats = [beat(r, "others" if r == 0 else "films", 1, size=4, node="n2") for r in range(4)]
    told.at(0, *beats)
    (text,) = told.at(30, *[replace(b, for_s=30.0) for b in beats])
    assert text.startswith(
        "warning: workers 2, 3, 4 of 4 (node n2) have been at step 120 of epoch 2 for 30 s while"
    )
    assert text.endswith(": they are waiting for films, and none has come since")
    assert told.at(32, *[replace(b, for_s=1.0, marks=9) for b in beats]) == [
        "workers 2, 3, 4 of 4 (node n2) go on, after 32 s"
    ]


def test_outside_of_steps_the_place_is_told_in_words() -> None:
    for doing, epoch, where in (
        ("start", 0, "its start"), ("validation", 3, "the validation of epoch 3"), ("saving", 3, "the end of epoch 3"),
    ):  # fmt: skip
        told = Told()
        there = beat(1, doing, 1, epoch=epoch, step=0)  # type: ignore[arg-type]
        told.at(0, beat(0, "others", 1), there)
        (text,) = told.at(400, beat(0, "others", 400), replace(there, for_s=400))
        assert f"{WORKER} has been at {where} for 6 min 40 s while the others wait for it: it is " in text


def test_workers_that_are_started_again_are_not_silent_until_they_speak() -> None:
    told = Told()
    old = [beat(0, "others", 1), beat(1, "others", 1)]
    told.at(0, *old)
    # Half a minute later the first of the new processes speaks; the other's last word is of the old one.
    new = beat(0, "start", 1, process=99, step=0, epoch=0)
    assert told.watch.look([new, replace(old[1], number=1)], 30) == []
    assert (
        told.watch.look([replace(new, number=2, doing="others", for_s=5.0), replace(old[1], number=1)], 35)
        == []
    )


def test_workers_that_became_fewer_are_not_missed() -> None:
    told = Told()
    told.at(0, *[beat(r, "others", 1, size=3) for r in range(3)])
    left = beat(2, "others", 1, size=3, number=1)
    for now in range(30, 200, 2):
        fresh = [
            beat(r, "others" if r else "compute", 1, process=99 + r, number=now, marks=now) for r in range(2)
        ]
        assert told.watch.look([*fresh, left], now) == []


def test_a_worker_that_ends_does_not_go_on() -> None:
    told = Told()
    told.at(0, beat(0, "others", 1), beat(1, "films", 1))
    assert len(told.at(30, beat(0, "others", 30), beat(1, "films", 30))) == 1
    assert told.at(32, beat(0, "done", 0, marks=6), beat(1, "done", 0, marks=6)) == []
