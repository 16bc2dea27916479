"""Weights of positives and negatives, per finding, from the training labels; and how far they move the logits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError


@dataclass(frozen=True)
class ClassWeights:
    """Weights of a positive and of a negative cell, each [F] float32."""

    positive: Tensor
    negative: Tensor

    def to(self, device: torch.device) -> ClassWeights:
        return ClassWeights(self.positive.to(device), self.negative.to(device))


def equal_weights(findings: int) -> ClassWeights:
    """Every cell weighs one."""
    return ClassWeights(torch.ones(findings), torch.ones(findings))


def class_weights(labels: Labels, multiplicity: NDArray[np.float64] | None = None) -> ClassWeights:
    """w_pos = negatives / total, w_neg = positives / total, so that both classes add up to the same weight.

    labels [N, F], NaN = not labelled and not counted; every finding has both classes (`check_learnable`).
    multiplicity [N]: how often each film is shown in an epoch, on average, where films are repeated; None: once.
    Source: Wang et al., ChestX-ray8, CVPR 2017, eq. 1 (the same ratio of weights).
    """
    positives, negatives = count_classes(labels, multiplicity)
    total = positives + negatives
    return ClassWeights(
        torch.from_numpy((negatives / total).astype(np.float32)),
        torch.from_numpy((positives / total).astype(np.float32)),
    )


def logit_shift(
    weights: ClassWeights,
    labels: Labels,
    multiplicity: NDArray[np.float64] | None = None,
    sampling_weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """By how much weights and repeats move the logits of a cross-entropy, [F] float64, natural logarithm.

    A cross-entropy is least where the odds are those of the weighted classes, (w_pos · positives shown) to
    (w_neg · negatives shown). Against the odds of the films themselves, or of those that they stand for
    (sampling_weight [N]), that is ln(w_pos / w_neg), and the logarithm of how unevenly the classes are repeated on top
    (Elkan, The foundations of cost-sensitive learning, IJCAI 2001, theorem 2).
    """
    shown_positive, shown_negative = count_classes(labels, multiplicity)
    positives, negatives = count_classes(labels, sampling_weight)
    repeats = np.log(shown_positive / positives) - np.log(shown_negative / negatives)
    ratio = weights.positive.double().cpu() / weights.negative.double().cpu()
    return np.asarray(np.log(ratio.numpy()) + repeats)


def count_classes(
    labels: Labels, times: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positives and negatives, each [F] float64, every film counted `times` [N] (None: once)."""
    times = np.ones(len(labels)) if times is None else times
    return times @ (labels == 1), times @ (labels == 0)


def learnable(labels: Labels, findings: Sequence[str]) -> list[str]:
    """The findings that have positives and negatives among these labels [N, F]."""
    return [f for f, (p, n) in zip(findings, _classes(labels), strict=True) if p and n]


def check_learnable(labels: Labels, findings: Sequence[str]) -> None:
    """Raises InputError that names every finding with one class only."""
    classes = zip(findings, _classes(labels), strict=True)
    lacking = [f"{f} ({p} positives, {n} negatives)" for f, (p, n) in classes if not (p and n)]
    if lacking:
        raise InputError(
            f"findings: the training films hold one class only of {', '.join(lacking)}, so there is nothing to learn; "
            f"leave them out: findings=[{','.join(learnable(labels, findings))}], or loss.drop_unlearnable=true."
        )


def _classes(labels: Labels) -> list[tuple[int, int]]:
    positives, negatives = count_classes(labels)
    return [(int(p), int(n)) for p, n in zip(positives, negatives, strict=True)]
