"""Following a job: lines are shown once, over lines to the cluster that break, and the end is the job's own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.submit import follow as following
from ray_cxr.submit.client import JobState
from ray_cxr.submit.follow import LogLines, follow, outcome


def _state(status: str, exit_code: int | None = None, message: str = "") -> JobState:
    return JobState("j-1", status, exit_code, message, {}, 1.0, 2.0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_LOOK_EVERY_S", 0.01)


@dataclass
class Fake:
    """A cluster that gives a log in pieces. An error in the script breaks the line; "…" is silence until it is cut."""

    tails: list[list[str | Exception]]
    states: Iterator[JobState | Exception]
    whole: str
    asked: list[str] = field(default_factory=list)

    async def tail(self, job: str) -> AsyncIterator[str]:
        self.asked.append(job)
        for piece in self.tails.pop(0):
            if isinstance(piece, Exception):
                raise piece
            if piece == "…":
                await asyncio.sleep(60)
            yield piece

    def job(self, job: str) -> JobState:
        state = next(self.states)
        if isinstance(state, Exception):
            raise state
        return state

    def log(self, job: str) -> str:
        return self.whole


def _follow(fake: Fake) -> tuple[list[str], list[str], Any]:
    shown: list[str] = []
    notes: list[str] = []
    return shown, notes, follow(fake, "j-1", shown.append, notes.append)


def test_lines_are_cut_where_they_end_whatever_the_pieces() -> None:
    fake = Fake([["one\ntw", "o\nthr", "ee"]], iter([_state("SUCCEEDED", 0)]), "one\ntwo\nthree")
    shown, notes, ended = _follow(fake)
    assert shown == ["one", "two", "three"]
    assert (notes, ended.exit_code) == ([], 0)


def test_a_broken_line_shows_nothing_twice_and_leaves_nothing_out() -> None:
    fake = Fake(
        [["one\ntw", ConnectionError("reset")], [ConnectionError("refused")], ["one\ntwo\n", "three\n"]],
        iter([_state("FAILED", 3)]), "one\ntwo\nthree\n",
    )  # fmt: skip
    shown, notes, ended = _follow(fake)
    assert shown == ["one", "two", "three"]
    assert len(notes) == 1
    assert "reset" in notes[0]
    assert ended.exit_code == 3


def test_the_end_is_seen_though_the_line_stays_open() -> None:
    """Ray holds it open for ten seconds; what the line has not brought yet is fetched."""
    fake = Fake([["one\n", "…"]], iter([_state("RUNNING"), _state("SUCCEEDED", 0)]), "one\ntwo\n")
    shown, _, ended = _follow(fake)
    assert (shown, ended.exit_code) == (["one", "two"], 0)


def test_a_silent_line_is_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_SILENT_S", 0.0)
    fake = Fake(
        [["one\n", "…"], ["one\ntwo\n"]], iter([_state("RUNNING"), _state("SUCCEEDED", 0)]), "one\ntwo\n"
    )
    shown, notes, _ = _follow(fake)
    assert (shown, notes, len(fake.asked)) == (["one", "two"], [], 2)


def test_a_cluster_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_GIVEN_UP_AFTER_S", 0.0)
    fake = Fake([[ConnectionError("a")], [ConnectionError("b")]], iter([]), "")
    with pytest.raises(RayCxrError, match="the job j-1 goes on if the cluster does"):
        _follow(fake)


def test_a_job_that_there_is_not_is_no_matter_of_waiting() -> None:
    with pytest.raises(InputError, match="knows no job"):
        _follow(Fake([[]], iter([InputError("the cluster knows no job 'j-1'")]), ""))


def test_what_is_rays_own_is_not_shown_and_an_object_is_the_result() -> None:
    shown: list[str] = []
    lines = LogLines(shown.append)
    lines.take(
        "2026-11-25 07:49:28,004\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
        'Running entrypoint for job j-1: python start.py\n{"not an object\nsaid\n{"out": "s3://b"}\n[1]\n'
    )
    assert shown == ['{"not an object', "said", "[1]"]
    assert lines.result == {"out": "s3://b"}


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        (_state("SUCCEEDED", 0), 0, "is done"),
        (_state("FAILED", 1), 1, "exit code 1"),
        (_state("FAILED", 2), 2, "exit code 2"),
        (_state("FAILED", 3), 3, "exit code 3"),
        (_state("FAILED", -9), 1, "too little memory.*goes on from what is saved"),
        (_state("FAILED", 139), 1, "exit code 139; the same job goes on"),
        (_state("STOPPED"), 1, "was stopped"),
        (_state("FAILED", None, "no node\nmore"), 1, "ended by the cluster: no node$"),
        (_state("FAILED", None, ""), 1, "no reason is given"),
        (_state("RUNNING"), 0, "is running"),
    ],
)
def test_the_exit_code_is_the_jobs_own(state: JobState, code: int, said: str) -> None:
    ended = outcome(state)
    assert ended.exit_code == code
    assert re.search(said, ended.said)
