"""DeLong's and Obuchowski's variances: a published example, clusters of one, every film twice, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ray_cxr.evaluate.delong import delong, delong_difference

NAN = float("nan")

# Ovarian cancer patients of DeLong, DeLong and Clarke-Pearson (1988), as published with its results in the SAS/STAT
# user's guide, "Comparing Receiver Operating Characteristic Curves": albumin, total protein, K-G score, benefit of surgery.
_TABLE = """
    3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
    3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
    2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
    3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
    3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
    3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
OVARIAN = np.array(_TABLE.split(), float).reshape(-1, 4)
NO_BENEFIT = 1 - OVARIAN[:, 3]
ALBUMIN, PROTEIN, SCORE = -OVARIAN[:, 0], -OVARIAN[:, 1], OVARIAN[:, 2]


@pytest.mark.parametrize(
    ("test", "area", "error", "low", "high"),
    [
        (ALBUMIN, 0.7366, 0.0927, 0.5549, 0.9182),
        (SCORE, 0.7258, 0.1028, 0.5243, 0.9273),
        (PROTEIN, 0.6478, 0.1000, 0.4518, 0.8439),
    ],
)
def test_published_areas_come_out(
    test: np.ndarray, area: float, error: float, low: float, high: float
) -> None:
    found = delong(NO_BENEFIT, test)
    assert found is not None
    assert found.aurocs[0] == pytest.approx(area, abs=5e-5)
    assert found.standard_error() == pytest.approx(error, abs=5e-5)
    assert found.interval() == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "difference", "error", "low", "high", "chi_square", "p"),
    [
        (ALBUMIN, 0.0108, 0.0953, -0.1761, 0.1976, 0.0127, 0.9102),
        (PROTEIN, -0.0780, 0.1046, -0.2830, 0.1271, 0.5554, 0.4561),
    ],
)
def test_published_differences_from_the_score_come_out(
    first: np.ndarray, difference: float, error: float, low: float, high: float, chi_square: float, p: float
) -> None:
    found = delong_difference(NO_BENEFIT, first, SCORE)
    assert found is not None
    assert found.z is not None
    assert (found.difference, found.standard_error) == pytest.approx((difference, error), abs=5e-5)
    assert found.interval() == pytest.approx((low, high), abs=5e-5)
    assert (found.z**2, found.p) == pytest.approx((chi_square, p), abs=5e-5)


@given(st.integers(0, 2**32 - 1), st.integers(6, 60))
def test_a_patient_for_each_film_gives_delongs_variance(seed: int, films: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, films).astype(np.float32)
    labels[:4] = [0, 0, 1, 1]
    labels[rng.random(films) < 0.1] = NAN
    scores = np.round(rng.normal(size=(2, films)) * 2)
    plain, clustered = delong(labels, scores), delong(labels, scores, rng.permutation(films).tolist())
    if plain is None or clustered is None:
        assert plain is clustered
        return
    known = ~np.isnan(labels)
    assert plain.aurocs == pytest.approx([roc_auc_score(labels[known], s[known]) for s in scores])
    assert clustered.covariance == pytest.approx(plain.covariance, nan_ok=True)


def test_every_film_twice_tells_nothing_new() -> None:
    """The clustered error stays (but for the factor of few patients); DeLong's own falls as if there were twice the films."""
    labels, scores, patients = np.tile(NO_BENEFIT, 2), np.tile(ALBUMIN, 2), list(range(43)) * 2
    once, plain, clustered = (
        delong(NO_BENEFIT, ALBUMIN),
        delong(labels, scores),
        delong(labels, scores, patients),
    )
    assert once is not None and plain is not None and clustered is not None
    assert clustered.standard_error() == pytest.approx(once.standard_error(), rel=1e-12)
    assert plain.standard_error() < 0.73 * once.standard_error()


def test_clustered_error_is_the_spread_that_is_seen() -> None:
    """500 samples of 60 patients with films of both classes; expected: the standard deviation of their AUROCs (± 3 %)."""
    rng = np.random.default_rng(5)
    names, seen, clustered, plain = np.repeat(np.arange(60), 5), [], [], []
    for _ in range(500):
        leaning = np.repeat(rng.normal(size=60), 5)
        labels = (rng.normal(size=300) + leaning > 0.5).astype(np.float32)
        scores = 0.8 * labels + np.repeat(rng.normal(size=60), 5) + 0.5 * rng.normal(size=300)
        by_patient, by_film = delong(labels, scores, names), delong(labels, scores)
        assert by_patient is not None and by_film is not None
        seen.append(by_patient.aurocs[0])
        clustered.append(by_patient.covariance[0, 0])
        plain.append(by_film.covariance[0, 0])
    assert np.sqrt(np.mean(clustered)) == pytest.approx(np.std(seen), rel=0.1)
    assert np.sqrt(np.mean(plain)) < 0.75 * np.std(seen)


def test_difference_of_a_model_from_itself_has_no_test() -> None:
    found = delong_difference(NO_BENEFIT, ALBUMIN, ALBUMIN)
    assert found is not None
    assert (found.difference, found.standard_error, found.z, found.p) == (0, 0, None, None)


@pytest.mark.parametrize("labels", [[1, 1, NAN], [0, 0, 0], [NAN, NAN, NAN]])
def test_one_class_has_no_area(labels: list[float]) -> None:
    assert delong(labels, [0.1, 0.2, 0.3]) is None
    assert delong_difference(labels, [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]) is None


def test_one_positive_patient_has_an_area_without_an_interval() -> None:
    found = delong([1, 1, 0, 0], [0.9, 0.2, 0.3, 0.1], ["a", "a", "b", "c"])
    assert found is not None
    assert found.aurocs[0] == 0.75
    assert found.interval() is None


def test_interval_is_cut_at_one() -> None:
    found = delong([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.3, 0.4, 0.2, 0.1])
    assert found is not None
    assert found.interval()[1] == 1.0  # type: ignore[index]
