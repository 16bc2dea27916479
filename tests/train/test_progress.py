"""Progress by a file: notes and epochs are shown once each, of steps the newest."""

import threading
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.storage import Folder
from ray_cxr.train.progress import NAME, ProgressFile, ProgressFollower, told

Event = dict[str, Any]


def _step(epoch: int, step: int) -> Event:
    return {"kind": "step", "epoch": epoch, "step": step, "steps": 3, "loss": 0.5}


def _validation(films: int) -> Event:
    return {"kind": "validation", "epoch": 1, "epochs": 2, "films": films, "of": 40}


def _epoch(epoch: int) -> Event:
    return {"kind": "epoch", "epoch": epoch}


NOTE: Event = {"kind": "note", "text": "weights: 294 tensors loaded"}


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def _follower(run: Folder, shown: list[Event]) -> ProgressFollower:
    """One that looks at the file when the test says so, and at the end."""
    follower = ProgressFollower(run, shown.append)
    follower._interval_s = 1e6
    return follower


def test_each_note_and_epoch_is_shown_once_and_the_newest_step(run: Folder) -> None:
    shown: list[Event] = []
    follower = _follower(run, shown)
    with follower:
        report = ProgressFile(run)
        report(NOTE)
        follower._look()
        follower._look()
        assert shown == [NOTE]
        for event in (_step(1, 1), _step(1, 2), _epoch(1)):
            report(event)
        follower._look()
        assert shown == [NOTE, _epoch(1)]
        report(_epoch(2))
    assert shown == [NOTE, _epoch(1), _epoch(2)]


def test_what_was_written_last_is_shown_at_the_end(run: Folder) -> None:
    shown: list[Event] = []
    with _follower(run, shown):
        ProgressFile(run)(_step(1, 1))
    assert shown == [_step(1, 1)]


def test_same_step_is_shown_once(run: Folder) -> None:
    shown: list[Event] = []
    follower = _follower(run, shown)
    with follower:
        ProgressFile(run)(_step(1, 1))
        follower._look()
        follower._look()
    assert shown == [_step(1, 1)]


def test_validation_is_shown_while_it_is_the_newest(run: Folder) -> None:
    shown: list[Event] = []
    follower = _follower(run, shown)
    with follower:
        report = ProgressFile(run)
        report._interval_s = 0
        for event in (_step(1, 3), _validation(16)):
            report(event)
            follower._look()
        report(_validation(32))
        follower._look()
        follower._look()
        report(_epoch(1))
    assert shown == [_step(1, 3), _validation(16), _validation(32), _epoch(1)]


def test_history_is_told_without_what_nobody_looks_at() -> None:
    line = {"epoch": 1, "mean_auroc": 0.6, "exposure": {"Mass": 3}}
    assert told([line]) == [{"epoch": 1, "mean_auroc": 0.6}]


def test_steps_are_written_now_and_then_only_and_notes_at_once(run: Folder) -> None:
    report = ProgressFile(run)
    report(_step(1, 1))
    report._interval_s = 1e6
    for step in range(2, 50):
        report(_step(1, step))
    assert run.read_json(NAME)["events"] == [_step(1, 1)]
    report(NOTE)
    # The note takes the place of the step before it: a step is worth showing while it is the newest only.
    assert run.read_json(NAME)["events"] == [NOTE]


def test_workers_that_were_started_again_are_shown_from_their_beginning(run: Folder) -> None:
    shown: list[Event] = []
    follower = _follower(run, shown)
    with follower:
        report = ProgressFile(run)
        for event in (NOTE, _epoch(1), _epoch(2)):
            report(event)
        follower._look()
        ProgressFile(run)(NOTE)
        follower._look()
    assert shown == [NOTE, _epoch(1), _epoch(2), NOTE]


def test_file_of_an_earlier_run_is_not_shown_and_none_is_left(run: Folder) -> None:
    ProgressFile(run)(NOTE)
    shown: list[Event] = []
    with _follower(run, shown):
        pass
    assert shown == [] and not run.exists(NAME)


@pytest.mark.parametrize("data", [b"", b'[{"kind": "no', b"\xff\xfe"])
def test_file_that_is_half_written_is_looked_at_later(run: Folder, data: bytes) -> None:
    shown: list[Event] = []
    follower = _follower(run, shown)
    with follower:
        run.write_bytes(NAME, data)
        follower._look()
        assert shown == []
        ProgressFile(run)(NOTE)
    assert shown == [NOTE]


def test_error_in_training_ends_the_thread_and_goes_on(run: Folder) -> None:
    follower = _follower(run, [])
    with pytest.raises(ValueError, match="in training"), follower:
        raise ValueError("in training")
    assert not follower._thread.is_alive()


def test_events_are_shown_while_training_runs(run: Folder) -> None:
    seen = threading.Event()
    follower = ProgressFollower(run, lambda event: seen.set())
    follower._interval_s = 0.01
    with follower:
        ProgressFile(run)(NOTE)
        assert seen.wait(10)
