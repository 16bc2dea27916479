"""What a person sees while a model is trained: a live table on a terminal, plain lines elsewhere and under a debugger. On stderr.

Takes the events of `Worker.report`: `note`, `resumed`, `step`, `validation`, `epoch` (`ray_cxr.train.progress`).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ray_cxr.console import duration

_LINE_INTERVAL_S = 5.0
"""Without a terminal, what passes has a line at most so often."""
_DRAWN_PER_S = 4
_WIDTH = 78
"""Of all that is drawn. A terminal of 80 columns or more can then be resized without breaking a line."""
_ALL_COLUMNS = 76
"""A narrower table of epochs has its first columns only."""
_OTHER_LINES = 8
"""Of the screen, beside the rows of epochs."""
_MOST_ROWS = 20
Event = Mapping[str, Any]


@dataclass
class Course:
    """Where a training stands, from its events. `clock` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    epochs: int = 0
    """Asked for."""
    rows: list[Event] = field(default_factory=list)
    """The lines of the history, an epoch each."""
    newest: Event | None = None
    """The newest step, or news of validation; None between epochs."""
    _step: Event | None = None
    """The newest step, also while validation runs."""
    _at: float = 0.0

    def take(self, event: Event) -> None:
        """An event, in order. A training that was started again tells its epochs again."""
        self._at = self.clock()
        self.epochs = event.get("epochs", self.epochs)
        if event["kind"] == "resumed":
            self.rows, self.newest = list(event["history"]), None
        elif event["kind"] == "step":
            self.newest = self._step = event
        elif event["kind"] == "validation":
            self.newest = event
        elif event["kind"] == "epoch":
            self.rows, self.newest = [*self.rows, event], None

    @property
    def left_s(self) -> float | None:
        """Seconds to the end of the last epoch, validation included, at the speed of the epoch so far; None before a step.

        What validation takes is known once an epoch has ended.
        """
        if self._step is None:
            return None
        step, an_epoch = self._step, self._step["steps"] * self._step["step_s"]
        after = [_after_steps(row) for row in self.rows]
        validation = sum(after) / len(after) if after else 0.0
        done = len(self.rows) if self.newest is None else self.newest["epoch"]
        left = (self.epochs - done) * (an_epoch + validation)
        if self.newest is not None and self.newest["kind"] == "step":
            left += (step["steps"] - step["step"]) * step["step_s"] + validation
        elif self.newest is not None:
            left += validation * (1 - self.newest["films"] / self.newest["of"])
        return float(max(left - (self.clock() - self._at), 0.0))

    def left(self) -> str:
        """About 5 min 20 s left; empty where that is not known."""
        seconds = self.left_s
        return "" if seconds is None else f"about {duration(seconds)} left"

    def speed(self) -> str:
        """81 films/s, 2 % of the time waiting for films."""
        if self._step is None:
            return ""
        share = self._step["wait_share"]
        return f"{self._step['images_per_s']:,.0f} films/s, {share:.0%} of the time waiting for films"

    def best(self) -> str:
        """Best so far: mean AUROC 0.6123, epoch 2; empty before an epoch has ended."""
        best = [row for row in self.rows if row["best"]]
        return (
            f"best so far: mean AUROC {best[-1]['mean_auroc']:.4f}, epoch {best[-1]['epoch']}" if best else ""
        )

    def place(self) -> str:
        """Epoch 3 of 10, step 12 of 40, loss 0.512; or the end."""
        newest = self.newest
        if newest is None:
            return f"epoch {len(self.rows)} of {self.epochs} done"
        head = f"epoch {newest['epoch']} of {self.epochs}"
        if newest["kind"] == "step":
            return f"{head}, step {newest['step']:,} of {newest['steps']:,}, loss {newest['loss']:.3f}"
        return f"{head}, validation, {newest['films']:,} of {newest['of']:,} films"

    @property
    def share(self) -> float:
        """Of the steps, or of validation, that is done."""
        newest = self.newest
        if newest is None:
            return 1.0
        return float(
            newest["step"] / newest["steps"] if newest["kind"] == "step" else newest["films"] / newest["of"]
        )


def _after_steps(row: Event) -> float:
    """Seconds of an epoch after its steps: validation, and the checkpoint."""
    seconds = row["seconds"]
    return float(seconds["validate"] + seconds.get("checkpoint", 0.0))


class TrainingTable:
    """Shows a training's events; use as a context manager, and give `show` to `fit`.

    `in_process`: events come from the training's own thread, which then draws, so that nothing is drawn while it stands at a
    breakpoint.
    """

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        in_process: bool = False,
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._clock, self._line_at, self._drawn_at = clock, clock(), clock()
        self._in_process = in_process
        self.course = Course(clock)
        self._lock = threading.Lock()
        """The table is drawn by a thread of its own, unless `in_process`."""
        self._live: Live | None = None

    def __enter__(self) -> TrainingTable:
        return self

    def __exit__(self, *exc: object) -> None:
        # Also where Ctrl-C ended the training: the cursor comes back, the table stays as it stood.
        self._end_live()

    def say(self, line: str) -> None:
        """One line of text, which stays."""
        self._console.print(line, markup=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        """An event of the training."""
        with self._lock:
            self.course.take(event)
        if _debugged():
            self._end_live()
        if event["kind"] == "note":
            self.say(event["text"])
        elif self._console.is_terminal and not _debugged():
            self._draw()
        elif event["kind"] == "epoch":
            self.say(_epoch_line(event))
        elif event["kind"] == "resumed":
            self.say(
                f"epochs 1 to {len(event['history'])} of {event['epochs']} were done before; {self.course.best()}"
            )
        elif self._clock() - self._line_at >= _LINE_INTERVAL_S:
            self._line_at = self._clock()
            speed = self.course.speed() if event["kind"] == "step" else ""
            self.say("; ".join(filter(None, (self.course.place(), speed, self.course.left()))))

    def _draw(self) -> None:
        if self._live is None:
            # What is written to stderr meanwhile comes to stand above the table.
            self._live = Live(
                get_renderable=self.drawn, console=self._console, refresh_per_second=_DRAWN_PER_S,
                auto_refresh=not self._in_process, redirect_stdout=False,
            )  # fmt: skip
            self._live.start(refresh=True)
        elif self._in_process and self._clock() - self._drawn_at >= 1 / _DRAWN_PER_S:
            self._drawn_at = self._clock()
            self._live.refresh()

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def drawn(self) -> Constrain:
        """The table as it stands: the last epochs, then the one that runs."""
        with self._lock:
            width, height = self._console.size
            width = min(_WIDTH, width - 1)
            shown = min(max(height - _OTHER_LINES, 1), _MOST_ROWS)
            course = self.course
            parts: list[Table | Text] = []
            if course.rows:
                parts.append(_epochs_table(course.rows[-shown:], width))
            parts.append(Text(course.place(), style="bold", no_wrap=True, overflow="ellipsis"))
            if course.newest is not None:
                parts.append(_bar(course.share, width))
                speed = ", ".join(filter(None, (course.speed(), course.left())))
                parts.append(Text(speed, no_wrap=True, overflow="ellipsis"))
            if best := course.best():
                parts.append(Text(best, style="green", no_wrap=True, overflow="ellipsis"))
            return Constrain(Group(*parts), width)


def _debugged() -> bool:
    """Whether a debugger follows this thread; a table drawn again and again would wipe its prompt away."""
    monitoring = getattr(sys, "monitoring", None)  # what debuggers use from Python 3.12 on
    return sys.gettrace() is not None or (
        monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None
    )


def _bar(share: float, width: int) -> Table:
    line = Table.grid()  # the bar alone would not end its line
    line.add_row(ProgressBar(1.0, share, width=width))
    return line


def _epoch_line(event: Event) -> str:
    best = ", best so far" if event["best"] else ""
    return (
        f"epoch {event['epoch']}/{event['epochs']}: loss {event['train_loss']:.4f}, validation loss "
        f"{event['validation_loss']:.4f}, mean AUROC {event['mean_auroc']:.4f}{best} "
        f"({event['images_per_s']:.0f} films/s)"
    )


def _epochs_table(rows: list[Event], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    titles = ("epoch", "mean AUROC", "loss", "validation loss", "time", "films/s", "waiting")
    shown = titles if width >= _ALL_COLUMNS else titles[:3]
    for title in shown:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        seconds = row["seconds"]
        waiting = seconds["data_wait"] / max(seconds["train"], 1e-9)
        cells = (
            str(row["epoch"]), f"{row['mean_auroc']:.4f}", f"{row['train_loss']:.4f}", f"{row['validation_loss']:.4f}",
            duration(seconds["train"] + _after_steps(row)), f"{row['images_per_s']:,.0f}", f"{waiting:.0%}",
        )  # fmt: skip
        table.add_row(*cells[: len(shown)], style="green" if row["best"] else "")
    return table
