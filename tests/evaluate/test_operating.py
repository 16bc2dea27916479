"""Thresholds by hand, and the rates that they give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.evaluate.operating import (
    Point,
    choose_points,
    class_counts,
    few_films_caution,
    missing_class,
    one_sided_cautions,
    rates_at,
)

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


def test_thresholds_from_few_films_carry_their_numbers() -> None:
    enough = {"positives": 10, "negatives": 10}
    assert few_films_caution({"Mass": enough}) is None
    said = few_films_caution(
        {
            "Mass": enough,
            "Edema": {"positives": 2, "negatives": 118},
            "Hernia": {"positives": 40, "negatives": 9},
        }
    )
    assert said == (
        "thresholds rest on fewer than 10 films of one class, so other films would give others: "
        "Edema (2 positive and 118 negative validation films), Hernia (40 positive and 9 negative validation films)"
    )  # fmt: skip


def test_thresholds_that_all_or_no_test_films_pass_carry_a_caution() -> None:
    def points(youden: float, sensitive: float) -> dict[str, Point]:
        return {"youden": Point(youden, 0.8, 0.8), "fixed_sensitivity": Point(sensitive, 0.9, 0.5)}

    # Of Mass the film with the score 9 is not labelled, and does not count.
    columns = {"Mass": ([1, 0, NAN], [0.2, 0.6, 9.0]), "Edema": ([1, 0, 0], [0.2, 0.6, 0.9])}
    every, none = one_sided_cautions({"Mass": points(0.7, 0.2), "Edema": points(0.1, -3)}, columns)
    assert every.startswith("every labelled test film passes the threshold, so its rates say nothing: ")
    assert "Mass (fixed sensitivity), Edema (Youden's index, fixed sensitivity);" in every
    assert (
        "no labelled test film passes the threshold, so its rates say nothing: Mass (Youden's index);" in none
    )
    assert one_sided_cautions({"Edema": points(0.9, 0.6)}, columns) == []


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([1, 0, NAN], None),
        ([1, 1], "there is no negative test film"),
        ([0, NAN], "there is no positive test film"),
        ([NAN, NAN], "no test film is labelled"),
    ],
)
def test_why_a_class_is_missing(labels: list[float], reason: str | None) -> None:
    assert missing_class(class_counts(labels), "test film") == reason
