"""The loss, held against a worked example of eight films and against its own parts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ray_cxr.errors import InputError
from ray_cxr.loss.bce import ClassWeights, class_weights, multitask_bce, multitask_bce_by_finding

FINDINGS = ["Mass", "Pneumonia", "Edema"]
LABELS = np.array(
    [[0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]], np.float32
)
PROBABILITIES = np.array(
    [
        [0.3, 0.1, 0.8], [0.1, 0.1, 0.8], [0.2, 0.2, 0.7], [0.6, 0.3, 0.8],
        [0.7, 0.7, 0.9], [0.8, 0.1, 0.2], [0.3, 0.9, 0.8], [0.1, 0.1, 0.2],
    ]
)  # fmt: skip
"""Eight films, three findings. The published figures are in natural logarithms (base 10 gives 0.5685 and 0.2901)."""
NAN = float("nan")


def _logits() -> Tensor:
    return torch.from_numpy(np.log(PROBABILITIES / (1 - PROBABILITIES)))


def _labelled(targets: Tensor) -> Tensor:
    return (~torch.isnan(targets)).sum(0)


def _ones(findings: int) -> ClassWeights:
    return ClassWeights(torch.ones(findings), torch.ones(findings))


@pytest.mark.parametrize(
    ("kind", "by_finding", "total"),
    [("bce", [0.2797, 0.6309, 0.3984], 1.3090), ("weighted_bce", [0.1390, 0.3154, 0.2136], 0.6680)],
)
def test_worked_example(kind: str, by_finding: list[float], total: float) -> None:
    targets = torch.from_numpy(LABELS)
    weights = class_weights(LABELS, FINDINGS, kind)
    parts = multitask_bce_by_finding(_logits(), targets, _labelled(targets), weights)
    assert parts.tolist() == pytest.approx(by_finding, abs=5e-5)
    loss = multitask_bce(_logits(), targets, _labelled(targets), weights)
    assert float(loss) == pytest.approx(total, abs=1e-4)


def test_weights_are_the_fraction_of_the_other_class() -> None:
    # Mass: 3 of 8 present; pneumonia: 4 of 8; edema: 5 of 8.
    weights = class_weights(LABELS, FINDINGS, "weighted_bce")
    assert weights.positive.tolist() == [5 / 8, 4 / 8, 3 / 8]
    assert weights.negative.tolist() == [3 / 8, 4 / 8, 5 / 8]
    assert weights.positive.dtype == weights.negative.dtype == torch.float32


def test_weights_count_labelled_films_only() -> None:
    labels = np.array([[1], [0], [0], [0], [NAN], [NAN], [NAN]], np.float32)
    weights = class_weights(labels, ["Hernia"], "weighted_bce")
    assert (weights.positive.item(), weights.negative.item()) == (0.75, 0.25)


def test_both_classes_weigh_the_same_in_sum() -> None:
    weights = class_weights(LABELS, FINDINGS, "weighted_bce")
    positives, negatives = LABELS.sum(0), (1 - LABELS).sum(0)
    assert np.allclose(weights.positive.numpy() * positives, weights.negative.numpy() * negatives)


@pytest.mark.parametrize("kind", ["bce", "weighted_bce"])
@pytest.mark.parametrize(
    ("column", "held"),
    [([1, 1, NAN], "2 positives, 0 negatives"), ([0, 0, 0], "0 positives, 3 negatives"),
     ([NAN, NAN, NAN], "0 positives, 0 negatives")],
)  # fmt: skip
def test_finding_with_one_class_is_refused_by_name(kind: str, column: list[float], held: str) -> None:
    labels = np.array([[0, 1, 1], column], np.float32).T
    with pytest.raises(InputError, match=rf"one class only of Edema \({held}\).*findings=\[Mass\]"):
        class_weights(labels, ["Mass", "Edema"], kind)


def test_cell_that_is_not_labelled_has_no_loss_and_no_gradient() -> None:
    targets = torch.tensor([[1.0, NAN], [NAN, 0.0], [0.0, NAN]])
    logits = torch.tensor([[0.5, 99.0], [-99.0, 0.3], [1.5, -2.0]], requires_grad=True)
    loss = multitask_bce(logits, targets, torch.tensor([2, 1]), _ones(2))
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, torch.isnan(targets))
    # Column 1: (ln(1+e^-0.5) + ln(1+e^1.5)) / 2 = (0.474077 + 1.701413) / 2; column 2: ln(1+e^0.3) = 0.854355.
    assert float(loss.detach()) == pytest.approx(1.087745 + 0.854355, abs=2e-6)


def test_finding_that_the_step_does_not_label_adds_nothing() -> None:
    targets = torch.tensor([[1.0, NAN], [0.0, NAN]])
    logits = torch.randn(2, 2, requires_grad=True)
    parts = multitask_bce_by_finding(logits, targets, torch.tensor([2, 0]), _ones(2))
    assert float(parts[1].detach()) == 0
    parts.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all() and not logits.grad[:, 1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([[0.0, 1.0], [0.0, NAN]])
    loss = multitask_bce(logits, targets, _labelled(targets), _ones(2))
    loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    # One wrong cell of two, then one wrong cell of one, each at the distance of its logit.
    assert float(loss.detach()) == pytest.approx(5e3 + 1e4, rel=1e-2)


@st.composite
def films_in_parts(draw: st.DrawFn) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Logits [B, F], targets with gaps, and the films dealt out to ranks or micro-batches, some without any."""
    films, findings, known = draw(st.integers(1, 24)), draw(st.integers(1, 4)), draw(st.floats(0, 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.normal(scale=6, size=(films, findings))
    targets = rng.integers(0, 2, (films, findings)).astype(np.float32)
    targets[rng.random((films, findings)) >= known] = NAN
    owner = rng.integers(0, 5, films)
    parts = [np.flatnonzero(owner == part).tolist() for part in range(5)]
    return torch.from_numpy(logits), torch.from_numpy(targets), parts


@given(films_in_parts())
def test_parts_add_up_to_the_whole_in_loss_and_gradient(
    case: tuple[Tensor, Tensor, list[list[int]]],
) -> None:
    values, targets, parts = case
    findings = values.shape[1]
    weights = ClassWeights(torch.linspace(0.1, 0.9, findings), torch.linspace(0.9, 0.1, findings))
    labelled = _labelled(targets)
    whole, pieces = values.clone().requires_grad_(), values.clone().requires_grad_()
    loss = multitask_bce(whole, targets, labelled, weights)
    loss.backward()
    summed = 0.0
    for films in parts:
        piece = multitask_bce(pieces[films], targets[films], labelled, weights)
        piece.backward()
        summed += float(piece.detach())
    assert summed == pytest.approx(float(loss.detach()), rel=1e-9, abs=1e-12)
    assert whole.grad is not None and pieces.grad is not None
    assert torch.allclose(whole.grad, pieces.grad, rtol=1e-9, atol=1e-12)


@given(films_in_parts())
def test_gradient_is_the_weighted_residual(case: tuple[Tensor, Tensor, list[list[int]]]) -> None:
    """By hand: d/dz of -w·ln σ(z) is w(σ(z) - 1), of -w·ln(1 - σ(z)) is wσ(z)."""
    values, targets, _ = case
    findings = values.shape[1]
    weights = ClassWeights(torch.full((findings,), 0.75), torch.full((findings,), 0.25))
    logits = values.clone().requires_grad_()
    multitask_bce(logits, targets, _labelled(targets), weights).backward()
    probability = 1 / (1 + np.exp(-values.numpy()))
    y, n = targets.numpy(), np.maximum((~np.isnan(targets.numpy())).sum(0), 1)
    expected = np.nan_to_num(np.where(y == 1, 0.75, 0.25) * (probability - y) / n)
    assert logits.grad is not None
    assert np.allclose(logits.grad.numpy(), expected, atol=1e-9)
