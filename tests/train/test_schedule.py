"""The learning rate by hand: up in a line, then half a cosine, steps, or level."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ray_cxr.train.schedule import build_schedule
from ray_cxr.train.settings import TrainSettings


def _rates(settings: TrainSettings, steps_per_epoch: int, scale: float = 1.0) -> list[float]:
    """Of every step, and of one more."""
    group = {"params": [nn.Parameter(torch.zeros(1))], "lr_scale": scale}
    optimizer = torch.optim.AdamW([group], lr=settings.learning_rate)
    schedule = build_schedule(optimizer, settings, steps_per_epoch)
    rates = []
    for step in range(settings.epochs * steps_per_epoch + 1):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_a_cosine_by_hand() -> None:
    # Three steps of warm-up, four of a cosine: (1 + cos(0, 45°, 90°, 135°, 180°)) / 2.
    half = math.sqrt(0.5)
    expected = [0.25, 0.5, 0.75, 1.0, (1 + half) / 2, 0.5, (1 - half) / 2, 0.0]
    settings = TrainSettings(learning_rate=1.0, epochs=7, warmup_epochs=3)
    assert _rates(settings, 1) == pytest.approx(expected)
    assert _rates(settings, 1, scale=0.1) == pytest.approx([0.1 * rate for rate in expected])


def test_steps_by_hand() -> None:
    """Two steps an epoch, one epoch of warm-up, then a tenth after every two epochs."""
    settings = TrainSettings(
        learning_rate=0.2, epochs=6, warmup_epochs=1, schedule="step", step_epochs=2, step_factor=0.1
    )
    expected = [0.2 / 3, 0.4 / 3] + [0.2] * 4 + [0.02] * 4 + [0.002] * 3
    assert _rates(settings, 2) == pytest.approx(expected)


def test_level_by_hand() -> None:
    settings = TrainSettings(learning_rate=0.2, epochs=3, warmup_epochs=1, schedule="constant")
    assert _rates(settings, 2) == pytest.approx([0.2 / 3, 0.4 / 3, *[0.2] * 5])


def test_no_warm_up_begins_at_the_top() -> None:
    assert _rates(TrainSettings(learning_rate=0.3, epochs=1, warmup_epochs=0), 1)[0] == pytest.approx(0.3)


@given(st.integers(0, 8), st.integers(1, 6), st.integers(1, 12))
def test_cosine_rises_to_the_top_then_falls_and_is_never_zero_in_training(
    warmup_epochs: int, epochs: int, steps: int
) -> None:
    settings = TrainSettings(learning_rate=1.0, epochs=epochs, warmup_epochs=warmup_epochs)
    rates = _rates(settings, steps)[:-1]
    warmup, total = warmup_epochs * steps, epochs * steps
    assert all(0 < rate <= 1 + 1e-12 for rate in rates)
    top = min(warmup, total - 1)
    assert all(a < b for a, b in pairwise(rates[: top + 1]))
    assert all(a > b for a, b in pairwise(rates[top:]))
    if warmup < total:
        assert rates[warmup] == pytest.approx(1)


def test_being_made_anew_in_the_middle_changes_nothing() -> None:
    """As after a resume, and at each epoch."""
    settings = TrainSettings(learning_rate=1.0, epochs=4, warmup_epochs=1)
    expected = _rates(settings, 3)
    optimizer = torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(1))], "lr_scale": 1.0}], lr=1.0)
    for step, rate in enumerate(expected):
        build_schedule(optimizer, settings, 3).step_update(step)
        assert optimizer.param_groups[0]["lr"] == rate
