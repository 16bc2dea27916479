"""The live table of a search: what it counts, and what it says with and without a terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from ray_cxr.cli.search_table import Progress, SearchTable, settings_text

BEGIN = {"kind": "search", "trials": 6, "epochs": 9, "concurrent": 2, "objective": "mean_auroc", "known": 0}


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _trial(number: int, state: str, value: float | None = None, reason: str | None = None) -> dict[str, Any]:
    parameters = {"model.backbone": "resnet10t", "train.learning_rate": 0.00312345}
    return {
        "kind": "trial", "number": number, "state": state, "parameters": parameters, "epochs": 9, "value": value,
        "reason": reason,
    }  # fmt: skip


def _epoch(number: int, epoch: int, value: float) -> dict[str, Any]:
    return {
        "kind": "trial_epoch",
        "number": number,
        "epoch": epoch,
        "epochs": 9,
        "value": value,
        "seconds": 3.0,
    }


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _table(clock: Clock, *, terminal: bool, width: int = 100) -> tuple[SearchTable, io.StringIO]:
    """A table that writes into a buffer, and the buffer."""
    written = io.StringIO()
    # Nothing moves on such a screen, so what is left is one picture.
    console = Console(file=written, force_terminal=terminal, width=width, color_system=None, highlight=False)
    return SearchTable(console, clock), written


def test_time_left_is_by_hand(clock: Clock) -> None:
    """Trials took 40 and 20 s, so 30 s each: 3 to come, and 30 - 10 s of the one at work, two at a time."""
    progress = Progress(clock)
    for event in (BEGIN, _trial(0, "running"), _trial(1, "running")):
        progress.take(event)
    assert progress.left_s is None
    clock.now = 20
    progress.take(_trial(1, "pruned", 0.6))
    progress.take(_trial(2, "running"))
    clock.now = 30
    progress.take(_trial(2, "running"))  # begun anew, in another process
    clock.now = 40
    progress.take(_trial(0, "complete", 0.7))
    assert progress.left_s == pytest.approx((3 * 30 + 20) / 2)
    assert progress.head() == "2 of 6 trials ended (1 finished, 1 stopped), 1 running, about 55 s left"


def test_trials_of_a_run_before_count_and_say_nothing_of_time(clock: Clock) -> None:
    progress = Progress(clock)
    for event in (_trial(0, "complete", 0.7), _trial(1, "complete", 0.8), _trial(2, "pruned", 0.9), BEGIN):
        progress.take(event)
    assert progress.left_s is None
    assert progress.best_line() == "best so far: mean AUROC 0.8000, trial 1", "a stopped trial is no best one"
    assert progress.head() == "3 of 6 trials ended (2 finished, 1 stopped), 0 running"


def test_a_line_for_each_trial_where_there_is_no_terminal(clock: Clock) -> None:
    table, written = _table(clock, terminal=False)
    with table:
        table.show(_trial(0, "complete", 0.7))  # of the run before
        for event in ({**BEGIN, "known": 1}, _trial(1, "running"), _trial(2, "running")):
            table.show(event)
        table.show(_epoch(1, 1, 0.61))
        clock.now = 31
        table.show(_epoch(1, 2, 0.62))
        table.show(_epoch(2, 2, 0.63))
        clock.now = 60
        table.show(_trial(1, "pruned", 0.62))
        table.show(_trial(2, "failed", 0.63, "out of memory"))
        table.show({"kind": "note", "text": "trial 9: [its] process died"})
    assert written.getvalue().splitlines() == [
        "6 trials of up to 9 epochs, 2 at a time, 1 of them have ended before",
        "trial 1: epoch 2/9, mean AUROC 0.6200",
        "trial 1 stopped, mean AUROC 0.6200; 2 of 6 trials ended (1 finished, 1 stopped), 1 running, about 1 min 30 s left; "
        "best so far: mean AUROC 0.7000, trial 0",
        "trial 2 failed: out of memory; 3 of 6 trials ended (1 finished, 1 stopped, 1 failed), 0 running, about 1 min 30 s left; "
        "best so far: mean AUROC 0.7000, trial 0",
        "trial 9: [its] process died",
    ]


def test_a_terminal_has_a_table_and_lines_of_what_failed(clock: Clock) -> None:
    table, written = _table(clock, terminal=True)
    with table:
        for event in (BEGIN, _trial(0, "running"), _trial(1, "running")):
            table.show(event)
        clock.now = 12
        table.show(_trial(0, "complete", 0.7))
        table.show(_epoch(1, 3, 0.65))
        table.show(_trial(2, "running"))
        table.show(_trial(3, "running"))
        table.show(_trial(2, "failed", None, "loss is not finite"))
    text = written.getvalue()
    assert "trial 2 failed: loss is not finite\n" in text
    assert "trial 0 finished" not in text
    last = text[text.rindex("2 of 6 trials ended (1 finished, 1 failed), 2 running") :]
    assert "12 s so far" in last
    assert "best so far: mean AUROC 0.7000, trial 0: resnet10t, learning_rate 0.00312" in last
    rows = [line.split() for line in last.splitlines() if "resnet10t," in line and "/9" in line]
    assert rows == [
        ["1", "3/9", "0.6500", "12", "s", "resnet10t,", "learning_rate", "0.00312"],
        ["3", "0/9", "–", "0", "s", "resnet10t,", "learning_rate", "0.00312"],
    ]


def test_a_narrow_terminal_and_many_trials(clock: Clock) -> None:
    table, _ = _table(clock, terminal=False, width=40)
    for event in (BEGIN, *(_trial(n, "running") for n in range(30))):
        table.progress.take(event)
    written = io.StringIO()
    Console(file=written, width=40).print(table.drawn())
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[-1] == "and 18 more running"
    assert len([line for line in lines if "resnet10t" in line or "0/9" in line]) == 12


def test_long_settings_do_not_push_out_the_figures(clock: Clock) -> None:
    table, _ = _table(clock, terminal=False)
    long = {**_trial(7, "running"), "parameters": {"model.backbone": "x" * 300}}
    for event in (BEGIN, long, _epoch(7, 3, 0.6512)):
        table.progress.take(event)
    written = io.StringIO()
    Console(file=written, width=80).print(table.drawn())
    assert [line.split()[:5] for line in written.getvalue().splitlines() if "xxx" in line] == [
        ["7", "3/9", "0.6512", "0", "s"]
    ]
    assert "…" in written.getvalue()


def test_settings_in_a_line() -> None:
    drawn = {"model.backbone": "[b]x", "model.freeze_depth": "head", "train.learning_rate": 0.003}
    assert settings_text(drawn) == "[b]x, freeze_depth head, learning_rate 0.003"
