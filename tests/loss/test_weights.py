"""Weights of the classes, and by how much they move the logits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.errors import InputError
from ray_cxr.loss.weights import (
    check_learnable,
    class_weights,
    equal_weights,
    learnable,
    logit_shift,
)

LABELS = np.array(
    [[0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]], np.float32
)
NAN = float("nan")


def test_weights_are_the_fraction_of_the_other_class() -> None:
    # Mass: 3 of 8 present; pneumonia: 4 of 8; edema: 5 of 8.
    weights = class_weights(LABELS)
    assert weights.positive.tolist() == [5 / 8, 4 / 8, 3 / 8]
    assert weights.negative.tolist() == [3 / 8, 4 / 8, 5 / 8]
    assert weights.positive.dtype == weights.negative.dtype == torch.float32


def test_weights_count_labelled_films_only() -> None:
    weights = class_weights(np.array([[1], [0], [0], [0], [NAN], [NAN], [NAN]], np.float32))
    assert (weights.positive.item(), weights.negative.item()) == (0.75, 0.25)


def test_both_classes_weigh_the_same_in_sum() -> None:
    weights = class_weights(LABELS)
    positives, negatives = LABELS.sum(0), (1 - LABELS).sum(0)
    assert np.allclose(weights.positive.numpy() * positives, weights.negative.numpy() * negatives)


def test_weights_follow_the_films_as_shown() -> None:
    """Six normal films and two with a mass, shown four times each in sum: nothing is left to weigh."""
    labels = np.array([[0]] * 6 + [[1]] * 2, np.float32)
    weights = class_weights(labels, np.array([1.0, 1, 1, 1, 0, 0, 2, 2]))
    assert (weights.positive.item(), weights.negative.item()) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("column", "held"),
    [([1, 1, NAN], "2 positives, 0 negatives"), ([0, 0, 0], "0 positives, 3 negatives"),
     ([NAN, NAN, NAN], "0 positives, 0 negatives")],
)  # fmt: skip
def test_finding_with_one_class_is_refused_by_name(column: list[float], held: str) -> None:
    labels = np.array([[0, 1, 1], column], np.float32).T
    with pytest.raises(
        InputError, match=rf"one class only of Edema \({held}\).*findings=\[Mass\].*drop_unlear"
    ):
        check_learnable(labels, ["Mass", "Edema"])
    assert learnable(labels, ["Mass", "Edema"]) == ["Mass"]


def test_shift_of_balanced_weights_is_the_log_odds_against_the_finding() -> None:
    # Mass: 3 of 8 present, hence ln(5/3); pneumonia: none; edema: ln(3/5).
    shift = logit_shift(class_weights(LABELS), LABELS)
    assert shift == pytest.approx([np.log(5 / 3), 0, -np.log(5 / 3)], abs=1e-6)


def test_without_weights_only_repeats_shift() -> None:
    labels = np.array([[0]] * 6 + [[1]] * 2, np.float32)
    assert logit_shift(equal_weights(1), labels).tolist() == [0]
    shown = np.array([1.0, 1, 1, 1, 0, 0, 2, 2])  # the odds of a mass were 2 : 6 and are shown as 4 : 4
    assert logit_shift(equal_weights(1), labels, shown) == pytest.approx([np.log(3)])


def test_sampling_weight_shifts_to_the_prevalence_that_films_stand_for() -> None:
    labels = np.array([[0]] * 4 + [[1]] * 4, np.float32)  # sampled half and half from 12 : 4
    stands_for = np.array([3.0] * 4 + [1.0] * 4)
    assert logit_shift(equal_weights(1), labels, sampling_weight=stands_for) == pytest.approx([np.log(3)])


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32))
def test_least_loss_lies_at_the_shifted_log_odds(positives: int, negatives: int, seed: int) -> None:
    """A single logit for all films, found by setting the gradient to zero: w₊n₊(1 - p) = w₋n₋p."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation([1.0] * positives + [0.0] * negatives)[:, None].astype(np.float32)
    shown = rng.integers(1, 5, len(labels)).astype(float)
    weights = class_weights(labels, shown)
    up = float(weights.positive) * shown[labels[:, 0] == 1].sum()
    down = float(weights.negative) * shown[labels[:, 0] == 0].sum()
    shift = logit_shift(weights, labels, shown)
    assert np.log(up / down) - shift == pytest.approx([np.log(positives / negatives)], abs=1e-5)
