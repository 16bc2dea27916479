"""Binary cross-entropy summed over findings, each with its own weights, over labelled cells only.

    L = Σ_f (1 / n_f) Σ_labelled w · ℓ,   w = w_pos where the finding is present, w_neg where it is absent
    w_pos = negatives / total,  w_neg = positives / total,  total = positives + negatives of the training films

so that both classes add up to the same weight however rare the finding is (Wang et al., ChestX-ray8, CVPR 2017,
weigh alike in ratio). n_f counts the labelled cells of the finding in the whole optimizer step, over all workers and
micro-batches, hence the sum over parts is the loss of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError


@dataclass(frozen=True)
class ClassWeights:
    """Weights of a positive and of a negative cell, each [F] float32."""

    positive: Tensor
    negative: Tensor

    def to(self, device: torch.device) -> ClassWeights:
        return ClassWeights(self.positive.to(device), self.negative.to(device))


def class_weights(labels: Labels, findings: Sequence[str], kind: str) -> ClassWeights:
    """The weights from the training labels [N, F]. InputError names a finding that has one class only."""
    positives, negatives = (labels == 1).sum(0), (labels == 0).sum(0)
    classes = list(zip(findings, positives.tolist(), negatives.tolist(), strict=True))
    lacking = [f"{f} ({p} positives, {n} negatives)" for f, p, n in classes if not (p and n)]
    if lacking:
        others = ",".join(f for f, p, n in classes if p and n)
        raise InputError(
            f"findings: the training films hold one class only of {', '.join(lacking)}, so there is nothing to learn; "
            f"leave them out: findings=[{others}]"
        )
    if kind == "bce":
        ones = torch.ones(len(findings))
        return ClassWeights(ones, ones.clone())
    total = positives + negatives
    return ClassWeights(
        torch.from_numpy((negatives / total).astype(np.float32)),
        torch.from_numpy((positives / total).astype(np.float32)),
    )


def multitask_bce(logits: Tensor, targets: Tensor, labelled: Tensor, weights: ClassWeights) -> Tensor:
    """The loss (scalar float32) that these films add to their step, in natural logarithms.

    logits [B, F]; targets [B, F] float32 0/1, NaN = not labelled (no loss, no gradient); labelled [F]: n_f of the
    whole step; a finding with n_f = 0 adds nothing.
    """
    return multitask_bce_by_finding(logits, targets, labelled, weights).sum()


def multitask_bce_by_finding(
    logits: Tensor, targets: Tensor, labelled: Tensor, weights: ClassWeights
) -> Tensor:
    """The summands [F] of `multitask_bce`."""
    known = ~torch.isnan(targets)
    present = torch.where(known, targets, 0.0)
    cell = -weights.positive * present * logsigmoid(logits) - weights.negative * (1 - present) * logsigmoid(
        -logits
    )
    sums = torch.where(known, cell, 0.0).sum(0)
    return torch.where(labelled > 0, sums / labelled.clamp(min=1), 0.0)
