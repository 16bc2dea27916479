"""Whether a finding is told as well in some patients as in others: AUROC by subgroup, and the gap to the rest. Pure.

The gap is tested by its spread over the bootstrap's draws of patients, as a normal z: patients with films in both parts
count rightly, and the p-value is fine enough for Holm's adjustment, which percentiles of 2,000 draws are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from ray_cxr.bootstrap import Draws, Floats, auroc_draws, interval, weighted_auroc
from ray_cxr.evaluate.testable import ROUNDING, too_few

AGE_EDGES = (18, 40, 60, 80)
"""Ages in years at which an age band begins."""
DRAWS = 1000
"""Draws that subgroups are measured with: there are many of them, and a spread needs fewer than a percentile."""
MOST_GROUPS = 12
"""A column with more values than this (a serial number, say) is no grouping: its rarer values are one group, `other`."""


@dataclass(frozen=True)
class GroupFigures:
    """One finding in one subgroup. auroc, interval: None = not measurable.

    small: fewer than `testable.FEWEST_PATIENTS` positive or negative patients. gap: AUROC of the group minus that of all other films
    whose group is known, its interval and p before adjustment; None in a group that is `small` or whose others are, and in
    the second of two groups, whose gap is the first's with the sign turned.
    """

    films: int
    positives: int
    small: bool
    auroc: float | None
    interval: tuple[float, float] | None
    gap: float | None = None
    gap_interval: tuple[float, float] | None = None
    p: float | None = None


def age_bands(years: pd.Series) -> pd.Series:
    """Ages [N] in years → bands such as "40-59", missing where the age is unknown."""
    names = ["0-17", *(f"{a}-{b - 1}" for a, b in pairwise(AGE_EDGES)), f"{AGE_EDGES[-1]}+"]
    return pd.cut(years, [-np.inf, *AGE_EDGES, np.inf], right=False, labels=names).astype(object)


def groupings(groups: pd.DataFrame) -> dict[str, NDArray[np.object_]]:
    """Grouping → [N] the group of each film, None where unknown. Age becomes age bands, rare values of a column `other`."""
    found = {}
    for column in groups:
        values = age_bands(groups[column]) if column == "age" else groups[column].astype(object)
        common = values.value_counts().index[: MOST_GROUPS - 1]
        if column != "age" and values.nunique() > MOST_GROUPS:
            values = values.where(values.isin(common) | values.isna(), "other")
        if values.nunique() > 1:
            found["age band" if column == "age" else str(column)] = values.where(
                values.notna(), None
            ).to_numpy(object)
    return found


def subgroup_figures(
    labels: NDArray[np.float32],
    scores: Floats,
    draws: Draws,
    grouped: Mapping[str, NDArray[np.object_]],
) -> dict[str, dict[str, GroupFigures]]:
    """Grouping → group → figures of one finding; labels [N] 0, 1, NaN = left out, scores [N]."""
    draws = draws.first(DRAWS)
    return {name: _grouping(labels, scores, draws, values) for name, values in grouped.items()}


def _grouping(
    labels: NDArray[np.float32], scores: Floats, draws: Draws, values: NDArray[np.object_]
) -> dict[str, GroupFigures]:
    there = np.array([v is not None for v in values])
    names = sorted(set(values[there]))
    found: dict[str, GroupFigures] = {}
    for number, name in enumerate(names):
        inside = values == name
        mirrored = len(names) == 2 and number == 1
        found[str(name)] = _group(labels, scores, draws, inside, None if mirrored else there & ~inside)
    return found


def _group(
    labels: NDArray[np.float32],
    scores: Floats,
    draws: Draws,
    inside: NDArray[np.bool_],
    rest: NDArray[np.bool_] | None,
) -> GroupFigures:
    known = int((~np.isnan(labels[inside])).sum())
    small = too_few(labels[inside], draws.unit_of[inside])
    plain = (known, int((labels[inside] == 1).sum()), small)
    value = _auroc(labels[inside], scores[inside])
    if value is None:
        return GroupFigures(*plain, None, None)
    drawn = auroc_draws(labels[inside], scores[inside], draws.of(inside))
    if rest is None or small or too_few(labels[rest], draws.unit_of[rest]):
        return GroupFigures(*plain, value, interval(drawn))
    other = _auroc(labels[rest], scores[rest])
    assert other is not None  # else the rest would be small
    differences = drawn - auroc_draws(labels[rest], scores[rest], draws.of(rest))
    ends, spread = interval(differences), float(np.nanstd(differences, ddof=1))
    tested = ends is not None and spread > ROUNDING
    p = float(2 * norm.sf(abs(value - other) / spread)) if tested else None
    return GroupFigures(*plain, value, interval(drawn), value - other, ends, p)


def _auroc(labels: NDArray[np.float32], scores: Floats) -> float | None:
    value = float(weighted_auroc(labels, scores, np.ones((1, len(labels))))[0])
    return None if np.isnan(value) else value
