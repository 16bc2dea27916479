"""Patient-clustered bootstrap: patients are drawn with replacement, and all films of a patient come with him.

Films of one patient resemble each other, so an interval that draws films is too narrow (Field and Welsh, "Bootstrapping
clustered data", JRSS B 69, 2007). A draw is a count for each patient, and a figure of the draw is the figure weighted by
these counts; the scores are sorted once, whatever the number of draws. Pure: no Ray, no files. A leaf: any stage
may import it.

Axes beside those of `axes`: D draws, P patients (or films, where patients are not known).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Confidence of every interval."""
FEWEST_DRAWS = 0.95
"""An interval needs a figure in at least this part of the draws: rarer findings have draws without a positive."""
_BLOCK = 32
"""Draws at a time: what is held then is about 32 × films × 8 bytes × 4, and stays in the processor's cache."""


@dataclass(frozen=True)
class Draws:
    """counts: [D, P], how often (or with what weight) a draw holds a patient. unit_of: [N] int64, the patient of each film."""

    counts: NDArray[np.uint16] | Floats
    unit_of: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    def of(self, films: NDArray[np.int64] | NDArray[np.bool_]) -> Draws:
        """The same draws over some of the films, by number or mask."""
        return Draws(self.counts, self.unit_of[films])

    def first(self, draws: int) -> Draws:
        """The first so many draws."""
        return Draws(self.counts[:draws], self.unit_of)

    def weights(self, first: int, last: int, films: NDArray[np.int64]) -> Floats:
        """[last - first, films] float64: how often each of these draws holds each film."""
        return np.take(self.counts[first:last].astype(np.float64), self.unit_of[films], axis=1)

    def sums(self, values: ArrayLike) -> Floats:
        """Sums of values [N] or [N, K] over the films of each draw: [D] or [D, K]. NaN is not allowed."""
        table = np.asarray(values, np.float64)
        by_unit = np.zeros((self.counts.shape[1], *table.shape[1:]))
        np.add.at(by_unit, self.unit_of, table)
        return np.asarray(self.counts.astype(np.float64) @ by_unit)


def draw_patient_weights(patients: Sequence[Hashable], draws: int, seed: int) -> Draws:
    """Draws P patients of P with replacement, so many times: the patient of each film [N] → counts.

    A function of the set of patients, draws and seed alone, whatever the order of the films. To draw films instead, give
    each film its own name.
    """
    unit_of, units = _units(patients)
    rng = np.random.Generator(np.random.PCG64(seed))
    counts = np.zeros((draws, units), np.uint16)
    for draw in range(draws):
        counts[draw] = np.bincount(rng.integers(0, units, units), minlength=units)
    return Draws(counts, unit_of)


def weigh_patients(patients: Sequence[Hashable], draws: int, seed: int) -> Draws:
    """The Bayesian bootstrap (Rubin, "The Bayesian bootstrap", Annals of Statistics 9, 1981): weights that are never 0.

    Each patient of each draw weighs what an exponential variable of mean 1 does: the spread is that of `draw_patient_weights`, but a
    finding of two patients can be measured in every draw.
    """
    unit_of, units = _units(patients)
    rng = np.random.Generator(np.random.PCG64(seed))
    return Draws(rng.exponential(size=(draws, units)), unit_of)


def _units(patients: Sequence[Hashable]) -> tuple[NDArray[np.int64], int]:
    """The number of each film's patient [N], by the patients' sorted names, and how many patients there are."""
    seen_as, names = pd.factorize(np.asarray(patients, object))
    place = np.empty(len(names), np.int64)
    place[sorted(range(len(names)), key=lambda n: str(names[n]))] = np.arange(len(names))
    return place[seen_as], len(names)


@dataclass(frozen=True)
class Ranking:
    """One finding's films in order of their scores, made once for all draws.

    positives, negatives: film numbers, scores ascending. below, upto: for each positive the number of negatives with a
    lower score, and with a score no higher; own_below: the number of positives with a lower score.
    """

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    below: NDArray[np.int64]
    upto: NDArray[np.int64]
    own_below: NDArray[np.int64]


def rank(labels: ArrayLike, scores: ArrayLike) -> Ranking:
    """Ranking of one finding from labels [N] (0, 1, NaN = left out) and scores [N] (any finite number)."""
    truth, score = np.asarray(labels), np.asarray(scores, np.float64)
    positives, negatives = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    positives = positives[np.argsort(score[positives], kind="stable")]
    negatives = negatives[np.argsort(score[negatives], kind="stable")]
    high, low = score[positives], score[negatives]
    return Ranking(
        positives,
        negatives,
        below=np.searchsorted(low, high, "left"),
        upto=np.searchsorted(low, high, "right"),
        own_below=np.searchsorted(high, high, "left"),
    )


def areas(ranking: Ranking, positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision of each draw, [D] each, from the weights [D, n] of positives and negatives.

    A tie counts half in the AUROC; average precision is the sum of precision times step of recall over the distinct
    scores, as scikit-learn has it. NaN for a draw without positives or without negatives.
    """
    lower = _cumulated(negative)
    own = _cumulated(positive)
    all_positive, all_negative = own[:, -1], lower[:, -1]
    below, upto = lower[:, ranking.below], lower[:, ranking.upto]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = np.einsum("dn,dn->d", positive, 0.5 * (below + upto)) / (all_positive * all_negative)
        hits = all_positive[:, None] - own[:, ranking.own_below]
        alarms = hits + (all_negative[:, None] - below)
        precision = np.divide(hits, alarms, out=np.zeros_like(hits), where=alarms > 0)
        average = np.einsum("dn,dn->d", positive, precision) / all_positive
    average[all_negative == 0] = np.nan
    return auroc, average


def _aurocs(ranking: Ranking, positive: Floats, negative: Floats) -> Floats:
    """The AUROC alone, in half the time."""
    lower = _cumulated(negative)
    below = lower[:, ranking.below] + lower[:, ranking.upto]
    pairs = positive.sum(1) * lower[:, -1]
    wins = 0.5 * np.einsum("dn,dn->d", positive, below)
    return np.asarray(np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def _cumulated(weights: Floats) -> Floats:
    """[D, n] → [D, n + 1], beginning with 0."""
    table = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=table[:, 1:])
    return table


def weighted_areas(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
    """AUROC and average precision of one finding for each row of weights [D, N] (0 or more), as `areas`."""
    table, ranking = np.atleast_2d(np.asarray(weights, np.float64)), rank(labels, scores)
    blocks = [
        areas(ranking, table[first:last, ranking.positives], table[first:last, ranking.negatives])
        for first, last in _blocks(len(table))
    ]
    return _joined(blocks)


def weighted_auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> Floats:
    """AUROC [D] of one finding for each row of weights [D, N]."""
    return weighted_areas(labels, scores, weights)[0]


def weighted_average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> Floats:
    """Average precision [D] of one finding for each row of weights [D, N]."""
    return weighted_areas(labels, scores, weights)[1]


def area_draws(
    labels: ArrayLike, scores: ArrayLike, draws: Draws, film_weights: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """AUROC and average precision of one finding in each draw: [D] and [D].

    labels [N] 0, 1, NaN = left out; scores [N]; film_weights [N]: sampling weights, by which a draw's counts are
    multiplied. Two models on the same draws are compared by the difference of what this gives for each.
    """
    ranking = rank(labels, scores)
    own = np.ones(len(draws.unit_of)) if film_weights is None else np.asarray(film_weights, np.float64)
    blocks = []
    for first, last in _blocks(len(draws)):
        positive = draws.weights(first, last, ranking.positives) * own[ranking.positives]
        negative = draws.weights(first, last, ranking.negatives) * own[ranking.negatives]
        blocks.append(areas(ranking, positive, negative))
    return _joined(blocks)


def auroc_draws(labels: ArrayLike, scores: ArrayLike, draws: Draws) -> Floats:
    """AUROC [D] of one finding in each draw, as `area_draws`."""
    ranking = rank(labels, scores)
    blocks = [
        _aurocs(ranking, draws.weights(a, b, ranking.positives), draws.weights(a, b, ranking.negatives))
        for a, b in _blocks(len(draws))
    ]
    return np.concatenate(blocks)


def _blocks(draws: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + _BLOCK, draws)) for first in range(0, draws, _BLOCK))


def _joined(blocks: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    return np.concatenate([a for a, _ in blocks]), np.concatenate([b for _, b in blocks])


def interval(values: ArrayLike, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of a figure's draws [D] (Efron and Tibshirani 1993, chapter 13); NaN = no figure in this draw.

    None where more than 1 - FEWEST_DRAWS of the draws have no figure, for the rest would not speak for all; and where it would
    have no width (a sensitivity of 1, a score that is constant): draws of these films cannot say how sure such a figure is.
    """
    ends = percentiles(values, level)
    return ends if ends is not None and ends[0] < ends[1] else None


def percentiles(values: ArrayLike, level: float = LEVEL) -> tuple[float, float] | None:
    """Ends of `interval`, also where both are the same."""
    table = np.asarray(values, np.float64)
    known = table[~np.isnan(table)]
    if not len(known) or len(known) < FEWEST_DRAWS * len(table):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_of_draws(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """[D] mean over several figures' draws [D], of those that a draw can measure; NaN where it can measure none."""
    table = np.stack(tables)
    known = ~np.isnan(table)
    sums, counts = np.where(known, table, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))


def whole_mean(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """[D] mean over several figures' draws [D]; NaN where a draw cannot measure every one of them.

    A draw without a rare finding would give the mean of the others, which is another figure.
    """
    return np.asarray(np.stack(tables).mean(axis=0))


def interval_of_whole(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Percentile interval over the draws [D] that are whole (not NaN); None where that is half of them or fewer."""
    whole = values[~np.isnan(values)]
    return interval(whole) if 2 * len(whole) > len(values) else None


def mean_interval(tables: Sequence[NDArray[np.float64]]) -> tuple[float, float] | None:
    """Interval of the mean over several figures, in draws that can measure every one of them; None where there are none."""
    return interval_of_whole(whole_mean(tables)) if tables else None


def p_value(differences: ArrayLike) -> float | None:
    """Two-sided p of "the difference is 0" from its draws [D]: twice the smaller tail, counting the sample itself.

    (b + 1) / (D + 1) keeps it above 0 (Davison and Hinkley 1997, section 4.2). None as in `interval`.
    """
    table = np.asarray(differences, np.float64)
    known = table[~np.isnan(table)]
    if not len(known) or len(known) < FEWEST_DRAWS * len(table):
        return None
    tail = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(known) + 1)))
