"""What a person sees while a command runs: bars on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import re
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_PLAIN_INTERVAL_S = 5.0
_PLAIN = re.compile(r"(?P<what>.+): (?P<done>[\d,]+) of (?P<total>[\d,]+) (\((?P<note>.*)\)|done)")
"""A count as `ConsoleProgress` prints it where there is no terminal."""
_STEPS = re.compile(r"(?P<what>epoch \d+ of \d+), step (?P<done>[\d,]+) of (?P<total>[\d,]+), (?P<note>.+)")
"""The steps of a training, as its table prints them where there is no terminal."""


def duration(seconds: float) -> str:
    """A time for a person, in two units at most: "5 min 20 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    large, small, names = (whole // 60, whole % 60, ("min", "s")) if whole < 3600 else (
        whole // 3600, whole % 3600 // 60, ("h", "min")
    )  # fmt: skip
    return f"{large} {names[0]} {small} {names[1]}"


class ConsoleProgress:
    """Counts of films, and notes."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = self._console.is_terminal
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._what, self._total, self._done, self._shown, self._begun = "", 0, 0, 0.0, 0.0

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._finish()

    def start(self, what: str, total: int) -> None:
        """Begins to count `total` of something; the count before is finished."""
        self._finish()
        self._what, self._total, self._done = what, total, 0
        self._shown = self._begun = time.monotonic()
        if self._bars:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"), console=self._console, transient=True,
            )  # fmt: skip
            self._progress.start()
            self._task = self._progress.add_task(what, total=total, note="")

    def advance(self, count: int) -> None:
        done = self._done + count
        rate = done / max(time.monotonic() - self._begun, 1e-3)
        left = "" if self._bars else f", {duration((self._total - done) / max(rate, 1e-3))} left"
        self._set(done, f"{rate:,.0f} films/s{left}")

    def say(self, line: str) -> None:
        """One line of text, which stays; a count that has reached its end is finished first."""
        if self._what and self._done == self._total:
            self._finish()
        self._print(line)

    def update(self, done: int, note: str) -> None:
        """So many of what is counted are done."""
        self._set(done, note)

    def show_line(self, line: str) -> None:
        """A line that a command elsewhere has printed: of a count it becomes a bar again, where there is a terminal."""
        found = (_PLAIN.fullmatch(line) or _STEPS.fullmatch(line)) if self._bars else None
        if found is None:
            if self._what.startswith("epoch"):
                self._end_bar()
            self.say(line)
            return
        done, total = (int(found[name].replace(",", "")) for name in ("done", "total"))
        if self._what != found["what"] or done < self._done:
            self.start(found["what"], total)
        self._set(done, re.sub(r", [^,;]+ left$", "", found["note"] or ""))  # the bar has its own time left
        if found["note"] is None:
            self._finish()

    def _set(self, done: int, note: str) -> None:
        self._done = done
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=note)
        elif done < self._total and time.monotonic() - self._shown >= _PLAIN_INTERVAL_S:
            self._shown = time.monotonic()
            self._print(f"{self._what}: {done:,} of {self._total:,}{f' ({note})' if note else ''}")

    def _finish(self) -> None:
        what, done = self._what, self._done
        self._end_bar()
        if what and done:
            self._print(f"{what}: {done:,} of {self._total:,} done")

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None
        self._what, self._done = "", 0

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)
