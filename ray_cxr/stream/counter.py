"""Random numbers from counters: the same for the same keys, whatever was drawn before, by whom, in what order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniform(
    seed: int, epoch: int, rows: NDArray[np.int64], copies: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """[B, count] float64 in [0, 1), keyed by (seed, epoch, row, copy) and the column."""
    with np.errstate(over="ignore"):
        key = _mix(np.array([seed], np.uint64) + _GOLDEN)
        key = _mix(key + np.uint64(epoch) * _GOLDEN)
        key = _mix(key + rows.astype(np.uint64) * _GOLDEN)
        key = _mix(key + (copies.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        columns = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * _GOLDEN
        bits = _mix(key[:, None] + columns[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
