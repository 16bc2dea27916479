"""Thresholds by hand, and the rates that they give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from ray_cxr.evaluate.bootstrap import draw_patient_weights
from ray_cxr.evaluate.operating import choose_points, rates_at

NAN = float("nan")
LABELS = [0, 0, 0, 0, 1, 0, 1, 1, NAN]
SCORES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_points_by_hand() -> None:
    points = choose_points(LABELS, SCORES, sensitivity=0.6, specificity=0.8)
    assert points is not None
    # At 0.5: 3 of 3 found, 4 of 5 spared: 0.8. At 0.7: 2 of 3, 5 of 5: 0.667.
    assert (points["youden"].threshold, points["youden"].validation_specificity) == (0.5, 0.8)
    # At least 0.6 found: at 0.7 (2 of 3), the most specific such threshold.
    assert points["fixed_sensitivity"].threshold == 0.7
    assert points["fixed_sensitivity"].validation_sensitivity == pytest.approx(2 / 3)
    # At least 0.8 spared: down to 0.5.
    assert points["fixed_specificity"].threshold == 0.5


def test_a_specificity_that_only_no_alarm_gives() -> None:
    points = choose_points([1, 0], [0.5, 0.5], sensitivity=0.9, specificity=0.9)
    assert points is not None
    assert points["fixed_specificity"].threshold > 0.5
    assert points["fixed_specificity"].validation_sensitivity == 0


@pytest.mark.parametrize("labels", [[1, 1, NAN], [0, 0, 0], [NAN] * 3])
def test_one_class_has_no_points(labels: list[float]) -> None:
    assert choose_points(labels, [0.1, 0.2, 0.3], 0.9, 0.9) is None


@given(st.integers(0, 2**32 - 1))
def test_points_keep_their_promise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, scores = np.append(rng.integers(0, 2, 30), [0, 1]), np.round(rng.normal(size=32), 1)
    points = choose_points(labels, scores, sensitivity=0.85, specificity=0.7)
    assert points is not None
    for point in points.values():
        called = scores >= point.threshold
        assert called[labels == 1].mean() == pytest.approx(point.validation_sensitivity)
        assert (~called[labels == 0]).mean() == pytest.approx(point.validation_specificity)
    assert points["fixed_sensitivity"].validation_sensitivity >= 0.85
    assert points["fixed_specificity"].validation_specificity >= 0.7


def test_rates_are_those_of_scikit_learn_and_weights_count() -> None:
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 200).astype(np.float32), rng.random(200)
    draws = draw_patient_weights(rng.integers(0, 60, 200).tolist(), 300, 0)
    weights = rng.choice([1.0, 8.0], 200)
    for own in (None, weights):
        rates = rates_at(0.4, labels, scores, draws, own)
        called = scores >= 0.4
        tn, fp, fn, tp = confusion_matrix(labels, called, sample_weight=own).ravel()
        expected = {
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
        }
        expected["f1"] = f1_score(labels, called, sample_weight=own)
        for name, value in expected.items():
            assert rates[name].value == pytest.approx(value)
            low, high = rates[name].interval  # type: ignore[misc]
            assert low < value < high


def test_a_rate_of_nothing_is_not_measurable() -> None:
    rates = rates_at(2.0, [1, 0, 0], [0.3, 0.2, 0.1], draw_patient_weights(list("abc"), 50, 0), None)
    assert rates["ppv"].value is None
    assert rates["ppv"].interval is None
    assert rates["sensitivity"].value == 0
