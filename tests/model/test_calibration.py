"""Probabilities from logits: by hand, against scikit-learn's Platt scaling, and without a change to the order."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ray_cxr.axes import Labels
from ray_cxr.model.calibration import LEAST, fit_calibration, platt, probabilities

NAN = float("nan")


def _films(
    seed: int, films: int = 300, offset: float = 0.0, steepness: float = 1.0
) -> tuple[NDArray[np.float64], Labels]:
    """Logits [N, 1] that are off by `offset` and too steep, with labels [N, 1] drawn from the right ones."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 1.5, films)
    labels = (rng.random(films) < 1 / (1 + np.exp(-true))).astype(np.float32)
    return (true * steepness + offset)[:, None], labels[:, None]


def _entry(calibration: dict[str, object]) -> dict[str, float]:
    return calibration["findings"]["Mass"]  # type: ignore[index, no-any-return]


def test_without_calibration_the_sigmoid() -> None:
    logits = np.array([[0.0, np.log(3)], [-800.0, 800.0]], np.float32)
    assert probabilities(logits, None, ["Mass", "Edema"]) == pytest.approx(np.array([[0.5, 0.75], [0, 1]]))


def test_by_hand() -> None:
    fits = {
        "Mass": {"shift": np.log(3), "slope": 1.0, "intercept": 0.0},
        "Edema": {"shift": 1.0, "slope": 2.0, "intercept": -1.0},
    }
    logits = np.array([[np.log(3), 1.5]])
    # σ(0); σ(2 · 0.5 - 1); found by name, so in either order
    assert probabilities(logits, {"findings": fits}, ["Mass", "Edema"]).tolist() == [[0.5, 0.5]]
    assert probabilities(np.array([[1.0, 0.0]]), {"findings": fits}, ["Edema", "Mass"])[0] == pytest.approx(
        [1 / (1 + np.e), 0.25]
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_platt_is_scikit_learns(seed: int, weighted: bool) -> None:
    logits, labels = _films(seed, offset=2.0, steepness=1.7)
    y = labels[:, 0].astype(int)
    weight = np.random.default_rng(seed).uniform(0.2, 3, len(y)) if weighted else np.ones(len(y))
    weight /= weight.mean()  # scikit-learn's smoothed targets count weights as films
    slope, intercept = platt(logits[:, 0], y == 1, weight)
    # A logistic regression of coefficient 1 gives scikit-learn the logits as its decision function.
    identity = LogisticRegression()
    identity.classes_, identity.coef_, identity.intercept_ = np.array([0, 1]), np.ones((1, 1)), np.zeros(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = CalibratedClassifierCV(FrozenEstimator(identity), method="sigmoid")
        theirs.fit(logits, y, sample_weight=weight)
    fitted = theirs.calibrated_classifiers_[0].calibrators[0]
    assert (slope, intercept) == pytest.approx((-fitted.a_, -fitted.b_), rel=1e-3, abs=1e-3)


def test_platt_by_hand_where_logits_say_nothing() -> None:
    """Twenty positives of eighty, all with one logit: p = the mean of the smoothed targets, (20·21/22 + 60·1/62) / 80."""
    slope, intercept = platt(np.full(80, 3.0), np.arange(80) < 20, np.ones(80))
    mean = (20 * 21 / 22 + 60 / 62) / 80
    assert 1 / (1 + np.exp(-(slope * 3 + intercept))) == pytest.approx(mean, abs=1e-5)


def test_fit_mends_a_shift_and_a_slope() -> None:
    logits, labels = _films(0, films=20_000, offset=1.5, steepness=2.0)
    fitted = _entry(fit_calibration(logits, labels, ["Mass"], np.array([1.5]), np.ones(len(labels))))
    assert fitted["method"] == "platt" and fitted["shift"] == 1.5
    assert fitted["slope"] == pytest.approx(0.5, abs=0.02) and fitted["intercept"] == pytest.approx(
        0, abs=0.05
    )


def test_shift_changes_nothing_where_platt_is_fitted() -> None:
    """Platt scaling has an intercept of its own."""
    logits, labels = _films(1)
    ones = np.ones(len(labels))
    moved = fit_calibration(logits, labels, ["Mass"], np.array([2.0]), ones)
    still = fit_calibration(logits, labels, ["Mass"], None, ones)
    assert probabilities(logits, moved, ["Mass"]) == pytest.approx(
        probabilities(logits, still, ["Mass"]), abs=1e-6
    )


def test_few_positives_keep_the_shift_and_say_so() -> None:
    logits, labels = np.linspace(-1, 1, 40)[:, None], np.zeros((40, 1), np.float32)
    labels[-(LEAST - 1) :] = 1
    fitted = _entry(fit_calibration(logits, labels, ["Mass"], np.array([0.7]), np.ones(40)))
    assert (fitted["method"], fitted["shift"], fitted["slope"], fitted["intercept"]) == ("shift", 0.7, 1, 0)
    assert fitted["reason"] == "9 positives among the validation films, Platt scaling needs 10"
    few_negatives = _entry(fit_calibration(logits, 1 - labels, ["Mass"], None, np.ones(40)))
    assert few_negatives["method"] == "none" and str(few_negatives["reason"]).startswith("9 negatives")


def test_logits_the_wrong_way_round_are_left() -> None:
    logits, labels = _films(2)
    fitted = _entry(fit_calibration(-logits, labels, ["Mass"], np.array([0.7]), np.ones(len(labels))))
    assert (fitted["method"], fitted["slope"]) == ("shift", 1) and "order" in str(fitted["reason"])


def test_films_without_a_label_are_not_used() -> None:
    logits, labels = _films(3)
    more = np.concatenate([logits, np.full((50, 1), 9.0)])
    gaps = np.concatenate([labels, np.full((50, 1), NAN, np.float32)])
    assert fit_calibration(more, gaps, ["Mass"], None, np.ones(350)) == fit_calibration(
        logits, labels, ["Mass"], None, np.ones(300)
    )


def test_sampling_weight_is_as_many_films() -> None:
    """Up to the smoothing of targets, which knows the number of films: so, many of them."""
    logits, labels = _films(4, films=4_000)
    times = np.where(labels[:, 0] == 1, 1, 3)
    weighed = _entry(fit_calibration(logits, labels, ["Mass"], None, times.astype(float)))
    repeated = fit_calibration(
        np.repeat(logits, times, 0), np.repeat(labels, times, 0), ["Mass"], None, np.ones(times.sum())
    )
    for name in ("slope", "intercept"):
        assert weighed[name] == pytest.approx(_entry(repeated)[name], abs=0.01)


@given(st.integers(0, 2**32), st.floats(-3, 3), st.floats(0.2, 4))
def test_auroc_does_not_change(seed: int, offset: float, steepness: float) -> None:
    logits, labels = _films(seed, 120, offset, steepness)
    calibration = fit_calibration(logits, labels, ["Mass"], np.array([offset]), np.ones(len(labels)))
    before, after = (probabilities(logits, c, ["Mass"])[:, 0] for c in (None, calibration))
    assert roc_auc_score(labels[:, 0], after) == roc_auc_score(labels[:, 0], before)
