"""Balanced sampling: units are drawn with given probabilities so that the sample has the population's totals.

The cube method (Deville & Tillé 2004, Biometrika 91:893), in blocks. Reads: probabilities and features of units.
Gives: who is drawn. Pure. Sums are kept to basic arithmetic, so that another processor draws the same sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-9
"""Below this a probability is 0, above one minus it 1, and a pivot is no pivot."""


def balanced_sample(
    probabilities: NDArray[np.float64], features: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """[U] bool: the units drawn. Unit u is drawn with exactly probabilities[u], in [0, 1].

    features [U, P] ≥ 0: for each column the sum of feature / probability over the drawn units is that over all
    units, as nearly as whole units allow. Columns stand by importance: when few units are undecided, the last columns
    are given up first. Units stand by size, the largest first: small ones at the end leave a small remainder.
    """
    chance = probabilities.copy()
    scaled = features / np.maximum(chance, _ROUNDING)[:, None]
    live = _undecided(chance, np.arange(len(chance)))
    while len(live):
        width = min(features.shape[1] + 1, len(live))
        blocks = live[: len(live) // width * width].reshape(-1, width)
        direction = _null_vectors(scaled[blocks][:, :, : width - 1])
        chance[blocks] = _step(chance[blocks], direction, rng)
        live = _undecided(chance, live)
    drawn: NDArray[np.bool_] = chance > 0.5
    return drawn


def polish(
    drawn: NDArray[np.bool_], features: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """[U] bool: a sample whose sums of features [U, P] are nearer to `wanted` [P]; column 0 (films) nearest of all.

    Units are taken in and out one at a time as long as that helps. The probabilities are then no longer exact, so this
    is for samples that nobody weights.
    """
    drawn = drawn.copy()
    importance = 1 / (wanted + 1)  # a count's chance variance is about its expectation
    for films_importance in (importance[0], 1e4):
        importance[0] = films_importance
        own = np.square(features) @ importance
        while True:
            missing = wanted - features[drawn].sum(axis=0)
            sign = np.where(drawn, -1.0, 1.0)
            # Rounded, so that equal units are equal on every processor and the first of them is taken.
            change = np.round(own - 2 * sign * (features @ (importance * missing)), 9)
            best = int(change.argmin())
            if change[best] >= 0:
                break
            drawn[best] = not drawn[best]
    return drawn


def _undecided(chance: NDArray[np.float64], units: NDArray[np.int64]) -> NDArray[np.int64]:
    here = chance[units]
    return units[(here > _ROUNDING) & (here < 1 - _ROUNDING)]


def _step(
    chance: NDArray[np.float64], direction: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Moves each block [B, W] along ± its direction until a unit is decided; the expectation does not move."""
    size = np.where(np.abs(direction) > _ROUNDING, np.abs(direction), np.nan)
    rising, falling = (1 - chance) / size, chance / size
    upwards = np.nanmin(np.where(direction > 0, rising, falling), axis=1)
    downwards = np.nanmin(np.where(direction > 0, falling, rising), axis=1)
    up = rng.random(len(chance)) * (upwards + downwards) < downwards
    moved = chance + np.where(up, upwards, -downwards)[:, None] * direction
    return np.asarray(np.clip(moved, 0, 1))


def _null_vectors(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """[B, W]: for each block [W, W - 1] weights of its units, not all 0, under which every column sums to 0.

    Gauss-Jordan elimination and not a library's QR: where columns depend on each other, which is usual here, the
    result of a QR is decided by rounding noise, and differs between processors.
    """
    count, width, columns = blocks.shape
    each = np.arange(count)
    rows = blocks.transpose(0, 2, 1).copy()
    rows /= np.maximum(np.abs(rows).max(axis=2, keepdims=True, initial=0), _ROUNDING)
    is_pivot = np.zeros((count, width), bool)
    pivots = np.zeros((count, columns), np.int64)
    found = np.zeros((count, columns), bool)
    for number in range(columns):
        row = rows[:, number]
        pivot = np.asarray(np.abs(row).argmax(axis=1), np.int64)
        pivots[:, number] = pivot
        value = row[each, pivot]
        found[:, number] = ok = np.abs(value) > _ROUNDING
        row = np.where(ok[:, None], row / np.where(ok, value, 1)[:, None], 0)
        factors = rows[each, :, pivot]
        factors[:, number] = 0
        rows -= factors[:, :, None] * row[:, None, :]
        rows[:, number] = row
        is_pivot[each, pivot] |= ok
    free = is_pivot.argmin(axis=1)
    weights = np.zeros((count, width))
    weights[each, free] = 1
    block, constraint = np.nonzero(found)
    weights[block, pivots[block, constraint]] = -rows[block, constraint, free[block]]
    return weights
