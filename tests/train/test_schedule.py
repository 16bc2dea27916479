"""The learning rate: up in a line, down in half a cosine."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.train.schedule import learning_rate_factor


def test_by_hand() -> None:
    # Three steps of warm-up, four of a cosine: (1 + cos(0, 45°, 90°, 135°)) / 2.
    half = math.sqrt(0.5)
    expected = [0.25, 0.5, 0.75, 1.0, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert [learning_rate_factor(step, 3, 7) for step in range(7)] == pytest.approx(expected)


def test_no_warm_up_begins_at_the_top() -> None:
    assert learning_rate_factor(0, 0, 10) == 1.0


@given(st.integers(0, 200), st.integers(1, 1000))
def test_factor_rises_to_one_then_falls_and_never_reaches_zero_in_training(warmup: int, total: int) -> None:
    factors = [learning_rate_factor(step, warmup, total) for step in range(total)]
    assert all(0 < f <= 1 for f in factors)
    top = min(warmup, total - 1)
    assert all(a < b for a, b in pairwise(factors[: top + 1]))
    assert all(a > b for a, b in pairwise(factors[top:]))
    if warmup < total:
        assert factors[warmup] == 1


def test_warm_up_longer_than_training_is_only_a_rise() -> None:
    assert [learning_rate_factor(s, 10, 3) for s in range(3)] == pytest.approx([1 / 11, 2 / 11, 3 / 11])


def test_steps_after_the_last_have_no_learning_rate_left() -> None:
    assert learning_rate_factor(10, 2, 10) == learning_rate_factor(99, 2, 10) == pytest.approx(0)
