"""Bands around ROC and precision-recall curves: what the draws of the bootstrap give at fixed points of the x axis. Pure.

Vertical averaging (Fawcett, Pattern Recognition Letters 27, 2006): for each draw the sensitivity at a specificity, or the
precision at a recall, and of these the percentiles. The band is pointwise: a whole curve leaves it more often than 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ray_cxr.bootstrap import Draws, Floats, percentiles

GRID = np.linspace(0.0, 1.0, 101)
"""1 - specificity, and recall, at which a band is measured."""
BAND_DRAWS = 500


@dataclass(frozen=True)
class Band:
    """Lower and upper end [101] at GRID; NaN = not measurable."""

    low: Floats
    high: Floats


def curve_bands(labels: ArrayLike, scores: ArrayLike, draws: Draws) -> tuple[Band, Band]:
    """Bands of the ROC curve and of the precision-recall curve of one finding, from the first BAND_DRAWS draws.

    labels [N] 0, 1, NaN = left out; scores [N].
    """
    films = _descending(np.asarray(labels), np.asarray(scores, np.float64))
    count = min(BAND_DRAWS, len(draws))
    sensitivity, precision = np.full((count, len(GRID)), np.nan), np.full((count, len(GRID)), np.nan)
    for draw in range(count):
        positive = _cumulated(draws.weights(draw, draw + 1, films.positives)[0])
        negative = _cumulated(draws.weights(draw, draw + 1, films.negatives)[0])
        if positive[-1] and negative[-1]:
            sensitivity[draw] = _sensitivities(films, positive, negative)
            precision[draw] = _precisions(films, positive, negative)
    return _band(sensitivity), _band(precision)


@dataclass(frozen=True)
class _Films:
    """Film numbers by class, scores descending, and how the two orders stand to each other.

    above: for each number of negatives let through, the positives above the next negative. hits, alarms: for each positive
    the films of each class with no lower score.
    """

    positives: np.ndarray[tuple[int], np.dtype[np.int64]]
    negatives: np.ndarray[tuple[int], np.dtype[np.int64]]
    above: np.ndarray[tuple[int], np.dtype[np.int64]]
    hits: np.ndarray[tuple[int], np.dtype[np.int64]]
    alarms: np.ndarray[tuple[int], np.dtype[np.int64]]


def _descending(truth: np.ndarray[tuple[int], np.dtype[np.float32]], scores: Floats) -> _Films:
    positives, negatives = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    positives = positives[np.argsort(-scores[positives], kind="stable")]
    negatives = negatives[np.argsort(-scores[negatives], kind="stable")]
    high, low = -scores[positives], -scores[negatives]
    return _Films(
        positives,
        negatives,
        above=np.append(np.searchsorted(high, low, "left"), len(high)),
        hits=np.searchsorted(high, high, "right"),
        alarms=np.searchsorted(low, high, "right"),
    )


def _cumulated(weights: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(weights)])


def _sensitivities(films: _Films, positive: Floats, negative: Floats) -> Floats:
    """The best sensitivity at no more than each share of false alarms."""
    let_through = np.searchsorted(negative, GRID * negative[-1] * (1 + 1e-12), "right") - 1
    return np.asarray(positive[films.above[let_through]] / positive[-1])


def _precisions(films: _Films, positive: Floats, negative: Floats) -> Floats:
    """The precision where each recall is reached."""
    last = np.searchsorted(positive, GRID * positive[-1] * (1 - 1e-12), "left").clip(1) - 1
    hits, alarms = positive[films.hits[last]], negative[films.alarms[last]]
    both = hits + alarms
    return np.asarray(np.divide(hits, both, out=np.full(len(GRID), np.nan), where=both > 0))


def _band(values: Floats) -> Band:
    ends = [percentiles(column) or (np.nan, np.nan) for column in values.T]
    return Band(np.array([e[0] for e in ends]), np.array([e[1] for e in ends]))
