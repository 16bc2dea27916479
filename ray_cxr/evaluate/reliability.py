"""Whether scores are probabilities: Brier score, calibration error, and the reliability curve of one finding. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ray_cxr.bootstrap import Draws, Floats, interval

WIDTH_BINS = 15
"""Bins of equal width of the expected calibration error, as Guo et al., ICML 2017."""
COUNT_BINS = 10
"""Bins of equally many films of the reliability curve: scores of a rare finding crowd near 0, where wide bins see nothing."""

WHY_NO_ECE_INTERVAL = (
    "each bin adds the size of its gap, whichever way it goes, so chance only ever makes the error larger; a draw, with films "
    "repeated, has more chance in it than the sample, and the percentiles of draws would lie above the figure, not around it"
)


@dataclass(frozen=True)
class Bin:
    """Films of neighbouring scores: how many, their mean score, the share that is positive, and its interval."""

    films: int
    mean_score: float
    positive_share: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Reliability:
    """brier: mean squared error of the score; ece: mean |share positive - mean score| over bins, weighted by films."""

    brier: float
    brier_interval: tuple[float, float] | None
    ece: float
    ece_equal_count: float
    bins: list[Bin]


def reliability(
    labels: ArrayLike, scores: ArrayLike, draws: Draws, weights: NDArray[np.float64] | None
) -> Reliability | None:
    """From labels [N] (0, 1, NaN = left out) and scores [N] in 0..1; None where no film is labelled.

    weights [N]: sampling weights. The calibration error has no interval, for WHY_NO_ECE_INTERVAL.
    """
    truth, score = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    known = np.flatnonzero(~np.isnan(truth))
    if not len(known):
        return None
    truth, score, draws = truth[known], score[known], draws.of(known)
    own = np.ones(len(known)) if weights is None else weights[known]
    by_width = np.minimum((score * WIDTH_BINS).astype(np.int64), WIDTH_BINS - 1)
    by_count = _equal_counts(score)
    squares = own * (score - truth) ** 2
    sums = draws.sums(np.stack([squares, own], axis=1))
    return Reliability(
        float(squares.sum() / own.sum()),
        interval(np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)),
        _calibration_error(by_width, truth, score, own),
        _calibration_error(by_count, truth, score, own),
        [_bin(np.flatnonzero(by_count == b), truth, score, own, draws) for b in np.unique(by_count)],
    )


def _equal_counts(scores: Floats) -> NDArray[np.int64]:
    """[N] number of the bin; films of the same score stay together, so bins may be fewer and unequal."""
    edges = np.unique(np.quantile(scores, np.arange(1, COUNT_BINS) / COUNT_BINS))
    return np.searchsorted(edges, scores, "left").astype(np.int64)


def _calibration_error(bins: NDArray[np.int64], truth: Floats, scores: Floats, own: Floats) -> float:
    gaps = np.bincount(bins, own * (scores - truth))
    return float(np.abs(gaps).sum() / own.sum())


def _bin(films: NDArray[np.int64], truth: Floats, scores: Floats, own: Floats, draws: Draws) -> Bin:
    weight = own[films]
    sums = draws.of(films).sums(np.stack([weight * truth[films], weight], axis=1))
    shares = np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)
    return Bin(
        len(films),
        float(np.average(scores[films], weights=weight)),
        float(np.average(truth[films], weights=weight)),
        interval(shares),
    )
