"""What a person sees while a search runs: a live table on a terminal, a line for each trial elsewhere. Always on stderr.

Takes the events of `ray_cxr.tune.search`: `search`, `trial`, `trial_epoch`, `note`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ray_cxr.console import duration
from ray_cxr.errors import count_text

_STATE_WORDS = {"complete": "finished", "pruned": "stopped", "failed": "failed"}
_OBJECTIVE_WORDS = {"mean_auroc": "mean AUROC", "worst_average_precision": "worst average precision"}
_SHOWN = 12
"""Running trials with a row of their own; a cluster has hundreds."""
_EPOCH_LINE_S = 30.0
"""Without a terminal, a running trial's epoch has a line at most so often."""


@dataclass
class Running:
    """A trial at work. began: by the clock of the search. epoch, value: its last one, 0 and None before."""

    number: int
    parameters: Mapping[str, Any]
    epochs: int
    began: float
    epoch: int = 0
    value: float | None = None


@dataclass
class Progress:
    """Where a search stands, from its events. `clock` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    trials: int = 0
    """Asked for."""
    concurrent: int = 1
    objective: str = "mean_auroc"
    running: dict[int, Running] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    """complete, pruned, failed → trials."""
    best: tuple[float, int, Mapping[str, Any]] | None = None
    """Score, number and settings of the best trial that came to its end."""
    took: list[float] = field(default_factory=list)
    """Seconds of each trial that ended under our eyes."""

    def take(self, event: Mapping[str, Any]) -> None:
        """An event, in order. A trial that ended in a run before is told of without having begun."""
        if event["kind"] == "search":
            self.trials, self.concurrent, self.objective = (
                event[k] for k in ("trials", "concurrent", "objective")
            )
        elif event["kind"] == "trial_epoch":
            trial = self.running[event["number"]]
            trial.epoch, trial.value = event["epoch"], event["value"]
        elif event["kind"] == "trial" and event["state"] == "running":
            number = event["number"]
            self.running[number] = Running(number, event["parameters"], event["epochs"], self.clock())
        elif event["kind"] == "trial":
            self._end(event)

    def _end(self, event: Mapping[str, Any]) -> None:
        trial = self.running.pop(event["number"], None)
        if trial is not None:
            self.took.append(self.clock() - trial.began)
        self.ended[event["state"]] += 1
        if event["state"] == "complete" and (self.best is None or event["value"] > self.best[0]):
            self.best = (event["value"], event["number"], event["parameters"])

    @property
    def left_s(self) -> float | None:
        """Seconds until all have ended, if trials take what they took so far; None before one has ended under our eyes."""
        if not self.took:
            return None
        each, now = sum(self.took) / len(self.took), self.clock()
        to_come = max(self.trials - self.ended.total() - len(self.running), 0)
        rest = sum(max(each - (now - t.began), 0.0) for t in self.running.values())
        return (to_come * each + rest) / max(self.concurrent, 1)

    def head(self) -> str:
        """5 of 20 trials ended (3 finished, 2 stopped), 2 running, about 4 min left."""
        counts = [f"{self.ended[s]} {word}" for s, word in _STATE_WORDS.items() if self.ended[s]]
        of = f" ({', '.join(counts)})" if counts else ""
        left = "" if self.left_s is None else f", about {duration(self.left_s)} left"
        total = count_text(self.trials, "trial")
        return f"{self.ended.total()} of {total} ended{of}, {len(self.running)} running{left}"

    def best_line(self) -> str:
        """Best so far: 0.7432 mean AUROC, trial 3; empty before one has come to its end."""
        if self.best is None:
            return ""
        value, number, _ = self.best
        return f"best so far: {self.words} {value:.4f}, trial {number}"

    @property
    def words(self) -> str:
        """The objective in words."""
        return _OBJECTIVE_WORDS.get(self.objective, self.objective)


def settings_text(parameters: Mapping[str, Any]) -> str:
    """Settings in one line: resnet10t, freeze_depth 2, learning_rate 0.003."""
    parts = []
    for name, value in parameters.items():
        short = f"{value:.3g}" if isinstance(value, float) else str(value)
        last = name.rpartition(".")[2]
        parts.append(short if last == "backbone" else f"{last} {short}")
    return ", ".join(parts)


class SearchTable:
    """Shows a search's events; use as a context manager, and give `show` to the search."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._clock, self._began, self._line_at = clock, clock(), clock()
        self.progress = Progress(clock)
        self._lock = threading.Lock()
        """The table is drawn by a thread of its own."""
        self._live: Live | None = None

    def __enter__(self) -> SearchTable:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """One line of text, which stays."""
        self._console.print(line, markup=False, soft_wrap=True)

    def show(self, event: Mapping[str, Any]) -> None:
        """An event of the search."""
        known = event["kind"] == "trial" and event["number"] not in self.progress.running
        with self._lock:
            self.progress.take(event)
        if event["kind"] == "note":
            self.say(event["text"])
        elif event["kind"] == "search":
            self._begin(event)
        elif event["kind"] == "trial_epoch":
            self._say_epoch(event)
        elif event["state"] != "running" and not known:
            self._say_end(event)

    def _begin(self, event: Mapping[str, Any]) -> None:
        before = f", {event['known']} of them have ended before" if event["known"] else ""
        epochs = count_text(event["epochs"], "epoch")
        self.say(
            f"{count_text(event['trials'], 'trial')} of up to {epochs}, {event['concurrent']} at a time{before}"
        )
        if self._console.is_terminal and self._live is None:
            # What Ray writes to stderr meanwhile comes to stand above the table.
            self._live = Live(
                get_renderable=self.drawn, console=self._console, refresh_per_second=2, redirect_stdout=False
            )
            self._live.start()

    def _say_epoch(self, event: Mapping[str, Any]) -> None:
        if self._live is None and self._clock() - self._line_at >= _EPOCH_LINE_S:
            self._line_at = self._clock()
            score = f"{self.progress.words} {event['value']:.4f}"
            self.say(f"trial {event['number']}: epoch {event['epoch']}/{event['epochs']}, {score}")

    def _say_end(self, event: Mapping[str, Any]) -> None:
        failed = event["state"] == "failed"
        if self._live is not None and not failed:
            return  # the table says so
        self._line_at = self._clock()
        score = "" if event["value"] is None or failed else f", {self.progress.words} {event['value']:.4f}"
        reason = f": {event['reason']}" if event["reason"] else ""
        line = f"trial {event['number']} {_STATE_WORDS[event['state']]}{score}{reason}"
        if self._live is None:
            line = "; ".join(filter(None, (line, self.progress.head(), self.progress.best_line())))
        self.say(line)

    def drawn(self) -> Group:
        """The table as it stands: counts, the best, the running trials."""
        with self._lock:
            progress = self.progress
            parts: list[Text | Table] = [
                Text(f"{progress.head()}; {duration(self._clock() - self._began)} so far", style="bold")
            ]
            if progress.best is not None:
                line = Text(progress.best_line(), style="green", no_wrap=True, overflow="ellipsis")
                parts.append(line.append(f": {settings_text(progress.best[2])}", style="dim"))
            if progress.running:
                parts.append(self._running(progress))
            hidden = len(progress.running) - _SHOWN
            if hidden > 0:
                parts.append(Text(f"and {hidden} more running", style="dim"))
            return Group(*parts)

    def _running(self, progress: Progress) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
        for name in ("trial", "epoch", progress.words, "for"):
            table.add_column(name, justify="right", no_wrap=True)
        # Takes what the others leave.
        table.add_column("settings", overflow="ellipsis", no_wrap=True, ratio=1)
        for trial in sorted(progress.running.values(), key=lambda t: t.number)[:_SHOWN]:
            value = "–" if trial.value is None else f"{trial.value:.4f}"
            table.add_row(
                str(trial.number), f"{trial.epoch}/{trial.epochs}", value,
                duration(self._clock() - trial.began), Text(settings_text(trial.parameters)),
            )  # fmt: skip
        return table
