"""Probabilities of films: the counts asked for, otherwise as equal as can be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_cxr.errors import InputError
from ray_cxr.splits.inclusion import AT_MOST, ROOM, Need, film_chances, refuse_infeasible


def _need(films: np.ndarray, count: int, name: str = "Mass") -> Need:
    return Need(name, films, count, "split.min_positives")


def test_a_floor_gives_two_probabilities() -> None:
    """1,000 films, 100 positive; 50 films, half of them positive: 25/100 for these, 25/900 for the others."""
    positive = np.arange(1000) < 100
    chance = film_chances(np.ones(1000), [_need(positive, 25)], 50, 0.5)
    assert chance is not None
    assert chance[positive] == pytest.approx(0.25)
    assert chance[~positive] == pytest.approx(25 / 900)


def test_a_need_that_nature_meets_changes_nothing() -> None:
    positive = np.arange(1000) < 100
    chance = film_chances(np.ones(1000), [_need(positive, 5)], 50, 0.5)
    assert chance == pytest.approx(np.full(1000, 0.05))


def test_overlapping_needs_multiply() -> None:
    """Least relative entropy makes the log of a probability a sum over its findings (Deming & Stephan 1940)."""
    first, second = np.arange(400) < 40, np.arange(400) % 20 == 0
    chance = film_chances(np.ones(400), [_need(first, 8), _need(second, 5)], 40, 0.9)
    assert chance is not None
    assert chance.sum() == pytest.approx(40)
    assert chance[first].sum() == pytest.approx(8)
    assert chance[second].sum() == pytest.approx(5)
    neither, one, other, both = (
        chance[(first == a) & (second == b)][0]
        for a, b in ((False, False), (True, False), (False, True), (True, True))
    )
    assert both / one == pytest.approx(other / neither)


def test_the_limit_holds() -> None:
    rare = np.arange(200) < 10
    chance = film_chances(np.ones(200), [_need(rare, 5)], 20, 0.5)
    assert chance is not None
    assert chance[rare] == pytest.approx(0.5)
    assert film_chances(np.ones(200), [_need(rare, 6)], 20, 0.5) is None


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(20, 200), st.integers(1, 5))
def test_what_is_not_refused_has_a_solution(seed: int, films: int, needs: int) -> None:
    """The linear programme that refuses, and the raking that solves, agree on what is possible."""
    rng = np.random.default_rng(seed)
    marks = rng.random((needs, films)) < rng.uniform(0.02, 0.5, (needs, 1))
    size = int(rng.integers(4, films // 2))
    wishes = [_need(m, int(rng.integers(1, 10)), f"finding {i}") for i, m in enumerate(marks)]
    refused = False
    try:
        refuse_infeasible("test", size, wishes, np.arange(films), AT_MOST)
    except InputError:
        refused = True
    if not refused:
        chance = film_chances(np.ones(films), wishes, size, AT_MOST * ROOM)
        assert chance is not None
        assert chance.min() > 0 and chance.max() <= AT_MOST * ROOM
        assert chance.sum() == pytest.approx(size, abs=1e-4)
        assert all(chance[w.films].sum() >= w.count - 1e-4 for w in wishes)
