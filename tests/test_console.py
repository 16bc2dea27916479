"""What a person sees where there is no terminal: plain lines on stderr, at most one every few seconds."""

import pytest

from ray_cxr import console
from ray_cxr.console import ConsoleProgress, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (320, "5 min 20 s"), (3600, "1 h 0 min"), (93_784, "26 h 3 min")],
)  # fmt: skip
def test_times_are_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_count_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    with ConsoleProgress() as progress:
        progress.start("films", 112_120)
        clock.now += 1
        progress.advance(100)  # too soon for a line
        clock.now += 39
        progress.advance(12_300)
        clock.now += 1
        progress.advance(99_720)
        progress.say("something else")
        progress.start("shards", 5)
        progress.advance(3)
    # 12,400 films in 40 s are 310 a second; the 99,720 that are left take 321.7 s.
    assert capsys.readouterr().err.splitlines() == [
        "films: 12,400 of 112,120 (310 films/s, 5 min 22 s left)",
        "films: 112,120 of 112,120 done",
        "something else",
        "shards: 3 of 5 done",
    ]


class Terminal(ConsoleProgress):
    """On a terminal, with bars that are only kept."""

    def __init__(self) -> None:
        super().__init__()
        self._bars = True
        self.bars: list[tuple[str, int, int, str]] = []

    def start(self, what: str, total: int) -> None:
        self._finish()
        self._what, self._total, self._done = what, total, 0

    def _set(self, done: int, note: str) -> None:
        self._done = done
        self.bars.append((self._what, done, self._total, note))


def test_lines_of_a_cluster_become_bars_again(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Terminal()
    for line in (
        "films: 12,400 of 112,120 (310 films/s, 5 min 22 s left)",
        "films: 112,120 of 112,120 done",
        "dry run: 16 of a kind",
        "epoch 1 of 3, step 2 of 1,009, loss 0.500; 80 films/s, 2% of the time waiting for films; about 3 min left",
        "epoch 1/3: loss 0.1, best so far (135 films/s)",
        "epoch 2 of 3, step 1 of 1,009, loss 0.400",
    ):
        progress.show_line(line)
    assert progress.bars == [
        ("films", 12_400, 112_120, "310 films/s"),
        ("films", 112_120, 112_120, ""),
        (
            "epoch 1 of 3",
            2,
            1009,
            "loss 0.500; 80 films/s, 2% of the time waiting for films; about 3 min left",
        ),
        ("epoch 2 of 3", 1, 1009, "loss 0.400"),
    ]
    assert capsys.readouterr().err.splitlines() == [
        "films: 112,120 of 112,120 done",
        "dry run: 16 of a kind",
        "epoch 1/3: loss 0.1, best so far (135 films/s)",
    ]


def test_without_a_terminal_lines_of_a_cluster_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ConsoleProgress()
    progress.show_line("films: 5 of 9 (310 films/s, 1 s left)")
    assert capsys.readouterr().err == "films: 5 of 9 (310 films/s, 1 s left)\n"
