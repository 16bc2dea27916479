"""From logits to probabilities that mean something: the shift back of the loss's weights, and Platt scaling. Pure.

Writes and reads `calibration` of `model.json`, by finding:

    p = σ(slope · (logit - shift) + intercept)

`shift` is what weights and resampling add to the logit of a cross-entropy (`loss.weights.logit_shift`); focal and
asymmetric losses have no such closed form, their shift is 0. Slope and intercept are Platt's, fitted to the shifted logits
of the validation films; 1 and 0 leave the shift alone. The slope is above 0, so the order of films, hence the AUROC, stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ray_cxr.axes import Labels, Scores

LEAST = 10
"""Positives, and negatives, that a Platt scaling needs among the validation films (docs/decisions.md has the figures)."""


def probabilities(
    logits: NDArray[Any], calibration: dict[str, Any] | None, findings: Sequence[str]
) -> Scores:
    """[N, F] logits → [N, F] float64 in 0..1: calibrated, or their sigmoid where `calibration` is None."""
    wide = logits.astype(np.float64)
    if calibration is not None:
        fits = [calibration["findings"][f] for f in findings]
        shift, slope, intercept = (
            np.array([fit[k] for fit in fits]) for k in ("shift", "slope", "intercept")
        )
        wide = slope * (wide - shift) + intercept
    return np.asarray(expit(wide))


def fit_calibration(
    logits: NDArray[Any],
    labels: Labels,
    findings: Sequence[str],
    shift: NDArray[np.float64] | None,
    sampling_weight: NDArray[np.float64],
) -> dict[str, Any]:
    """`calibration` of `model.json` from the validation films.

    logits, labels [N, F] (NaN = not labelled, not used); shift [F], None where the loss has none in closed form;
    sampling_weight [N]: how many films of natural prevalence each stands for.
    """
    fits = {}
    for i, finding in enumerate(findings):
        known = ~np.isnan(labels[:, i])
        present = labels[known, i] == 1
        moved = 0.0 if shift is None else float(shift[i])
        shifted = logits[known, i].astype(np.float64) - moved
        fits[finding] = {
            "method": "none" if shift is None else "shift", "shift": moved, "slope": 1.0, "intercept": 0.0,
            "positives": int(present.sum()), "negatives": int((~present).sum()), "reason": "",
        } | _fit_finding(shifted, present, sampling_weight[known])  # fmt: skip
    return {"fitted_on": "validation", "findings": fits}


def _fit_finding(
    logits: NDArray[np.float64], present: NDArray[np.bool_], weight: NDArray[np.float64]
) -> dict[str, Any]:
    """What Platt scaling changes in the finding's entry, or the reason why it changes nothing."""
    fewest = min(int(present.sum()), int((~present).sum()))
    if fewest < LEAST:
        what = "positives" if fewest == int(present.sum()) else "negatives"
        return {"reason": f"{fewest} {what} among the validation films, Platt scaling needs {LEAST}"}
    slope, intercept = platt(logits, present, weight)
    if not slope > 0:
        return {"reason": "the validation films rank against the logits, and the order of films is kept"}
    return {"method": "platt", "slope": slope, "intercept": intercept}


def platt(
    logits: NDArray[np.float64], present: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Slope and intercept of the logistic curve through [N] logits that fits `present` [N] best, films weighed by [N].

    Targets are (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2) in place of 1 and 0, so that the fit is finite where the classes
    do not overlap. Source: Platt, Probabilistic outputs for support vector machines, 1999, eq. 7 and 8.
    """
    from scipy.optimize import (
        minimize,
    )  # imported late: half a second, which the first step should not wait for

    weight = weight / weight.mean()
    positives, negatives = weight[present].sum(), weight[~present].sum()
    targets = np.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, scale = logits.mean(), max(float(logits.std()), 1e-12)
    standard = (logits - centre) / scale

    def loss(ab: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = ab[0] * standard + ab[1]
        cells = np.logaddexp(0, z) - targets * z
        residual = weight * (expit(z) - targets)
        return float(weight @ cells), np.array([residual @ standard, residual.sum()])

    start = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    slope, intercept = minimize(loss, start, jac=True, method="BFGS").x
    return float(slope / scale), float(intercept - slope * centre / scale)
