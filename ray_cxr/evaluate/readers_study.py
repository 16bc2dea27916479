"""A model beside readers: each reader is a point, and the model's ROC curve passes above or below it. Pure.

For each reader, on the films that he read: the model's sensitivity at the reader's specificity, on the ROC curve with
straight lines between its points, less the reader's sensitivity. Intervals by the draws, in which the reader's point and the
model's curve are both made anew. Readers are not drawn: what is found holds for these readers.

Non-inferiority: the mean difference over readers lies above minus a margin stated beforehand, tested one-sided at 2.5 %
(Ahn, Park and Lee, Radiology 267 (2013) 328).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Labels
from ray_cxr.bootstrap import Draws, Floats, interval, mean_of_draws
from ray_cxr.evaluate.holm import holm
from ray_cxr.evaluate.testable import too_few

FEWEST = 5
"""Positive and negative films that a reader must have read to be part of the mean reader."""
ONE_SIDED = 0.025
_BLOCK = 64


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None = not measurable, or no interval."""

    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Beside:
    """One reader and the model, on the films of one finding that the reader answered."""

    reader: int
    films: int
    positives: int
    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate
    model_sensitivity: Estimate
    """At the reader's specificity."""
    difference: Estimate
    """Model's sensitivity less the reader's."""
    left_out: bool
    """Whether the reference is the consensus of the other readers."""
    testable: bool
    """Whether enough patients (`testable`) were read for a test."""
    draws: Floats
    """[D] the difference in each draw."""
    chosen: NDArray[np.bool_]
    """[N] the films that were used."""
    reference: Labels
    """[N] the labels that they were measured against."""
    scores: Floats
    """[N] the model's."""

    @property
    def under_curve(self) -> bool | None:
        """Whether the model's curve passes above the reader's point; None = not measurable."""
        return None if self.difference.value is None else self.difference.value > 0


@dataclass(frozen=True)
class MeanReader:
    """Plain means over the readers with enough films, and the test of non-inferiority where a margin was stated."""

    readers: int
    sensitivity: float
    specificity: float
    difference: Estimate
    margin: float | None = None
    p: float | None = None
    """One-sided p of "the difference is -margin or worse"; None with too few patients, or without a margin."""
    p_holm: float | None = None
    """The same, adjusted over findings."""

    @property
    def non_inferior(self) -> bool | None:
        """None where no margin was stated or nothing could be tested."""
        return None if self.p_holm is None else self.p_holm < ONE_SIDED


@dataclass(frozen=True)
class FindingStudy:
    """One finding: the readers that could be measured, and their mean."""

    finding: str
    readers: list[Beside]
    mean: MeanReader | None

    @property
    def under_curve(self) -> int:
        """How many readers lie under the model's curve."""
        return sum(bool(r.under_curve) for r in self.readers)


def beside_readers(
    finding: str,
    votes: Labels,
    scores: Floats,
    references: Sequence[Labels | None],
    left_out: NDArray[np.bool_],
    draws: Draws,
) -> FindingStudy:
    """One finding from votes [N, R] (1, 0, NaN), scores [N], and for each reader the labels [N] he is measured against.

    A reader without both a positive and a negative film is left out.
    """
    found = [
        beside
        for reader, reference in enumerate(references)
        if reference is not None
        and (beside := _beside(reader, votes[:, reader], scores, reference, bool(left_out[reader]), draws))
    ]
    return FindingStudy(finding, found, _mean_reader(found))


def with_margin(studies: Sequence[FindingStudy], margin: float | None) -> list[FindingStudy]:
    """The studies with the test of non-inferiority by this margin (sensitivity, 0..1), adjusted over the findings."""
    if margin is None:
        return list(studies)
    p_values = {s.finding: _p_inferior(s.readers, margin) for s in studies if s.mean}
    adjusted = holm(p_values)
    out = []
    for study in studies:
        mean = study.mean
        if mean is not None:
            mean = MeanReader(
                mean.readers, mean.sensitivity, mean.specificity, mean.difference, margin, p_values[study.finding],
                adjusted[study.finding],
            )  # fmt: skip
        out.append(FindingStudy(study.finding, study.readers, mean))
    return out


def sensitivity_at(labels: Labels, scores: Floats, false_positives: Floats, draws: Draws) -> Floats:
    """[D] the model's sensitivity where it has so many false positives (weighted, [D]), on the empirical ROC curve.

    labels: [N] 0 and 1. Straight lines between the curve's points, the upper end where it is vertical. NaN for a draw
    without positives or negatives.
    """
    high, low = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    high, low = high[np.argsort(-scores[high])], low[np.argsort(-scores[low])]
    # Alarms ascend with each distinct score of a negative; `above` and `upto` count the positives that come before or with it.
    ends = np.append(np.flatnonzero(np.diff(scores[low])), len(low) - 1)
    above = np.searchsorted(-scores[high], -scores[low][ends], "left")
    upto = np.searchsorted(-scores[high], -scores[low][ends], "right")
    out = np.empty(len(draws))
    for first in range(0, len(draws), _BLOCK):
        last = min(first + _BLOCK, len(draws))
        hits = _cumulated(draws.weights(first, last, high))
        alarms = _cumulated(draws.weights(first, last, low))[:, np.append(0, ends + 1)]
        out[first:last] = _interpolated(
            alarms, hits, np.append(above, len(high)), np.append(0, upto), false_positives[first:last]
        )
    return out


def _cumulated(weights: Floats) -> Floats:
    return np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)


def _interpolated(
    alarms: Floats, hits: Floats, before: NDArray[np.int64], after: NDArray[np.int64], target: Floats
) -> Floats:
    """[D] share of hits where the curve's alarms [D, K] reach the target [D].

    A step of the curve goes from (alarms[k], hits[before[k]]), the upper end of what is vertical there, to (alarms[k + 1],
    hits[after[k + 1]]).
    """
    row, last = np.arange(len(alarms)), alarms.shape[1] - 1
    start = (alarms <= target[:, None]).sum(axis=1) - 1
    end = np.minimum(start + 1, last)
    low, high = hits[row, before[start]], hits[row, after[end]]
    step = alarms[row, end] - alarms[row, start]
    part = np.divide(target - alarms[row, start], step, out=np.zeros_like(target), where=step > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(alarms[:, -1] > 0, (low + part * (high - low)) / hits[:, -1], np.nan))


def _beside(
    reader: int, vote: Labels, scores: Floats, reference: Labels, left_out: bool, draws: Draws
) -> Beside | None:
    chosen = ~np.isnan(vote) & ~np.isnan(reference)
    truth, answer, score = reference[chosen], vote[chosen], scores[chosen]
    if len(np.unique(truth)) < 2:
        return None
    drawn = draws.of(chosen)
    once = Draws(np.ones_like(draws.counts[:1]), drawn.unit_of)
    point, spread = _figures(truth, answer, score, once), _figures(truth, answer, score, drawn)
    estimates = {
        name: Estimate(float(point[name][0]) if np.isfinite(point[name][0]) else None, interval(spread[name]))
        for name in point
    }
    return Beside(
        reader, int(chosen.sum()), int(truth.sum()), **estimates, left_out=left_out,
        testable=not too_few(truth, drawn.unit_of), draws=spread["difference"], chosen=chosen, reference=reference, scores=scores,
    )  # fmt: skip


def _figures(truth: Labels, answer: Labels, score: Floats, draws: Draws) -> dict[str, Floats]:
    cells = np.stack(
        [(truth == 1) & (answer == 1), truth == 1, (truth == 0) & (answer == 1), truth == 0], axis=1
    )
    hits, positives, alarms, negatives = draws.sums(cells).T
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity = hits / positives, 1 - alarms / negatives
        precision = hits / (hits + alarms)
    model = sensitivity_at(truth, score, alarms, draws)
    return {
        "sensitivity": sensitivity, "specificity": specificity, "precision": precision,
        "model_sensitivity": model, "difference": model - sensitivity,
    }  # fmt: skip


def _enough(readers: Sequence[Beside]) -> list[Beside]:
    return [r for r in readers if r.positives >= FEWEST and r.films - r.positives >= FEWEST]


def mean_draws(readers: Sequence[Beside]) -> Floats:
    """[D] the mean difference over the readers with enough films; a reader without a figure in a draw is not part of it."""
    return mean_of_draws([r.draws for r in _enough(readers)])


def _mean_reader(readers: Sequence[Beside]) -> MeanReader | None:
    measured = _enough(readers)
    if not measured:
        return None
    sensitivity, specificity, difference = (
        float(np.mean([getattr(r, name).value for r in measured]))
        for name in ("sensitivity", "specificity", "difference")
    )
    spread = interval(mean_draws(readers))
    return MeanReader(len(measured), sensitivity, specificity, Estimate(difference, spread))


def _p_inferior(readers: Sequence[Beside], margin: float) -> float | None:
    """None where a reader of the mean read too few patients, or the draws give no interval."""
    differences = mean_draws(readers)
    if interval(differences) is None or not all(r.testable for r in _enough(readers)):
        return None
    known = differences[~np.isnan(differences)]
    return float(((known <= -margin).sum() + 1) / (len(known) + 1))
