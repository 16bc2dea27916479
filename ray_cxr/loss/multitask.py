"""A loss for each cell, summed over findings, each with its own weights, over labelled cells only.

    L = Σ_f (1 / n_f) Σ_labelled w · ℓ,   w = w_pos where the finding is present, w_neg where it is absent

n_f counts the labelled cells of the finding in the whole optimizer step, over all workers and micro-batches, hence
the sum over parts is the loss of the whole. With p = σ(logit) the cell's ℓ is, present | absent:

    bce, weighted_bce   -ln p                 | -ln(1 - p)
    focal               (1 - p)^γ · -ln p     | p^γ · -ln(1 - p)         Lin et al., ICCV 2017, eq. 4
    asymmetric          (1 - p)^γ+ · -ln p    | q^γ- · -ln(1 - q)        Ridnik et al., ICCV 2021, eq. 7,
                                                q = max(p - clip, 0)     with the gradient through the factor, as timm
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from ray_cxr.axes import Labels
from ray_cxr.loss.settings import LossSettings
from ray_cxr.loss.weights import (
    ClassWeights,
    check_learnable,
    class_weights,
    equal_weights,
    logit_shift,
)

_TINY = 1e-8
"""In place of a zero that is raised to a power below one, whose slope is infinite."""


@dataclass(frozen=True)
class MultitaskLoss:
    """The loss of a job, with the weights of its training films."""

    settings: LossSettings
    weights: ClassWeights

    def __call__(self, logits: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """The loss (scalar, at least float32) that these films add to their step, in natural logarithms.

        logits [B, F]; targets [B, F] float32 0/1, NaN = not labelled (no loss, no gradient); labelled [F]: n_f of the
        whole step; a finding with n_f = 0 adds nothing.
        """
        return self.by_finding(logits, targets, labelled).sum()

    def by_finding(self, logits: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """The summands [F]."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        present, absent = cell_losses(self.settings, logits)
        known = ~torch.isnan(targets)
        share = torch.where(known, targets, 0.0)
        cell = self.weights.positive * share * present + self.weights.negative * (1 - share) * absent
        sums = torch.where(known, cell, 0.0).sum(0)
        return torch.where(labelled > 0, sums / labelled.clamp(min=1), 0.0)

    def shift(
        self,
        labels: Labels,
        sampling_weight: NDArray[np.float64],
        multiplicity: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64] | None:
        """How far weights and repeats of these training labels [N, F] move the logits, [F]; see `logit_shift`.

        None for losses that are no cross-entropy: their optimum is no probability, by no constant.
        """
        if self.settings.kind not in ("bce", "weighted_bce"):
            return None
        return logit_shift(self.weights, labels, multiplicity, sampling_weight)

    def to(self, device: torch.device) -> MultitaskLoss:
        return MultitaskLoss(self.settings, self.weights.to(device))


def build_loss(
    settings: LossSettings,
    labels: Labels,
    findings: Sequence[str],
    multiplicity: NDArray[np.float64] | None = None,
) -> MultitaskLoss:
    """The loss for these training labels [N, F]. InputError names a finding that has one class only."""
    check_learnable(labels, findings)
    if settings.balanced:
        return MultitaskLoss(settings, class_weights(labels, multiplicity))
    return MultitaskLoss(settings, equal_weights(len(findings)))


def cell_losses(settings: LossSettings, logits: Tensor) -> tuple[Tensor, Tensor]:
    """What each cell [B, F] costs if the finding is present, and if it is absent."""
    ln_p, ln_not_p = logsigmoid(logits), logsigmoid(-logits)
    if settings.kind == "focal":
        # Powers as exponentials of logarithms: their gradient is finite where p or 1 - p is 0 in float32.
        return -ln_p * (settings.gamma * ln_not_p).exp(), -ln_not_p * (settings.gamma * ln_p).exp()
    if settings.kind == "asymmetric":
        return -ln_p * (settings.gamma_positive * ln_not_p).exp(), _clipped_negative(settings, logits)
    return -ln_p, -ln_not_p


def _clipped_negative(settings: LossSettings, logits: Tensor) -> Tensor:
    """q^γ- · -ln(1 - q), q = max(p - clip, 0)."""
    if settings.clip == 0:
        return -logsigmoid(-logits) * (settings.gamma_negative * logsigmoid(logits)).exp()
    not_q = (torch.sigmoid(-logits) + settings.clip).clamp(max=1)
    return -not_q.log() * (1 - not_q).clamp(min=_TINY) ** settings.gamma_negative
