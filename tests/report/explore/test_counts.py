"""Counts of labels: by hand, and against the weights of the loss."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ray_cxr.loss.weights import class_weights
from ray_cxr.report.explore.counts import (
    FindingCount,
    co_occurrence,
    count_by,
    count_group,
    findings_per_film,
)

NAN = np.nan
LABELS = arrays(
    np.float32, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.sampled_from([0.0, 1.0, NAN])
)


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_a_count_by_hand() -> None:
    count = FindingCount(labelled=112_120, positives=227)  # Hernia in ChestX-ray14
    assert count.negatives == 111_893
    assert count.prevalence == pytest.approx(0.0020246, abs=1e-7)
    assert count.negatives_per_positive == pytest.approx(492.92, abs=0.01)
    assert count.accuracy_of_always_healthy == pytest.approx(0.9979754, abs=1e-7)
    assert not count.one_class


@pytest.mark.parametrize(("labelled", "positives"), [(0, 0), (5, 0), (5, 5)])
def test_what_has_no_base_is_none(labelled: int, positives: int) -> None:
    count = FindingCount(labelled, positives)
    assert count.one_class
    assert (count.prevalence is None) == (labelled == 0)
    assert (count.negatives_per_positive is None) == (positives == 0)


def test_weights_are_those_of_the_loss() -> None:
    labels = np.array([[1, 0], [0, 0], [0, NAN], [0, 1], [NAN, 1]], np.float32)
    weights = class_weights(labels)
    counts = count_group(frame(patient_id=list("abcde"), A=labels[:, 0], B=labels[:, 1]), ["A", "B"]).findings
    assert [c.weight_of_positive for c in counts.values()] == pytest.approx(weights.positive.tolist())
    assert [c.weight_of_negative for c in counts.values()] == pytest.approx(weights.negative.tolist())


def test_groups_and_natural_prevalence() -> None:
    films = frame(
        patient_id=["a", "a", "b", "c"], split=["train", "train", "test", "test"], sampling_weight=[1, 1, 1, 9.0],
        A=[1.0, NAN, 1.0, 0.0],
    )  # fmt: skip
    groups = count_by(films, ["A"], "split")
    assert list(groups) == ["test", "train"]
    assert (groups["train"].films, groups["train"].patients) == (2, 1)
    assert groups["train"].natural is None
    # One positive stands for itself, the negative for nine: a tenth.
    assert groups["test"].natural == {"A": pytest.approx(0.1)}
    assert groups["test"].as_dict()["natural_prevalence"] == groups["test"].natural


def test_co_occurrence_by_hand() -> None:
    # Of the two films with B that are labelled for A, one shows A; the third film with B says nothing of A.
    labels = np.array([[1, 1], [0, 1], [NAN, 1], [1, 0]], np.float32)
    both = co_occurrence(labels)
    assert both.together.tolist() == [[2, 1], [1, 3]]
    assert both.share.tolist() == [[1.0, 0.5], [0.5, 1.0]]
    assert np.isnan(co_occurrence(np.zeros((3, 2), np.float32)).share).all()


@given(LABELS)
def test_co_occurrence_against_counting(labels: np.ndarray) -> None:
    both = co_occurrence(labels)
    for i in range(labels.shape[1]):
        for j in range(labels.shape[1]):
            films = [(a, b) for a, b in zip(labels[:, i], labels[:, j], strict=True) if b == 1]
            assert both.together[i, j] == sum(a == 1 for a, _ in films)
            base = sum(not np.isnan(a) for a, _ in films)
            if base:
                assert both.share[i, j] == pytest.approx(both.together[i, j] / base)
            else:
                assert np.isnan(both.share[i, j])


def test_findings_per_film_leaves_out_films_that_nobody_labelled() -> None:
    labels = np.array([[1, 1, 0], [0, 0, 0], [NAN, NAN, NAN], [NAN, 1, NAN], [1, 1, 1]], np.float32)
    assert findings_per_film(labels) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert findings_per_film(np.ones((2, 3), np.float32)) == {0: 0, 3: 2}
