"""The loss, held against worked examples, against other libraries' losses, and against its own parts."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ray_cxr.loss.multitask import MultitaskLoss, build_loss
from ray_cxr.loss.settings import LossSettings
from ray_cxr.loss.weights import ClassWeights, equal_weights
from ray_cxr.torch_compat import ensure_torchvision

ensure_torchvision()
from timm.loss import AsymmetricLossMultiLabel  # noqa: E402  needs torchvision
from torchvision.ops import sigmoid_focal_loss  # noqa: E402

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


def _unweighted(findings: int, **settings: Any) -> MultitaskLoss:
    return MultitaskLoss(LossSettings(**{"kind": "bce", **settings}), equal_weights(findings))


@pytest.mark.parametrize(
    ("kind", "by_finding", "total"),
    [("bce", [0.2797, 0.6309, 0.3984], 1.3090), ("weighted_bce", [0.1390, 0.3154, 0.2136], 0.6680)],
)
def test_worked_example(kind: str, by_finding: list[float], total: float) -> None:
    targets = torch.from_numpy(LABELS)
    loss = build_loss(LossSettings(kind=kind), LABELS, FINDINGS)
    parts = loss.by_finding(_logits(), targets, _labelled(targets))
    assert parts.tolist() == pytest.approx(by_finding, abs=5e-5)
    assert float(loss(_logits(), targets, _labelled(targets))) == pytest.approx(total, abs=1e-4)


def test_cell_that_is_not_labelled_has_no_loss_and_no_gradient() -> None:
    targets = torch.tensor([[1.0, NAN], [NAN, 0.0], [0.0, NAN]])
    logits = torch.tensor([[0.5, 99.0], [-99.0, 0.3], [1.5, -2.0]], requires_grad=True)
    loss = _unweighted(2)(logits, targets, torch.tensor([2, 1]))
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, torch.isnan(targets))
    # Column 1: (ln(1+e^-0.5) + ln(1+e^1.5)) / 2 = (0.474077 + 1.701413) / 2; column 2: ln(1+e^0.3) = 0.854355.
    assert float(loss.detach()) == pytest.approx(1.087745 + 0.854355, abs=2e-6)


def test_finding_that_the_step_does_not_label_adds_nothing() -> None:
    targets = torch.tensor([[1.0, NAN], [0.0, NAN]])
    logits = torch.randn(2, 2, requires_grad=True)
    parts = _unweighted(2).by_finding(logits, targets, torch.tensor([2, 0]))
    assert float(parts[1].detach()) == 0
    parts.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all() and not logits.grad[:, 1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([[0.0, 1.0], [0.0, NAN]])
    loss = _unweighted(2)(logits, targets, _labelled(targets))
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
    multitask = MultitaskLoss(LossSettings(), weights)
    loss = multitask(whole, targets, labelled)
    loss.backward()
    summed = 0.0
    for films in parts:
        piece = multitask(pieces[films], targets[films], labelled)
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
    MultitaskLoss(LossSettings(), weights)(logits, targets, _labelled(targets)).backward()
    probability = 1 / (1 + np.exp(-values.numpy()))
    y, n = targets.numpy(), np.maximum((~np.isnan(targets.numpy())).sum(0), 1)
    expected = np.nan_to_num(np.where(y == 1, 0.75, 0.25) * (probability - y) / n)
    assert logits.grad is not None
    assert np.allclose(logits.grad.numpy(), expected, atol=1e-9)


def test_eight_films_at_one_half() -> None:
    """Six normal films, two with a mass, p = 0.5: a film costs ln 2 = 0.693, or, in logarithms to base 10 rounded to
    one digit as in the published example, 0.3. Summed by class, without the 1 / n_f of eight films."""
    labels = np.array([[0]] * 6 + [[1]] * 2, np.float32)
    mass, targets = labels[:, 0] == 1, torch.from_numpy(labels)
    tenths = round(math.log10(2), 1)
    sums = {}
    for kind in ("bce", "weighted_bce"):
        loss = build_loss(LossSettings(kind=kind), labels, ["Mass"])  # type: ignore[arg-type]
        parts = [
            float(loss(torch.zeros(int(films.sum()), 1), targets[torch.from_numpy(films)], torch.tensor([1])))
            for films in (~mass, mass)
        ]
        sums[kind] = [part / math.log(2) * tenths for part in parts]
    assert sums["bce"] == pytest.approx([1.8, 0.6])  # 3 : 1
    assert sums["weighted_bce"] == pytest.approx([0.45, 0.45])


def _cell(probability: float, target: float) -> float:
    logits = torch.tensor([[math.log(probability / (1 - probability))]], dtype=torch.float64)
    return float(_unweighted(1)(logits, torch.tensor([[target]]), torch.tensor([1])))


def test_two_normal_films_and_a_mass() -> None:
    """The model gives a mass 0.6 and 0.3 on the two normal films: -ln 0.4 - ln 0.7 = 0.916 + 0.357 = 1.27."""
    assert _cell(0.6, 0) + _cell(0.3, 0) == pytest.approx(1.27, abs=5e-3)
    assert _cell(0.4, 1) == pytest.approx(0.916, abs=5e-4)


def test_one_positive_and_one_negative() -> None:
    assert _cell(0.2, 1) == pytest.approx(1.609, abs=5e-4)  # -ln 0.2
    assert _cell(0.7, 0) == pytest.approx(1.204, abs=5e-4)  # -ln 0.3


def test_film_of_each_kind_by_hand() -> None:
    """p = 0.8 for a film with the finding and 0.3 for one without; natural logarithms."""
    logits = torch.tensor([[math.log(4)], [math.log(3 / 7)]], dtype=torch.float64)
    targets = torch.tensor([[1.0], [0.0]])
    by_hand = {
        "bce": (-math.log(0.8), -math.log(0.7)),
        "focal": (0.2**2 * -math.log(0.8), 0.3**2 * -math.log(0.7)),
        "asymmetric": (0.2 * -math.log(0.8), 0.25**4 * -math.log(0.75)),
    }
    for kind, (present, absent) in by_hand.items():
        loss = _unweighted(1, kind=kind)
        assert float(loss(logits[:1], targets[:1], torch.tensor([1]))) == pytest.approx(present)
        assert float(loss(logits[1:], targets[1:], torch.tensor([1]))) == pytest.approx(absent)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_is_torchvisions(gamma: float) -> None:
    """Its alpha for positives and 1 - alpha for negatives are our balanced weights, which add up to one."""
    targets = torch.from_numpy(LABELS)
    loss = build_loss(LossSettings(kind="focal", gamma=gamma), LABELS, FINDINGS)
    ours = _logits().requires_grad_()
    parts = loss.by_finding(ours, targets, _labelled(targets))
    parts.sum().backward()
    for i, alpha in enumerate(loss.weights.positive.tolist()):
        theirs = _logits()[:, i].requires_grad_()
        expected = sigmoid_focal_loss(theirs, targets[:, i].double(), alpha, gamma, reduction="mean")
        expected.backward()
        assert float(parts[i].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
        assert ours.grad is not None and theirs.grad is not None
        assert torch.allclose(ours.grad[:, i], theirs.grad, rtol=1e-6)


@pytest.mark.parametrize(
    ("negative", "positive", "clip"), [(4, 1, 0.05), (2, 0, 0), (0, 0, 0.2), (1.5, 0.5, 0.3)]
)
def test_asymmetric_loss_is_timms(negative: float, positive: float, clip: float) -> None:
    """Film by film, as timm's own means over films have changed between its versions."""
    settings = LossSettings(
        kind="asymmetric", weights="none", gamma_negative=negative, gamma_positive=positive, clip=clip
    )
    reference = AsymmetricLossMultiLabel(negative, positive, clip)
    loss = MultitaskLoss(settings, equal_weights(3))
    for row, labels in zip(_logits().float(), torch.from_numpy(LABELS), strict=True):
        ours, theirs = row[None].clone().requires_grad_(), row[None].clone().requires_grad_()
        value = loss(ours, labels[None], torch.ones(3))
        expected = reference(theirs, labels[None])
        assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-5, abs=1e-9)
        value.backward()
        expected.backward()
        assert ours.grad is not None and theirs.grad is not None
        # A negative below the clip: timm's power of an exact zero has no slope either.
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


ALL_KINDS = [
    {"kind": "bce"}, {"kind": "weighted_bce"}, {"kind": "focal", "gamma": 0.5}, {"kind": "focal"},
    {"kind": "asymmetric"}, {"kind": "asymmetric", "clip": 0, "gamma_negative": 0.5},
    {"kind": "asymmetric", "clip": 0.2, "gamma_negative": 0.5, "gamma_positive": 0.5},
]  # fmt: skip


@pytest.mark.parametrize("settings", ALL_KINDS)
def test_every_loss_is_finite_masked_and_sums_over_parts(settings: dict[str, Any]) -> None:
    labels = np.array([[1, NAN], [0, 1], [NAN, 0], [0, NAN], [1, 0]], np.float32)
    loss, targets = build_loss(LossSettings(**settings), labels, ["Mass", "Edema"]), torch.from_numpy(labels)
    logits = torch.tensor(
        [[0.5, 1e4], [-60.0, -1e4], [9.0, 1e4], [1e4, 1.0], [-1e4, -2.0]], requires_grad=True
    )
    whole = loss(logits, targets, _labelled(targets))
    whole.backward()
    assert logits.grad is not None
    assert torch.isfinite(whole) and torch.isfinite(logits.grad).all()
    assert not logits.grad[torch.isnan(targets)].any()
    parts = sum(
        float(loss(logits[i : i + 1].detach(), targets[i : i + 1], _labelled(targets))) for i in range(5)
    )
    assert parts == pytest.approx(float(whole.detach()), rel=1e-5)


@pytest.mark.parametrize("kind", ["weighted_bce", "focal", "asymmetric"])
def test_balanced_weights_enter_every_loss(kind: str) -> None:
    """At p = 0.5 the rare finding's film weighs as much as all others together."""
    labels = np.array([[1]] + [[0]] * 9, np.float32)
    loss = build_loss(LossSettings(kind=kind), labels, ["Hernia"])  # type: ignore[arg-type]
    alone, others = (
        float(loss(torch.zeros(len(part), 1), torch.from_numpy(part), torch.tensor([1])))
        for part in (labels[:1], labels[1:])
    )
    unweighted = _unweighted(1, kind=kind, weights="none") if kind != "weighted_bce" else _unweighted(1)
    cost_present = float(unweighted(torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([1])))
    cost_absent = float(unweighted(torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([1])))
    assert alone / cost_present == pytest.approx(0.9) and others / cost_absent == pytest.approx(0.1 * 9)
