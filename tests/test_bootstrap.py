"""The bootstrap: against scikit-learn on repeated films, by hand, and by how often its intervals hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from ray_cxr.bootstrap import (
    Draws,
    area_draws,
    draw_patient_weights,
    interval,
    p_value,
    percentiles,
    weigh_patients,
    weighted_areas,
    weighted_auroc,
    weighted_average_precision,
)

NAN = float("nan")


def sample(
    seed: int, films: int, steps: int | None = 8
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Labels with a few missing, and scores with many ties (or none)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, films).astype(np.float32)
    scores = rng.normal(size=films) + 0.7 * labels
    if steps:
        scores = np.round(scores * steps / 4)
    labels[rng.random(films) < 0.1] = NAN
    return labels, scores, rng


@given(st.integers(0, 2**32 - 1), st.integers(4, 60), st.sampled_from([2, 8, None]))
def test_weighted_areas_are_those_of_scikit_learn(seed: int, films: int, steps: int | None) -> None:
    labels, scores, rng = sample(seed, films, steps)
    weights = rng.choice([0.0, 0.25, 1.0, 3.5], size=(3, films))
    aurocs, precisions = weighted_areas(labels, scores, weights)
    for row, auroc, precision in zip(weights, aurocs, precisions, strict=True):
        kept = ~np.isnan(labels) & (row > 0)
        if len(np.unique(labels[kept])) < 2:
            assert np.isnan(auroc)
            assert np.isnan(precision)
        else:
            of = {"y_true": labels[kept], "y_score": scores[kept], "sample_weight": row[kept]}
            assert auroc == pytest.approx(roc_auc_score(**of), abs=1e-12)
            assert precision == pytest.approx(average_precision_score(**of), abs=1e-12)


def test_a_weight_of_two_is_a_film_twice() -> None:
    labels, scores, rng = sample(3, 40)
    counts = rng.integers(0, 4, 40)
    twice = np.repeat(np.arange(40), counts)
    known = ~np.isnan(labels[twice])
    expected = roc_auc_score(labels[twice][known], scores[twice][known])
    assert weighted_auroc(labels, scores, counts[None])[0] == pytest.approx(expected, abs=1e-12)
    expected = average_precision_score(labels[twice][known], scores[twice][known])
    assert weighted_average_precision(labels, scores, counts[None])[0] == pytest.approx(expected, abs=1e-12)


def test_a_draw_takes_as_many_patients_as_there_are_with_all_their_films() -> None:
    patients = ["c", "a", "a", "b", "c", "c"]
    draws = draw_patient_weights(patients, 200, seed=1)
    assert draws.counts.shape == (200, 3)
    assert (draws.counts.sum(1) == 3).all()
    films = draws.weights(0, 200, np.arange(6))
    assert (films[:, 0] == films[:, 4]).all()
    assert (films[:, 1] == films[:, 2]).all()
    assert not (films[:, 0] == films[:, 1]).all()
    # Each patient comes once a draw on average: 200 draws, standard deviation 0.8 each.
    assert films.mean(0) == pytest.approx(np.ones(6), abs=0.25)


def test_draws_depend_on_the_seed_and_on_nothing_else() -> None:
    first, again = (draw_patient_weights(list("aabbc"), 50, seed=7).counts for _ in range(2))
    assert (first == again).all()
    assert (first[:20] == draw_patient_weights(list("aabbc"), 20, seed=7).counts).all()
    assert (first != draw_patient_weights(list("aabbc"), 50, seed=8).counts).any()


def test_the_order_of_the_films_does_not_matter() -> None:
    patients = ["b", "a", "c", "a", "d"]
    other = [3, 4, 0, 2, 1]
    first = draw_patient_weights(patients, 20, 1).weights(0, 20, np.arange(5))
    second = draw_patient_weights([patients[n] for n in other], 20, 1).weights(0, 20, np.arange(5))
    assert np.array_equal(first[:, other], second)


def test_draws_over_blocks_are_those_of_one_draw_each() -> None:
    labels, scores, rng = sample(5, 80)
    draws = draw_patient_weights(rng.integers(0, 30, 80).tolist(), 75, seed=2)
    expected = weighted_areas(labels, scores, draws.weights(0, 75, np.arange(80)))
    assert np.array_equal(area_draws(labels, scores, draws)[0], expected[0], equal_nan=True)
    assert np.array_equal(area_draws(labels, scores, draws)[1], expected[1], equal_nan=True)
    twofold = area_draws(labels, scores, draws, np.full(80, 2.5))
    assert np.allclose(twofold[0], expected[0], equal_nan=True)


def test_sums_are_over_the_films_of_each_draw() -> None:
    draws = Draws(np.array([[2, 0], [1, 1]], np.uint16), np.array([0, 1, 0]))
    assert draws.sums([1.0, 10.0, 100.0]).tolist() == [202.0, 111.0]
    assert draws.sums([[1.0, 0.0], [10.0, 1.0], [100.0, 2.0]]).tolist() == [[202.0, 4.0], [111.0, 3.0]]


def test_interval_is_between_the_percentiles() -> None:
    assert interval(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))
    assert interval(np.arange(1001) / 1000, level=0.5) == pytest.approx((0.25, 0.75))


@pytest.mark.parametrize("values", [[NAN] * 10, [], [0.5] * 94 + [NAN] * 6])
def test_interval_is_none_where_too_many_draws_have_no_figure(values: list[float]) -> None:
    assert interval(values) is None
    assert p_value(values) is None


def test_interval_stands_a_few_draws_without_a_figure() -> None:
    assert interval([0.4] * 48 + [0.5] * 48 + [NAN] * 4) == (0.4, 0.5)


def test_an_interval_without_a_width_is_none() -> None:
    """All draws of a constant score give 0.5, and all of 3 in 3 give 1: that is no certainty."""
    assert interval([0.5] * 100) is None
    assert percentiles([0.5] * 100) == (0.5, 0.5)


def test_p_value_is_twice_the_smaller_tail() -> None:
    assert p_value(np.linspace(0.1, 0.2, 999)) == pytest.approx(2 / 1000)
    assert p_value([-1.0] * 24 + [1.0] * 975) == pytest.approx(50 / 1000)
    assert p_value([-1.0, 1.0]) == 1.0
    assert p_value([0.0] * 99) == 1.0


def coverage(simulations: int, patients: int, draws: int) -> tuple[float, float]:
    """How often the interval by patient and the interval by film hold the true AUROC, with 4 films a patient.

    A film's score is its patient's part plus its own plus 1 if positive; so the true AUROC is Phi(1 / sqrt(2 (a² + b²))).
    """
    patient_part, own_part = 1.0, 0.6
    truth = norm.cdf(1 / np.sqrt(2 * (patient_part**2 + own_part**2)))
    rng = np.random.default_rng(11)
    names = np.repeat(np.arange(patients), 4)
    held = np.zeros(2)
    for seed in range(simulations):
        labels = np.repeat(rng.random(patients) < 0.4, 4).astype(np.float32)
        scores = np.repeat(rng.normal(0, patient_part, patients), 4) + rng.normal(0, own_part, len(names))
        for number, units in enumerate((names, np.arange(len(names)))):
            found = interval(area_draws(labels, scores + labels, draw_patient_weights(units, draws, seed))[0])
            assert found is not None
            held[number] += found[0] <= truth <= found[1]
    by_patient, by_film = held / simulations
    return float(by_patient), float(by_film)


def test_intervals_by_patient_hold_the_truth_where_those_by_film_do_not() -> None:
    by_patient, by_film = coverage(simulations=150, patients=80, draws=200)
    assert 0.88 <= by_patient <= 0.99  # 95 % ± 3 standard deviations of 150 simulations
    assert by_film < 0.80


@pytest.mark.slow
def test_intervals_by_patient_hold_the_truth_in_90_to_97_percent() -> None:
    by_patient, by_film = coverage(simulations=1000, patients=150, draws=1000)
    assert 0.90 <= by_patient <= 0.97
    assert by_film < 0.80


def test_weights_of_patients_spread_as_draws_do_and_are_never_0() -> None:
    labels, scores, _ = sample(5, 300)
    patients = list(np.repeat(np.arange(150), 2))
    drawn = area_draws(labels, scores, draw_patient_weights(patients, 2000, seed=0))[0]
    weighted = area_draws(labels, scores, weigh_patients(patients, 2000, seed=0))[0]
    assert weighted.std() == pytest.approx(drawn.std(), rel=0.1)
    assert weighted.mean() == pytest.approx(drawn.mean(), abs=0.005)
    rare = np.zeros(300)
    rare[:2] = 1  # one patient: 0.37 of the draws lack him
    assert np.isnan(area_draws(rare, scores, draw_patient_weights(patients, 200, seed=0))[0]).mean() > 0.25
    assert not np.isnan(area_draws(rare, scores, weigh_patients(patients, 200, seed=0))[0]).any()
