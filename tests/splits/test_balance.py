"""Balanced sampling: each unit with its probability, and the population's totals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_cxr.splits.balance import balanced_sample, polish


def test_each_unit_is_drawn_with_its_probability() -> None:
    """Within four standard errors of 1,500 draws, with features that tie the units together."""
    rng = np.random.default_rng(5)
    chance = np.array([0.1, 0.2, 0.2, 0.3, 0.5, 0.5, 0.7, 0.75, 0.75, 1.0, 0.0])
    features = np.column_stack([chance, rng.integers(0, 4, (11, 2))]).astype(float)
    draws = np.array([balanced_sample(chance, features, rng) for _ in range(1500)])
    error = np.sqrt(chance * (1 - chance) / len(draws))
    assert (np.abs(draws.mean(axis=0) - chance) <= 4 * error).all()
    # The probabilities sum to 5, and the first feature is a unit's own: so many units are drawn.
    assert set(draws.sum(axis=1)) == {5}


def test_totals_are_those_of_the_population() -> None:
    """400 units, three features: a tenth is drawn, and the sums are right but for a few units' worth."""
    rng = np.random.default_rng(2)
    features = np.column_stack([np.ones(400), rng.integers(0, 3, (400, 2))]).astype(float)
    balanced = [balanced_sample(np.full(400, 0.1), features, rng) for _ in range(50)]
    plain = [rng.random(400) < 0.1 for _ in range(50)]
    wanted = features.sum(axis=0) * 0.1

    def worst(draws: list[np.ndarray]) -> float:
        return float(max(np.abs(features[d].sum(axis=0) - wanted).max() for d in draws))

    assert worst(balanced) <= 3
    assert worst(plain) > 9


def test_unequal_probabilities_balance_the_weighted_totals() -> None:
    rng = np.random.default_rng(3)
    size = rng.integers(1, 5, 300).astype(float)
    chance = 0.05 * size
    features = np.column_stack([chance, size, np.ones(300)])
    for _ in range(20):
        drawn = balanced_sample(chance, features, rng)
        assert drawn.sum() == pytest.approx(chance.sum(), abs=1)
        assert (size / chance)[drawn].sum() == pytest.approx(size.sum(), rel=0.05)


@settings(max_examples=40)
@given(st.integers(0, 30), st.integers(1, 6), st.integers(0, 10**6))
def test_any_units_are_decided(units: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chance = rng.choice([0.0, 1.0, *rng.random(5)], units)
    features = rng.integers(0, 2, (units, columns)).astype(float)  # often columns that depend on each other
    drawn = balanced_sample(chance, features, np.random.default_rng(seed))
    assert drawn.shape == (units,)
    assert drawn[chance == 1].all() and not drawn[chance == 0].any()
    assert np.array_equal(drawn, balanced_sample(chance, features, np.random.default_rng(seed)))


def test_polishing_brings_the_sums_nearer_and_the_films_nearest() -> None:
    rng = np.random.default_rng(4)
    features = np.column_stack([np.ones(500), rng.random((500, 3)) < 0.1]).astype(float)
    wanted = features.sum(axis=0) * 0.2
    for _ in range(10):
        drawn = rng.random(500) < 0.2
        better = polish(drawn, features, wanted)
        assert features[better].sum(axis=0)[0] == 100
        assert np.abs(features[better].sum(axis=0) - wanted).max() <= 1.5
