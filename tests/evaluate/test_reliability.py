"""Brier score and calibration error, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.evaluate.reliability import reliability

NAN = float("nan")


def test_brier_score_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    scores = rng.random(400)
    labels = (rng.random(400) < scores).astype(np.float32)
    weights = rng.choice([1.0, 4.0], 400)
    draws = draw_patient_weights(list(range(400)), 200, 0)
    for own in (None, weights):
        found = reliability(labels, scores, draws, own)
        assert found is not None
        assert found.brier == pytest.approx(brier_score_loss(labels, scores, sample_weight=own))
        low, high = found.brier_interval  # type: ignore[misc]
        assert low < found.brier < high
        assert found.ece < 0.1
    shares, means = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    plain = reliability(labels, scores, draws, None)
    assert plain is not None
    assert [b.positive_share for b in plain.bins] == pytest.approx(shares.tolist(), abs=0.03)
    assert [b.mean_score for b in plain.bins] == pytest.approx(means.tolist(), abs=0.01)


def test_calibration_error_by_hand() -> None:
    # Bins of width 1/15: 0.01 twice (half positive: gap 0.49), 0.5 twice (all positive: gap 0.5), 1.0 once (negative: gap 1).
    labels, scores = [1, 0, 1, 1, 0, NAN], [0.01, 0.01, 0.5, 0.5, 1.0, 0.7]
    found = reliability(labels, scores, draw_patient_weights(list(range(6)), 50, 0), None)
    assert found is not None
    assert found.ece == pytest.approx((2 * 0.49 + 2 * 0.5 + 1) / 5)
    assert sum(b.films for b in found.bins) == 5


def test_draws_have_a_larger_calibration_error_than_their_sample() -> None:
    """Why there is no interval: of scores that are right, 19 of 20 samples have an error below the median of their draws'."""
    rng = np.random.default_rng(4)
    below = 0
    for _ in range(20):
        scores = rng.random(200)
        labels = (rng.random(200) < scores).astype(np.float32)
        drawn = []
        for films in rng.integers(0, 200, (60, 200)):
            found = reliability(
                labels[films], scores[films], draw_patient_weights(list(range(200)), 1, 0), None
            )
            assert found is not None
            drawn.append(found.ece)
        whole = reliability(labels, scores, draw_patient_weights(list(range(200)), 1, 0), None)
        assert whole is not None
        below += whole.ece < np.median(drawn)
    assert below >= 19


def test_equal_scores_stay_in_one_bin() -> None:
    found = reliability([0, 1] * 20, [0.3] * 40, draw_patient_weights(list(range(40)), 50, 0), None)
    assert found is not None
    assert [(b.films, b.positive_share, b.mean_score) for b in found.bins] == [(40, 0.5, pytest.approx(0.3))]


def test_no_label_no_figure() -> None:
    assert reliability([NAN, NAN], [0.1, 0.2], draw_patient_weights(list("ab"), 50, 0), None) is None
