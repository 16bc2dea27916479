"""The `sampled` split: whole patients, test first, then validation, training gets the rest.

Reads: patient ids and labels [N, F]. Gives: a split name per film. Pure: no files, no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError
from ray_cxr.splits.settings import SplitSettings

DRAWS = 200
"""Orders of the patients that are tried for each set. The one whose findings are least skewed is taken."""


def sampled_split(
    patient_ids: Sequence[str], labels: Labels, settings: SplitSettings, seed: int
) -> NDArray[np.object_]:
    """[N] of "test", "validation", "train". A pure function of its arguments.

    Of DRAWS seeded orders of the patients, a set takes from each as many patients as fill it, and keeps the
    draw whose worst finding is nearest to its share of positives. InputError if no patient would remain.
    """
    patients, group = np.unique(np.asarray(patient_ids, dtype=object), return_inverse=True)
    films = np.bincount(group, minlength=len(patients))
    positives = np.zeros((len(patients), labels.shape[1]))
    np.add.at(positives, group, np.nan_to_num(labels))
    split = np.full(len(patients), "train", dtype=object)
    free = np.arange(len(patients))
    for number, name in enumerate(("test", "validation")):
        target = _target(getattr(settings, name), len(group), name)
        rng = np.random.default_rng([seed, number])
        taken = _least_skewed_draw(films[free], positives[free], target, rng)
        split[free[taken]] = name
        free = np.delete(free, taken)
        if not len(free):
            raise InputError(
                f"split.{name}: {getattr(settings, name):g} takes every patient that is left; "
                f"there are {len(group)} films of {len(patients)} patients, so ask for less."
            )
    return split[group]


def _target(size: float, films: int, name: str) -> int:
    wanted = round(size * films) if size < 1 else round(size)
    if wanted >= films:
        raise InputError(f"split.{name}: got {size:g} films, but there are only {films}; ask for less.")
    return max(wanted, 1)


def _least_skewed_draw(
    films: NDArray[np.int64], positives: NDArray[np.float64], target: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Positions of the patients of the best draw; the set's size is the nearest to `target` that patients allow."""
    total = positives.sum(0)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(DRAWS):
        order = rng.permutation(len(films))
        sizes = np.cumsum(films[order])
        count = int(np.argmin(np.abs(sizes - target))) + 1
        taken = order[:count]
        expected = total * sizes[count - 1] / sizes[-1]
        found = positives[taken].sum(0)
        # Relative to the chance spread of a count, so that a rare finding is not drowned by a common one.
        skew = float(np.max(np.abs(found - expected) / np.sqrt(expected + 1), initial=0.0))
        skew += 10.0 * float(np.sum((found == 0) & (expected >= 0.5)))
        if best is None or skew < best[0]:
            best = (skew, taken)
    assert best is not None
    return best[1]
