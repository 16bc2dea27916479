"""Variance of AUROCs without draws: DeLong, and its form for films that share patients (Obuchowski).

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837; computed by ranks as Sun and Xu, IEEE Signal Processing
Letters 21 (2014) 1389. Clustered: Obuchowski, Biometrics 53 (1997) 567, which is DeLong's where each patient has one film.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from ray_cxr.bootstrap import LEVEL, Floats
from ray_cxr.evaluate.testable import ROUNDING


@dataclass(frozen=True)
class Areas:
    """aurocs: [M] of M models on the same films. covariance: [M, M], NaN where one positive or negative patient is all."""

    aurocs: Floats
    covariance: Floats

    def standard_error(self, model: int = 0) -> float:
        """Standard error of one model's AUROC; NaN = not measurable."""
        return math.sqrt(max(self.covariance[model, model], 0.0))

    def interval(self, model: int = 0, level: float = LEVEL) -> tuple[float, float] | None:
        """Normal interval of one model's AUROC, cut at 0 and 1; None where its variance is 0 or NaN."""
        error = self.standard_error(model)
        if not error > ROUNDING:
            return None
        reach = float(norm.ppf((1 + level) / 2)) * error
        return max(0.0, float(self.aurocs[model]) - reach), min(1.0, float(self.aurocs[model]) + reach)


@dataclass(frozen=True)
class Difference:
    """AUROC of one minus AUROC of another, its standard error, z and two-sided p; z and p None where the error is 0 or NaN."""

    difference: float
    standard_error: float
    z: float | None
    p: float | None

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Normal interval of the difference; None where its variance is 0 or NaN."""
        if not self.standard_error > ROUNDING:
            return None
        reach = float(norm.ppf((1 + level) / 2)) * self.standard_error
        return self.difference - reach, self.difference + reach


def delong(labels: ArrayLike, scores: ArrayLike, patients: Sequence[Hashable] | None = None) -> Areas | None:
    """AUROCs of one or more models with their covariance; None where one class is missing.

    labels: [N] of one finding, 0, 1, NaN = left out. scores: [N], or [M, N] for M models. patients: [N], the patient of
    each film, for the clustered variance; None for DeLong's own, which takes films for independent.
    """
    truth, table = np.asarray(labels), np.atleast_2d(np.asarray(scores, np.float64))
    positive, negative = truth == 1, truth == 0
    if not positive.any() or not negative.any():
        return None
    for_positives, for_negatives = _placements(table[:, positive], table[:, negative])
    aurocs = for_positives.mean(1)
    units = np.arange(len(truth)) if patients is None else pd.factorize(np.asarray(patients, object))[0]
    sums = _UnitSums.of(for_positives - aurocs[:, None], units[positive], len(truth))
    other = _UnitSums.of(for_negatives - aurocs[:, None], units[negative], len(truth))
    return Areas(aurocs, _covariance(sums, other, units[positive | negative]))


def _placements(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """For each positive [M, m] the share of negatives below it, for each negative [M, n] of positives above; ties half."""
    m, n = positives.shape[1], negatives.shape[1]
    together = rankdata(np.concatenate([positives, negatives], axis=1), axis=1)
    for_positives = (together[:, :m] - rankdata(positives, axis=1)) / n
    for_negatives = 1 - (together[:, m:] - rankdata(negatives, axis=1)) / m
    return np.asarray(for_positives), np.asarray(for_negatives)


@dataclass(frozen=True)
class _UnitSums:
    """sums: [M, U] of deviations by patient; patients: how many have such a film; films: how many films."""

    sums: Floats
    patients: int
    films: int

    @classmethod
    def of(cls, deviations: Floats, units: NDArray[np.int64], size: int) -> _UnitSums:
        sums = [np.bincount(units, row, minlength=size) for row in deviations]
        return cls(np.asarray(sums, np.float64), len(np.unique(units)), len(units))


def _covariance(positive: _UnitSums, negative: _UnitSums, units: NDArray[np.int64]) -> Floats:
    """Obuchowski's equations 4 to 7 for several models. A patient with films of both classes ties the two parts."""
    if positive.patients < 2 or negative.patients < 2:
        return np.full((len(positive.sums),) * 2, np.nan)
    within_positive = positive.sums @ positive.sums.T * positive.patients / (positive.patients - 1)
    within_negative = negative.sums @ negative.sums.T * negative.patients / (negative.patients - 1)
    patients = len(np.unique(units))
    across = positive.sums @ negative.sums.T * patients / (patients - 1)
    m, n = positive.films, negative.films
    return np.asarray(within_positive / m**2 + within_negative / n**2 + (across + across.T) / (m * n))


def delong_difference(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, patients: Sequence[Hashable] | None = None
) -> Difference | None:
    """AUROC of the first [N] minus that of the second [N] on the same films, paired; None where one class is missing."""
    both = delong(labels, np.stack([np.asarray(first, np.float64), np.asarray(second, np.float64)]), patients)
    if both is None:
        return None
    c = both.covariance
    return _tested(
        float(both.aurocs[0] - both.aurocs[1]), math.sqrt(max(c[0, 0] + c[1, 1] - 2 * c[0, 1], 0.0))
    )


def _tested(difference: float, error: float) -> Difference:
    if not error > ROUNDING:
        return Difference(difference, error, None, None)
    z = difference / error
    return Difference(difference, error, z, float(2 * norm.sf(abs(z))))
