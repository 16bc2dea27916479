"""Follows a job's log to the job's end, over lines that break, and tells how it ended."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ray_cxr.errors import InputError, RayCxrError, RefusedError
from ray_cxr.submit.client import JobState

_LOOK_EVERY_S = 2.0
_SILENT_S = 60.0
"""Nothing tells a line that is dead from a job that has nothing to say, so after this the log is asked for anew."""
_GIVEN_UP_AFTER_S = 300.0
"""A laptop that slept, or a port-forward that was begun again, is back by then."""
_OWN_CODES = (0, RayCxrError.exit_code, InputError.exit_code, RefusedError.exit_code)
_RAYS_OWN_LINE = re.compile(r"Running entrypoint for job |[\d-]+ [\d:,]+\tINFO job_manager\.py:\d+ -- ")

Show = Callable[[str], None]


class Followed(Protocol):
    """What of a cluster is needed to follow a job."""

    def job(self, job: str) -> JobState: ...

    def tail(self, job: str) -> AsyncIterator[str]: ...

    def log(self, job: str) -> str: ...


@dataclass(frozen=True)
class Outcome:
    """How a job stands: the exit code is the job's own where its command ended by itself, 1 otherwise."""

    state: JobState
    exit_code: int
    said: str
    """What is to be said of it; empty where its own last line says enough."""
    result: dict[str, Any] | None = None
    """The object that the command gave under `--json`."""


class LogLines:
    """Cuts pieces of a log into lines; what was shown before a line broke is not shown again."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._rest, self._taken, self._skip = "", 0, 0
        self.result: dict[str, Any] | None = None

    def begin_again(self) -> None:
        """The log comes from its beginning once more."""
        self._skip, self._taken = max(self._taken, self._skip), 0

    def take(self, piece: str) -> None:
        new = piece[max(0, self._skip - self._taken) :]
        self._taken += len(piece)
        *lines, self._rest = (self._rest + new).split("\n")
        for line in lines:
            self._line(line)

    def end(self) -> None:
        """What stands after the last line break is a line, too."""
        if self._rest:
            self._line(self._rest)
        self._rest = ""

    def _line(self, line: str) -> None:
        if _RAYS_OWN_LINE.match(line):
            return
        result = result_in(line)
        if result is None:
            self._show(line.rstrip("\r"))
        else:
            self.result = result


def result_in(line: str) -> dict[str, Any] | None:
    """The object of a line that is one JSON object."""
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def follow(cluster: Followed, job: str, show: Show, note: Show) -> Outcome:
    """Shows a job's log until the job is over. show: gets its lines; note: gets what is to be said of the line to it.

    Raises KeyboardInterrupt on Ctrl-C, which ends following and not the job, and RayCxrError where the cluster stays away.
    """
    return asyncio.run(_follow(cluster, job, show, note))


async def _follow(cluster: Followed, job: str, show: Show, note: Show) -> Outcome:
    lines = LogLines(show)
    away_since: float | None = None
    while True:
        try:
            state = await _tail(cluster, job, lines)
            away_since = None
            lines.begin_again()
            if state.is_over:
                lines.take(cluster.log(job))
                lines.end()
                return outcome(state, lines.result)
        except (ConnectionError, InputError) as error:
            away_since = await _wait(job, away_since, error, note)
            lines.begin_again()
        await asyncio.sleep(_LOOK_EVERY_S)


async def _tail(cluster: Followed, job: str, lines: LogLines) -> JobState:
    """Shows the log until the job is over, or its line ends or is silent for long; gives the job's state then.

    The line stays open for some ten seconds after the job's end, so the state is asked for too.
    """
    pieces = cluster.tail(job)
    coming = asyncio.ensure_future(_next(pieces))
    heard = time.monotonic()
    try:
        while True:
            if not (await asyncio.wait({coming}, timeout=_LOOK_EVERY_S))[0]:
                state = cluster.job(job)
                if state.is_over or time.monotonic() - heard > _SILENT_S:
                    return state
                continue
            piece = coming.result()
            if piece is None:
                return cluster.job(job)
            lines.take(piece)
            heard = time.monotonic()
            coming = asyncio.ensure_future(_next(pieces))
    finally:
        coming.cancel()
        await asyncio.wait({coming})


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


async def _wait(job: str, since: float | None, error: Exception, note: Show) -> float:
    """Since when the cluster is away. A job that there is not, or no more, is no matter of waiting."""
    now = time.monotonic()
    if isinstance(error, InputError) and "knows no job" in error.message:
        raise error
    if since is None:
        note(f"the line to the cluster broke ({error}); trying again, the job goes on meanwhile")
        return now
    if now - since > _GIVEN_UP_AFTER_S:
        raise RayCxrError(
            f"the cluster has not answered for {_GIVEN_UP_AFTER_S / 60:.0f} minutes; the job {job} goes on if the cluster does."
        )
    return since


def outcome(state: JobState, result: dict[str, Any] | None = None) -> Outcome:
    """What a job's state means for who waits for it."""
    if state.status == "SUCCEEDED":
        return Outcome(state, 0, f"the job {state.id} is done", result)
    if not state.is_over:
        return Outcome(state, 0, f"the job {state.id} is {state.status.lower()}", result)
    if state.status == "STOPPED":
        return Outcome(
            state, 1, f"the job {state.id} was stopped; the same job goes on from what is saved", result
        )
    if state.exit_code in _OWN_CODES:
        return Outcome(state, state.exit_code, f"the job {state.id} ended with exit code {state.exit_code}", result)  # fmt: skip
    if state.exit_code is not None:
        killed = " (killed: often too little memory)" if state.exit_code in (-9, 137) else ""
        text = f"the job {state.id} ended with exit code {state.exit_code}{killed}; the same job goes on from what is saved"
        return Outcome(state, 1, text, result)
    reason = (state.message.strip().splitlines() or ["no reason is given"])[0]
    return Outcome(state, 1, f"the job {state.id} was ended by the cluster: {reason}", result)
