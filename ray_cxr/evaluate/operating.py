"""Operating points: thresholds chosen on validation films, and what they give on test films. Pure.

A film counts as positive where its score is no less than the threshold. A threshold chosen on the films that test it would
flatter the result, so without validation films there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ray_cxr.bootstrap import Draws, Floats, interval

YOUDEN = "youden"
FIXED_SENSITIVITY = "fixed_sensitivity"
FIXED_SPECIFICITY = "fixed_specificity"
POINTS = (YOUDEN, FIXED_SENSITIVITY, FIXED_SPECIFICITY)
_RULES = dict(zip(POINTS, ("Youden's index", "fixed sensitivity", "fixed specificity"), strict=True))
FEWEST = 10
"""Validation films of either class below which a threshold carries a caution: even 9 of 10 found has a 95 % interval of 55 to 100 % (Clopper and
Pearson, Biometrika 1934)."""
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


def class_counts(labels: ArrayLike) -> dict[str, int]:
    """How many of the labels [N] are 1 and 0."""
    truth = np.asarray(labels)
    return {"positives": int((truth == 1).sum()), "negatives": int((truth == 0).sum())}


def missing_class(counts: Mapping[str, int], films: str) -> str | None:
    """Why nothing can be measured on films with these counts; None where it can. films: such as "test film"."""
    if not any(counts.values()):
        return f"no {films} is labelled"
    lacking = [name.removesuffix("s") for name, count in counts.items() if not count]
    return f"there is no {lacking[0]} {films}" if lacking else None


def few_films_caution(counts: Mapping[str, Mapping[str, int]]) -> str | None:
    """Of the findings whose thresholds rest on fewer than FEWEST validation films of one class; None where none does."""
    few = [
        f"{finding} ({n['positives']} positive and {n['negatives']} negative validation films)"
        for finding, n in counts.items()
        if min(n.values()) < FEWEST
    ]
    if not few:
        return None
    return f"thresholds rest on fewer than {FEWEST} films of one class, so other films would give others: {', '.join(few)}"


def one_sided_cautions(
    points: Mapping[str, Mapping[str, Point]], columns: Mapping[str, tuple[ArrayLike, ArrayLike]]
) -> list[str]:
    """Of the thresholds that every test film passes, or none; columns: finding → labels [N] and scores [N] of the test films."""
    passing: dict[str, list[str]] = {"every": [], "no": []}
    for finding, by_rule in points.items():
        labels, scores = (np.asarray(c, np.float64) for c in columns[finding])
        score = scores[~np.isnan(labels)]
        low, high = score.min(), score.max()
        every = [_RULES[name] for name, p in by_rule.items() if low >= p.threshold]
        none = [_RULES[name] for name, p in by_rule.items() if high < p.threshold]
        for films, rules in (("every", every), ("no", none)):
            if rules:
                passing[films].append(f"{finding} ({', '.join(rules)})")
    return [
        f"{films} labelled test film passes the threshold, so its rates say nothing: {', '.join(found)}; are the scores of the "
        "validation films on the scale of the test films'?"
        for films, found in passing.items()
        if found
    ]


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
