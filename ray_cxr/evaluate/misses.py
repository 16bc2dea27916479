"""The worst misses: positive films that score below nearly all negative ones, and negative films above the positives. Pure.

Looking at them shows what a figure cannot: wrong labels, drains that give a pneumothorax away, films that are not chests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ray_cxr.evaluate.inputs import Scored

MOST = 8
"""Misses of each kind."""
MOST_OF_ONE = 2
"""Of one finding, so that the hardest finding does not fill the list."""


@dataclass(frozen=True)
class Miss:
    """A film by its number among the scored films, and the share (0..1) of films of the other class that it is behind."""

    finding: str
    film: int
    kind: Literal["missed", "false alarm"]
    score: float
    behind: float


def worst_misses(scored: Scored) -> list[Miss]:
    """MOST missed positives, then MOST false alarms, the worst first."""
    found: list[Miss] = []
    for number, finding in enumerate(scored.findings):
        labels, scores = scored.labels[:, number], scored.scores[:, number]
        positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        if len(positives) and len(negatives):
            low, high = np.sort(scores[negatives]), np.sort(scores[positives])
            above = 1 - np.searchsorted(low, scores[positives], "right") / len(low)
            below = np.searchsorted(high, scores[negatives], "left") / len(high)
            found += _worst(finding, "missed", positives, scores, above)
            found += _worst(finding, "false alarm", negatives, -scores, below)
    kinds = [
        sorted((m for m in found if m.kind == k), key=lambda m: -m.behind) for k in ("missed", "false alarm")
    ]
    return [miss for of_kind in kinds for miss in of_kind[:MOST]]


def _worst(
    finding: str,
    kind: Literal["missed", "false alarm"],
    films: np.ndarray[tuple[int], np.dtype[np.int64]],
    order: np.ndarray[tuple[int], np.dtype[np.float64]],
    behind: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> list[Miss]:
    """`order`: the scores, negated for false alarms, so that the worst come first."""
    worst = np.lexsort((order[films], -behind))[:MOST_OF_ONE]
    sign = -1 if kind == "false alarm" else 1
    return [
        Miss(finding, int(films[w]), kind, float(sign * order[films[w]]), float(behind[w]))
        for w in worst
        if behind[w] > 0.5
    ]
