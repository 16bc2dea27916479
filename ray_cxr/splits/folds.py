"""Folds for cross-validation: patients are dealt into k parts, each with its share of films and of every finding. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ray_cxr.errors import InputError
from ray_cxr.splits.pool import Pool
from ray_cxr.splits.sampled import draw_patients


def deal_folds(pool: Pool, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[N] fold 0..folds-1 of each film. InputError where there are fewer patients than folds."""
    if pool.patients < folds:
        raise InputError(
            f"split.folds: got {folds}, but there are only {pool.patients} patients outside the test set; ask for "
            "fewer folds, or split.folds=null for none."
        )
    fold = np.full(len(pool.patient), folds - 1)
    left = np.ones(len(pool.patient), bool)
    for number in range(folds - 1):
        rest = pool.chosen(left)
        drawn = draw_patients(rest, round(left.sum() / (folds - number)), rng)
        drawn = _leave_enough(drawn, rest, folds - number - 1)
        now = left.copy()
        now[left] = drawn[rest.patient]
        fold[now] = number
        left &= ~now
    return fold


def _leave_enough(drawn: NDArray[np.bool_], pool: Pool, others: int) -> NDArray[np.bool_]:
    """Gives back the patients with the fewest films until each other fold can have one."""
    small_first = np.argsort(pool.films_of(), kind="stable")
    kept = drawn.copy()
    kept[small_first[kept[small_first]][: max(0, others - int((~drawn).sum()))]] = False
    return kept
