"""AUROC and average precision by hand, over labelled films only."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ray_cxr.metrics import auroc, average_precision, mean_measurable, metrics_by_finding

NAN = float("nan")


def _labels(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_auroc_is_the_fraction_of_pairs_in_the_right_order() -> None:
    # Positives .8 and .4, negatives .5, .3, .1: five of six pairs.
    labels, scores = _labels(1, 1, 0, 0, 0), np.array([0.8, 0.4, 0.5, 0.3, 0.1])
    assert auroc(labels, scores) == pytest.approx(5 / 6)
    assert auroc(labels, 1 - scores) == pytest.approx(1 / 6)


def test_tied_pair_counts_half() -> None:
    assert auroc(_labels(1, 0, 0), np.array([0.5, 0.5, 0.2])) == pytest.approx(0.75)


def test_average_precision_is_the_mean_precision_at_each_positive() -> None:
    # In falling order of score: 1, 0, 1, 0, 0. Precision 1/1 at the first positive, 2/3 at the second.
    labels, scores = _labels(1, 1, 0, 0, 0), np.array([0.8, 0.4, 0.5, 0.3, 0.1])
    assert average_precision(labels, scores) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("measure", [auroc, average_precision])
def test_film_that_is_not_labelled_is_left_out(measure) -> None:  # type: ignore[no-untyped-def]
    labels, scores = _labels(1, NAN, 0, 1, NAN, 0), np.array([0.8, 0.9, 0.5, 0.4, 0.0, 0.3])
    known = ~np.isnan(labels)
    assert measure(labels, scores) == measure(labels[known], scores[known])
    assert auroc(labels, scores) == 3 / 4


@pytest.mark.parametrize("measure", [auroc, average_precision])
@pytest.mark.parametrize("values", [(1, 1), (0, 0), (NAN, NAN), (1, NAN), (0, NAN), ()])
def test_one_class_cannot_be_measured(measure, values: tuple[float, ...]) -> None:  # type: ignore[no-untyped-def]
    assert measure(_labels(*values), np.linspace(0, 1, len(values))) is None


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_auroc_is_that_of_all_pairs_counted(seed: int, films: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, films).astype(np.float32)
    scores = rng.integers(0, 6, films) / 5
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    expected = None if pairs.size == 0 else float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert auroc(labels, scores) == (None if expected is None else pytest.approx(expected))


def test_mean_is_over_what_can_be_measured() -> None:
    assert mean_measurable({"Mass": 0.8, "Hernia": None, "Edema": 0.6}) == pytest.approx(0.7)
    assert mean_measurable({"Mass": 0.0, "Edema": 1.0}) == 0.5
    assert mean_measurable({"Hernia": None}) is None
    assert mean_measurable({}) is None


def test_figures_by_finding() -> None:
    labels = np.array([[1, 0], [0, 0], [NAN, 0], [1, NAN]], np.float32)
    scores = np.array([[0.9, 0.1], [0.2, 0.3], [0.5, 0.3], [0.1, 0.9]])
    figures = metrics_by_finding(labels, scores, ["Mass", "Hernia"])
    assert figures["auroc"] == {"Mass": 0.5, "Hernia": None}
    assert figures["mean_auroc"] == 0.5
    # In falling order: 1, 0, 1.
    assert figures["average_precision"] == {"Mass": pytest.approx((1 + 2 / 3) / 2), "Hernia": None}
    assert figures["positives"] == {"Mass": 2, "Hernia": 0}
    assert figures["labelled"] == {"Mass": 3, "Hernia": 3}
    assert figures["films"] == 4
    assert json.loads(json.dumps(figures, allow_nan=False))["auroc"]["Hernia"] is None
