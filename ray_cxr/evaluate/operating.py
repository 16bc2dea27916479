"""Operating points: thresholds chosen on validation films, and what they give on test films. Pure.

A film counts as positive where its score is no less than the threshold. A threshold chosen on the films that test it would
flatter the result, so without validation films there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ray_cxr.evaluate.bootstrap import Draws, Floats, interval

YOUDEN = "youden"
FIXED_SENSITIVITY = "fixed_sensitivity"
FIXED_SPECIFICITY = "fixed_specificity"
POINTS = (YOUDEN, FIXED_SENSITIVITY, FIXED_SPECIFICITY)
RATES = ("sensitivity", "specificity", "ppv", "npv", "f1")

Counts = tuple[Floats, Floats, Floats, Floats]


@dataclass(frozen=True)
class Point:
    """A threshold, and the sensitivity and specificity (0..1) that it had on the validation films it was chosen on."""

    threshold: float
    validation_sensitivity: float
    validation_specificity: float


@dataclass(frozen=True)
class Rate:
    """A share of films, 0..1, with its interval; None = not measurable (0 of 0), or no interval."""

    value: float | None
    interval: tuple[float, float] | None


def choose_points(
    labels: ArrayLike, scores: ArrayLike, sensitivity: float, specificity: float
) -> dict[str, Point] | None:
    """Thresholds of one finding from validation labels [N] (0, 1, NaN = left out) and scores [N].

    `youden`: the largest sensitivity + specificity - 1 (Youden, Cancer 3, 1950), of equals the most specific.
    `fixed_sensitivity`: the most specific with at least this sensitivity; `fixed_specificity`: the most sensitive with at
    least this specificity. None where one class is missing.
    """
    truth, score = np.asarray(labels), np.asarray(scores, np.float64)
    positives, negatives = np.sort(score[truth == 1]), np.sort(score[truth == 0])
    if not len(positives) or not len(negatives):
        return None
    seen = np.unique(np.concatenate([positives, negatives]))[::-1]
    thresholds = np.concatenate([[np.nextafter(seen[0], np.inf)], seen])
    found = 1 - np.searchsorted(positives, thresholds, "left") / len(positives)
    spared = np.searchsorted(negatives, thresholds, "left") / len(negatives)
    chosen = {
        YOUDEN: int(np.argmax(found + spared)),
        FIXED_SENSITIVITY: int(np.argmax(found >= sensitivity - 1e-12)),
        FIXED_SPECIFICITY: int(np.flatnonzero(spared >= specificity - 1e-12)[-1]),
    }
    return {n: Point(float(thresholds[i]), float(found[i]), float(spared[i])) for n, i in chosen.items()}


def rates_at(
    threshold: float, labels: ArrayLike, scores: ArrayLike, draws: Draws, weights: NDArray[np.float64] | None
) -> dict[str, Rate]:
    """RATES of one finding at a threshold on test films, with intervals from the draws.

    labels [N] 0, 1, NaN = left out; scores [N]; weights [N]: sampling weights, None where all films count the same.
    """
    truth, score = np.asarray(labels), np.asarray(scores, np.float64)
    own = np.ones(len(truth)) if weights is None else weights
    positive, called = truth == 1, score >= threshold
    cells = np.stack(
        [positive & called, (truth == 0) & called, (truth == 0) & ~called, positive & ~called], axis=1
    )
    table = cells * own[:, None]
    whole, drawn = _rates(_columns(table.sum(0)[None])), _rates(_columns(draws.sums(table)))
    return {name: Rate(_known(whole[name][0]), interval(drawn[name])) for name in RATES}


def _columns(table: Floats) -> Counts:
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def _rates(counts: Counts) -> dict[str, Floats]:
    hits, alarms, spared, missed = counts
    return {
        "sensitivity": _share(hits, hits + missed),
        "specificity": _share(spared, spared + alarms),
        "ppv": _share(hits, hits + alarms),
        "npv": _share(spared, spared + missed),
        "f1": _share(2 * hits, 2 * hits + alarms + missed),
    }


def _share(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
