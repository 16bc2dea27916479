"""What a worker sets for Prometheus. That it arrives there: tests/cluster/test_one_machine.py."""

from typing import Any

import pytest

from ray_cxr.stream.plan import World
from ray_cxr.train import watch
from ray_cxr.train.watch import Watch


class Recorded:
    """A metric of Ray that remembers."""

    values: dict[tuple[str, ...], list[float]]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.keys = name, tag_keys

    def set_default_tags(self, tags: dict[str, str]) -> None:
        assert tuple(tags) == self.keys
        self.key = (self.name, *tags.values())

    def set(self, value: float) -> None:
        self.values.setdefault(self.key, []).append(value)

    inc = set


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], list[float]]:
    monkeypatch.setattr(Recorded, "values", {}, raising=False)
    for name in ("Gauge", "Counter"):
        monkeypatch.setattr(watch, name, Recorded)
    return Recorded.values


def step(number: int, steps: int = 4) -> dict[str, Any]:
    return {
        "kind": "step", "epoch": 2, "step": number, "steps": steps, "loss": 1 / number, "images_per_s": 50.0,
        "wait_share": 0.25,
    }  # fmt: skip


def test_the_first_step_and_the_last_of_an_epoch_are_set(values: dict[tuple[str, ...], list[float]]) -> None:
    told: list[dict[str, Any]] = []
    report = Watch("r1", World(0, 2), told.append)
    for number in (1, 2, 3, 4):
        report(step(number))
    assert values["cxr_train_loss", "r1"] == [1.0, 0.25]
    assert values["cxr_step", "r1"] == [1, 4]
    assert values["cxr_wait_share", "r1", "0"] == [0.25, 0.25]
    # Steps in between are not set, but counted.
    assert values["cxr_steps_total", "r1", "0"] == [1, 3]
    assert [event["step"] for event in told] == [1, 2, 3, 4]


def test_other_ranks_set_only_what_is_theirs(values: dict[tuple[str, ...], list[float]]) -> None:
    report = Watch("r1", World(1, 2), lambda event: None)
    report(step(1))
    assert {key[0] for key in values} == {"cxr_wait_share", "cxr_step_time", "cxr_steps_total"}
    assert {key[1:] for key in values} == {("r1", "1")}


def test_an_epoch_sets_validation(values: dict[tuple[str, ...], list[float]]) -> None:
    report = Watch("r1", World(0, 1), lambda event: None)
    report({"kind": "epoch", "epochs": 3, "validation_loss": 0.5, "mean_auroc": 0.75, "best": True})
    assert values["cxr_validation_auroc", "r1"] == [0.75]
    assert values["cxr_epochs", "r1"] == [3]
