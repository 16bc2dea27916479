"""What a person sees of a training: where it stands, how long it takes, a table that fits, plain lines without a terminal."""

import io
import sys
import time
from typing import Any

import pytest
from rich.console import Console

from ray_cxr.cli.training_table import Course, TrainingTable

Event = dict[str, Any]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _step(epoch: int, step: int, **other: Any) -> Event:
    return {
        "kind": "step", "epoch": epoch, "epochs": 4, "step": step, "steps": 10, "loss": 0.51234, "images_per_s": 81.4,
        "wait_share": 0.023, "step_s": 2.0,
    } | other  # fmt: skip


def _validation(epoch: int, films: int) -> Event:
    return {"kind": "validation", "epoch": epoch, "epochs": 4, "films": films, "of": 40}


def _epoch(epoch: int, auroc: float, *, best: bool = True) -> Event:
    return {
        "kind": "epoch", "epoch": epoch, "epochs": 4, "train_loss": 0.9, "validation_loss": 0.8, "mean_auroc": auroc,
        "best": best, "images_per_s": 80.0,
        "seconds": {"train": 20.0, "data_wait": 1.0, "validate": 4.5, "checkpoint": 0.5},
    }  # fmt: skip


def _course(*events: Event) -> tuple[Course, Clock]:
    clock = Clock()
    course = Course(clock)
    for event in events:
        course.take(event)
    return course, clock


def test_time_left_is_of_steps_first_and_of_validation_once_it_is_known() -> None:
    assert _course()[0].left_s is None
    # 7 of 10 steps at 2 s are left, and three epochs of 10.
    assert _course(_step(1, 3))[0].left_s == pytest.approx(7 * 2 + 3 * 20)
    # One epoch has shown that validation and checkpoint take 5 s: those of epochs 2, 3 and 4 are to come.
    assert _course(_step(1, 10), _epoch(1, 0.6), _step(2, 3))[0].left_s == pytest.approx(14 + 5 + 2 * 25)
    # A quarter of the films of epoch 2 are scored.
    course, clock = _course(_step(1, 10), _epoch(1, 0.6), _step(2, 10), _validation(2, 10))
    assert course.left_s == pytest.approx(0.75 * 5 + 2 * 25)
    clock.now += 10
    assert course.left_s == pytest.approx(0.75 * 5 + 2 * 25 - 10), "it runs down between events"
    clock.now += 1000
    assert course.left_s == 0
    assert _course(_step(4, 10), _epoch(4, 0.6))[0].left_s == pytest.approx(3 * 25), (
        "three epochs are missing"
    )


def test_time_left_is_nothing_at_the_end() -> None:
    events = [e for n in range(1, 5) for e in (_step(n, 10), _epoch(n, 0.6))]
    assert _course(*events)[0].left_s == 0


def test_best_so_far_is_that_of_the_newest_better_epoch() -> None:
    course, _ = _course(_epoch(1, 0.6), _epoch(2, 0.7), _epoch(3, 0.65, best=False))
    assert course.best() == "best so far: mean AUROC 0.7000, epoch 2"
    assert _course(_step(1, 1))[0].best() == ""


def test_training_that_goes_on_shows_the_epochs_before_and_one_that_was_started_again_none_twice() -> None:
    resumed = {"kind": "resumed", "epochs": 4, "history": [_epoch(1, 0.6), _epoch(2, 0.7)]}
    course, _ = _course(resumed, _step(3, 1))
    assert [row["epoch"] for row in course.rows] == [1, 2] and course.best().endswith("epoch 2")
    course.take(_epoch(3, 0.8))
    course.take(resumed)  # a worker died, and the checkpoint of epoch 3 was damaged
    assert [row["epoch"] for row in course.rows] == [1, 2]


def test_where_it_stands() -> None:
    assert _course(_step(2, 3))[0].place() == "epoch 2 of 4, step 3 of 10, loss 0.512"
    assert _course(_step(2, 10), _validation(2, 12))[0].place() == "epoch 2 of 4, validation, 12 of 40 films"
    assert _course(_epoch(1, 0.5))[0].place() == "epoch 1 of 4 done"
    course, _ = _course(_step(2, 3))
    assert course.speed() == "81 films/s, 2% of the time waiting for films" and course.share == 0.3


def _drawn(width: int, height: int, *events: Event) -> list[str]:
    """The lines of the table on a terminal of that size."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, height=height, color_system=None)
    table = TrainingTable(console, Clock())
    for event in events:
        table.course.take(event)
    console.print(table.drawn())
    return file.getvalue().splitlines()


EPOCHS = [_epoch(n, 0.5 + n / 100) for n in range(1, 31)]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (60, 12), (79, 8)])
def test_table_fits_the_terminal_and_shows_the_last_epochs(width: int, height: int) -> None:
    lines = _drawn(width, height, *EPOCHS, _step(31, 123_456, steps=1_234_567))
    assert len(lines) < height and max(map(len, lines)) < width
    text = "\n".join(lines)
    assert "0.8000" in text and "0.5100" not in text, "the last epoch, not the first"
    assert "epoch 31 of 4, step 123,456 of 1,234,567, loss 0.512" in text
    assert "best so far: mean AUROC 0.8000, epoch 30" in text


def test_table_on_eighty_columns_cuts_nothing() -> None:
    long = {"train": 10_000.0, "data_wait": 1.0, "validate": 1.0}
    lines = _drawn(
        80, 24, _epoch(1, 0.6), _epoch(2, 0.6) | {"seconds": long, "images_per_s": 12_345.0}, _step(3, 3)
    )
    text = "\n".join(lines)
    assert "…" not in text
    assert "81 films/s, 2% of the time waiting for films, about " in text and lines[-2].endswith(" left")
    assert lines[0].split() == [
        "epoch",
        "mean",
        "AUROC",
        "loss",
        "validation",
        "loss",
        "time",
        "films/s",
        "waiting",
    ]
    assert lines[1].split() == ["1", "0.6000", "0.9000", "0.8000", "25", "s", "80", "5%"]


def _plain(clock: Clock) -> tuple[TrainingTable, io.StringIO]:
    file = io.StringIO()
    return TrainingTable(Console(file=file, force_terminal=False, width=80), clock), file


def test_plain_lines_come_now_and_then_and_epochs_always() -> None:
    clock = Clock()
    table, file = _plain(clock)
    with table:
        table.show({"kind": "resumed", "epochs": 4, "history": [_epoch(1, 0.6)]})
        table.show(_step(2, 1))  # too soon for a line
        clock.now += 6
        table.show(_step(2, 3))
        clock.now += 6
        table.show(_validation(2, 12))
        table.show(_epoch(2, 0.61, best=False))
        table.show({"kind": "note", "text": "something [red]else[/red]"})
    assert file.getvalue().splitlines() == [
        "epochs 1 to 1 of 4 were done before; best so far: mean AUROC 0.6000, epoch 1",
        "epoch 2 of 4, step 3 of 10, loss 0.512; 81 films/s, 2% of the time waiting for films; about 1 min 9 s left",
        "epoch 2 of 4, validation, 12 of 40 films; about 54 s left",
        "epoch 2/4: loss 0.9000, validation loss 0.8000, mean AUROC 0.6100 (80 films/s)",
        "something [red]else[/red]",
    ]


def test_cursor_comes_back_where_a_training_is_interrupted() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=24)

    def interrupted() -> None:
        with TrainingTable(console, Clock()) as table:
            table.show(_step(1, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    hidden, shown = (file.getvalue().rfind(code) for code in ("\x1b[?25l", "\x1b[?25h"))
    assert 0 <= hidden < shown


def test_debugger_gets_plain_lines_and_nothing_is_drawn_while_training_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, force_terminal=True, width=80, height=24, color_system=None)
    with TrainingTable(console, clock, in_process=True) as table:
        table.show(_step(1, 1))
        before = file.getvalue()
        assert "step 1 of 10" in before
        time.sleep(0.6)  # at a breakpoint
        assert file.getvalue() == before
        clock.now += 1
        table.show(_step(1, 2))
        assert "step 2 of 10" in file.getvalue()
        monkeypatch.setattr(sys, "gettrace", lambda: print)
        table.show(_step(1, 3))
        shown = len(file.getvalue())
        clock.now += 10
        table.show(_step(1, 4))
        assert file.getvalue()[shown:].startswith("epoch 1 of 4, step 4 of 10, loss 0.512; 81 films/s")
