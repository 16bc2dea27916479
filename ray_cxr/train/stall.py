"""Workers that stand still: which, for how long, and what each waits for. Decided from heartbeats, without Ray.

Reads: the newest heartbeat of each worker. Gives: a sentence when one stands still, and one when it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ray_cxr.console import duration
from ray_cxr.train.place import Doing

BEAT_S = 2.0
"""Between two heartbeats of a worker."""
SILENT_S = 20.0
"""A worker that others wait for and that has not been heard for so long is stopped, or cut off."""
ALONE_SILENT_S = 40.0
"""One that nobody waits for yet."""
LEAST_S, MOST_S = 20.0, 60.0
"""Ten usual steps of standing still are a stall, but no fewer and no more seconds than these."""
LONG_S = 300.0
"""Where a worker may take minutes in good health: opening a data set, writing to a slow store."""
_IN_STEPS, _AT_LEAST_STEPS = 10, 2
_WAITED_S = 5.0
"""A worker that waits for less may do so in any step."""
_NUMBERS_SHOWN = 8
_IN_A_STEP: Sequence[Doing] = ("films", "compute", "others", "telling")
_NOWHERE = (0, 0, 0)
_WHAT: Mapping[Doing, str] = {
    "start": "opening the data set and the model",
    "films": "waiting for films, and none has come since",
    "compute": "in the forward and backward pass",
    "telling": "writing its progress into the run's directory",
    "validation": "scoring validation films, or waiting for them",
    "saving": "working out figures, or writing the model or a checkpoint",
}


@dataclass(frozen=True)
class Beat:
    """What a worker says of itself, every few seconds."""

    rank: int
    size: int
    """Of the world."""
    node: str
    process: int
    number: int
    """Of the heartbeat."""
    doing: Doing
    epoch: int
    step: int
    for_s: float
    """For how long it has been there, when it said so."""
    marks: int
    usual_step_s: float | None

    @property
    def progress(self) -> tuple[int, int, int]:
        """Larger for who is further, where both are at steps."""
        return (
            (self.epoch, self.step, _IN_A_STEP.index(self.doing))
            if self.doing in _IN_A_STEP and self.step
            else _NOWHERE
        )


@dataclass(frozen=True)
class Heard:
    """A worker's newest heartbeat, and how old it is."""

    beat: Beat
    silent_s: float

    @property
    def stands_s(self) -> float:
        return self.beat.for_s + self.silent_s


class Stall(NamedTuple):
    """Why a worker stands still. silent: its process says nothing. waited_for: others cannot go on without it."""

    doing: Doing
    silent: bool
    waited_for: bool


def longest_s(doing: Doing, usual_step_s: float | None) -> float:
    """How long a worker may do one thing before it stands still. Slow steps are no stall: two of them at least may pass."""
    if doing in ("start", "saving"):
        return LONG_S
    if usual_step_s is None or doing == "validation":
        return max(MOST_S, _AT_LEAST_STEPS * (usual_step_s or 0))
    return max(min(max(_IN_STEPS * usual_step_s, LEAST_S), MOST_S), _AT_LEAST_STEPS * usual_step_s)


def stalls(heard: Iterable[Heard]) -> dict[int, Stall]:
    """Rank → why, of the workers that stand still.

    A worker that waits for others is not to blame. One that is slow is, only where others wait for it; that no films come
    is worth a word in any case. Where all wait for each other, all are named.
    """
    there = [h for h in heard if h.beat.doing != "done"]
    speak = [h for h in there if h.silent_s < SILENT_S]
    standing = [h.beat for h in speak if h.stands_s >= _WAITED_S]
    # Who is further will wait if it does not yet, in a norm or inside DDP.
    furthest = max((beat.progress for beat in standing), default=_NOWHERE)
    done = {beat.rank for beat in standing if beat.doing == "others"}
    usual = [h.beat.usual_step_s for h in there if h.beat.usual_step_s is not None]
    usual_s = max(usual, default=None)
    found = {}
    for h in there:
        doing, waited_for = h.beat.doing, bool(done - {h.beat.rank}) or furthest > h.beat.progress
        if h not in speak:
            # Workers that are all silent are being started again, or the cluster cannot be asked.
            if (speak or len(there) == 1) and h.silent_s >= (SILENT_S if waited_for else ALONE_SILENT_S):
                found[h.beat.rank] = Stall(doing, silent=True, waited_for=waited_for)
        elif doing != "others" and waited_for:
            if h.stands_s >= longest_s(doing, usual_s):
                found[h.beat.rank] = Stall(doing, silent=False, waited_for=True)
        elif doing == "films" and h.stands_s >= max(MOST_S, longest_s(doing, usual_s)):
            found[h.beat.rank] = Stall(doing, silent=False, waited_for=False)
    patience_s = max(MOST_S, longest_s("compute", usual_s))
    if len(there) > 1 and all(
        h in speak and h.beat.doing == "others" and h.stands_s >= patience_s for h in there
    ):
        return {h.beat.rank: Stall("others", silent=False, waited_for=False) for h in there}
    return found


class StallWatch:
    """Remembers what was heard and what was said. Give `look` all newest heartbeats every few seconds."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[Beat, float]] = {}
        """Rank → heartbeat, and when it came."""
        self._size = 0
        self._told: dict[int, tuple[Beat, float]] = {}
        """Rank → the heartbeat of a worker that was named, and since when it has stood."""

    def look(self, beats: Sequence[Beat], now: float) -> list[str]:
        """What is to be said now, of the heartbeats that can be read at `now` (s)."""
        self._hear(beats, now)
        heard = {rank: Heard(beat, now - at) for rank, (beat, at) in self._heard.items() if rank < self._size}
        said = self._going_on(now)
        groups: dict[Stall, list[Heard]] = {}
        for rank, stall in stalls(heard.values()).items():
            if rank not in self._told:
                self._told[rank] = (heard[rank].beat, now - heard[rank].stands_s)
                groups.setdefault(stall, []).append(heard[rank])
        waiting = [h.beat for h in heard.values() if h.beat.doing == "others" and h.silent_s < SILENT_S]
        furthest = max(waiting, key=lambda b: (b.epoch, b.step), default=None)
        return said + [sentence(stall, group, furthest) for stall, group in groups.items()]

    def _hear(self, beats: Sequence[Beat], now: float) -> None:
        begun = []
        for beat in beats:
            before = self._heard[beat.rank][0] if beat.rank in self._heard else None
            if before is None or before.process != beat.process:
                begun.append(beat)
                self._told.pop(beat.rank, None)
            if before is None or (before.process, before.number) != (beat.process, beat.number):
                self._heard[beat.rank] = (beat, now)
        if begun:
            # Workers were started, perhaps again and fewer: those whose new process has not spoken yet are not silent.
            self._size = min(begun, key=lambda b: b.number).size
            self._heard = {rank: (beat, now) for rank, (beat, _) in self._heard.items()}

    def _going_on(self, now: float) -> list[str]:
        going = []
        for rank, (then, since) in list(self._told.items()):
            beat = self._heard[rank][0]
            if beat.marks != then.marks:
                del self._told[rank]
                if beat.doing != "done":
                    going.append((beat, since))
        if not going:
            return []
        stood = duration(now - min(since for _, since in going))
        return [f"{_who([b for b, _ in going])} {'go' if len(going) > 1 else 'goes'} on, after {stood}"]


def sentence(stall: Stall, group: Sequence[Heard], waiting: Beat | None = None) -> str:
    """Names the workers that stand still for one reason, with where they are and what they wait for.

    waiting: one of the others that wait for them, where there are any.
    """
    longest = max(group, key=lambda h: h.stands_s)
    beat, several = longest.beat, len(group) > 1
    who, has = _who([h.beat for h in group]), "have" if several else "has"
    if stall.silent:
        # Its last word may be older than the place where it was stopped; where the others wait, it is awaited.
        awaited = (
            ""
            if waiting is None
            else f"; the others wait for {'them' if several else 'it'} at {_where(waiting)}"
        )
        what = "their processes are" if several else "its process is"
        silent = duration(longest.silent_s)
        return f"warning: {who} {has} not answered for {silent}: {what} stopped, or cut off from the cluster{awaited}"
    waited_for = ""
    if stall.waited_for:
        waited_for = f" while the others wait for {'them' if several else 'it'}{' in the all-reduce' if beat.step else ''}"
    if stall.doing == "others":
        what = "each waits for the others, so the network between them does not get on"
    else:
        what = f"{'they are' if several else 'it is'} {_WHAT[stall.doing]}"
    return f"warning: {who} {has} been at {_where(beat)} for {duration(longest.stands_s)}{waited_for}: {what}"


def _who(beats: Sequence[Beat]) -> str:
    first = beats[0]
    if len(beats) == 1:
        return f"worker {first.rank + 1} of {first.size} (rank {first.rank}, node {first.node}, process {first.process})"
    numbers = ", ".join(str(b.rank + 1) for b in beats[:_NUMBERS_SHOWN])
    more = ", …" if len(beats) > _NUMBERS_SHOWN else ""
    nodes = sorted({b.node for b in beats})
    where = f"node{'s' * (len(nodes) > 1)} {', '.join(nodes[:_NUMBERS_SHOWN])}"
    return f"workers {numbers}{more} of {first.size} ({where}{', …' if len(nodes) > _NUMBERS_SHOWN else ''})"


def _where(beat: Beat) -> str:
    if not beat.epoch:
        return "its start"
    if beat.step:
        return f"step {beat.step:,} of epoch {beat.epoch}"
    return (
        f"the validation of epoch {beat.epoch}"
        if beat.doing == "validation"
        else f"the end of epoch {beat.epoch}"
    )
