"""DeLong's and Obuchowski's variances, against second computations of their published equations, and by simulation.

What rests on what:
- DeLong: the data of the published example (below), worked in exact fractions, pair of films by pair of films, from the
  equations of the paper (kernel psi, components V10 and V01, S = S10 / m + S01 / n); the code under test goes by ranks and floats.
  No figure was copied from a publication: DeLong et al. print areas of all 49 patients (0.69, 0.72, 0.65), and the data that are
  public are those of the 43 without a missing test.
- Obuchowski: her equations 4 to 7, written out as loops over patients and their films; then clusters of one film, every
  film twice, and the spread that repeated samples show. No worked example with its data was to be had.
"""

from fractions import Fraction
from itertools import product
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from ray_cxr.evaluate.delong import delong, delong_difference

NAN = float("nan")

# The 43 of DeLong, DeLong and Clarke-Pearson's (1988) ovarian cancer patients without a missing test, as printed in the SAS/STAT
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


TESTS = np.stack([ALBUMIN, PROTEIN, SCORE])


def _psi(x: float, y: float) -> Fraction:
    return Fraction(int(x > y)) + Fraction(int(x == y), 2)


def _by_hand(labels: np.ndarray, tests: np.ndarray) -> tuple[list[Fraction], list[list[Fraction]]]:
    """Areas and covariances of several tests as the paper has them: one kernel a pair of patients, in exact fractions."""
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    m, n = len(positive), len(negative)
    v10 = [[sum(_psi(t[i], t[j]) for j in negative) / n for i in positive] for t in tests]
    v01 = [[sum(_psi(t[i], t[j]) for i in positive) / m for j in negative] for t in tests]
    areas = [sum(v) / m for v in v10]

    def s(v: list[list[Fraction]], r: int, t: int, size: int) -> Fraction:
        return sum((a - areas[r]) * (b - areas[t]) for a, b in zip(v[r], v[t], strict=True)) / (size - 1)  # type: ignore[return-value]

    tests_of = range(len(tests))
    return areas, [[s(v10, r, t, m) / m + s(v01, r, t, n) / n for t in tests_of] for r in tests_of]


def test_the_published_example_comes_out_as_by_hand() -> None:
    areas, covariance = _by_hand(NO_BENEFIT, TESTS)
    assert areas[0] == Fraction(274, 372)  # 12 patients without benefit, 31 with: 372 pairs
    found = delong(NO_BENEFIT, TESTS)
    assert found is not None
    assert found.aurocs == pytest.approx([float(a) for a in areas], rel=1e-12)
    assert found.covariance == pytest.approx(np.array(covariance, float), rel=1e-12)
    error = sqrt(covariance[2][2])
    ends = (float(areas[2]) - norm.ppf(0.975) * error, float(areas[2]) + norm.ppf(0.975) * error)
    assert found.interval(2) == pytest.approx(ends, rel=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 2), (1, 2), (0, 1)])
def test_differences_of_the_published_example_come_out_as_by_hand(first: int, second: int) -> None:
    areas, c = _by_hand(NO_BENEFIT, TESTS)
    error = sqrt(c[first][first] + c[second][second] - 2 * c[first][second])
    z = float(areas[first] - areas[second]) / error
    found = delong_difference(NO_BENEFIT, TESTS[first], TESTS[second])
    assert found is not None
    assert (found.difference, found.standard_error) == pytest.approx((z * error, error), rel=1e-12)
    assert (found.z, found.p) == pytest.approx((z, 2 * norm.sf(abs(z))), rel=1e-12)


def _obuchowski(labels: np.ndarray, tests: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Her covariance [M, M]: sums of components over the films of each of I patients, of whom some have one class only."""
    names = sorted(set(patients))
    positive, negative = labels == 1, labels == 0
    m, n, everyone = positive.sum(), negative.sum(), len(names)
    with_positive = len(set(patients[positive]))
    with_negative = len(set(patients[negative]))
    areas = [np.mean([float(_psi(x, y)) for x, y in product(t[positive], t[negative])]) for t in tests]

    def component(t: np.ndarray, film: int) -> float:
        """V10 of a positive film, V01 of a negative one."""
        if positive[film]:
            return float(np.mean([float(_psi(t[film], y)) for y in t[negative]]))
        return float(np.mean([float(_psi(x, t[film])) for x in t[positive]]))

    def deviation(k: int, name: str, cls: np.ndarray) -> float:
        films = np.flatnonzero(cls & (patients == name))
        return sum(component(tests[k], film) for film in films) - len(films) * areas[k]

    out = np.zeros((len(tests), len(tests)))
    for r, t in product(range(len(tests)), repeat=2):
        s10 = (
            with_positive
            / ((with_positive - 1) * m)
            * sum(deviation(r, i, positive) * deviation(t, i, positive) for i in names)
        )
        s01 = (
            with_negative
            / ((with_negative - 1) * n)
            * sum(deviation(r, i, negative) * deviation(t, i, negative) for i in names)
        )
        s11 = [
            everyone / (everyone - 1) * sum(deviation(a, i, positive) * deviation(b, i, negative) for i in names)
            for a, b in ((r, t), (t, r))
        ]  # fmt: skip
        out[r, t] = s10 / m + s01 / n + sum(s11) / (m * n)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_clustered_covariance_is_that_of_obuchowskis_equations(seed: int) -> None:
    """Patients with one to five films of both classes or of one, and scores with ties; two models."""
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"p{n}" for n in range(14)], rng.integers(1, 6, 14))
    labels = (rng.random(len(patients)) < 0.4).astype(float)
    labels[patients == "p0"], labels[patients == "p1"] = 1, 0
    tests = np.round(
        rng.normal(size=(2, len(patients)))
        + labels
        + rng.normal(size=14)[np.unique(patients, return_inverse=True)[1]],
        1,
    )
    found = delong(labels, tests, patients.tolist())
    assert found is not None
    assert found.covariance == pytest.approx(_obuchowski(labels, tests, patients), rel=1e-10)
    difference = delong_difference(labels, *tests, patients.tolist())
    c = _obuchowski(labels, tests, patients)
    assert difference is not None
    assert difference.standard_error == pytest.approx(sqrt(c[0, 0] + c[1, 1] - 2 * c[0, 1]), rel=1e-10)


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
    assert found.interval() is None


@pytest.mark.parametrize("films", [7, 30, 49])
def test_rounding_is_no_spread(films: int) -> None:
    """A perfect and a constant score differ by 0.5 in every sample: an error of 1e-17 would make a p of 0."""
    labels = np.arange(3 * films) % 3 == 0
    found = delong_difference(labels.astype(float), labels * 1.0, np.full(3 * films, 0.1))
    assert found is not None
    assert (found.difference, found.z, found.p, found.interval()) == (0.5, None, None, None)
    constant = delong(labels.astype(float), np.full(3 * films, 0.1))
    assert constant is not None
    assert constant.interval() is None


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
