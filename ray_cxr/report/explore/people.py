"""Patients, age, sex and view, and what these give away of the findings. Pure.

Reads: a frame with `patient_id`, `age` (float32, years, NaN = unknown), `sex` and `view` (str) and a column per
finding. Gives: counts, and the AUROC that knowing nothing but a film's view, sex or age reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.metrics import auroc

NOT_GIVEN = "not given"
TEST_SHARE = 0.2
"""Of the films, in the thought experiment of `PatientCount.met_again`."""
AGE_BANDS = {"under 18": 18.0, "18–39": 40.0, "40–59": 60.0, "60–79": 80.0, "80+": np.inf}
"""Name → the age in years that is too old for it."""
SHORTCUT_AUROC = 0.65
"""From here on, what is not the picture says noticeably much about the finding."""

_FILMS_BANDS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 10), (11, 20), (21, 50), (51, None))
_SMALLEST_CLASS = 10
_CHANCE_ERRORS = 3.0


@dataclass(frozen=True)
class PatientCount:
    """How films are spread over patients. bands: films of a patient → patients."""

    patients: int
    films: int
    several: int
    """Patients with more than one film."""
    films_of_several: int
    median: float
    most: int
    bands: dict[str, int]
    met_again: float
    """Had films been dealt out at random, TEST_SHARE for testing: the expected share 0..1 of test films whose
    patient is in training too. A film of a patient with k films meets none of the others with 0.2^(k-1)."""


def count_patients(patient_ids: pd.Series) -> PatientCount:
    """From the patient of each film."""
    films = patient_ids.value_counts().to_numpy(np.int64)
    bands = {
        _band_name(low, high): int(((films >= low) & (films <= (high or np.inf))).sum())
        for low, high in _FILMS_BANDS
    }
    last = max(i for i, patients in enumerate(bands.values()) if patients)
    return PatientCount(
        patients=len(films),
        films=int(films.sum()),
        several=int((films > 1).sum()),
        films_of_several=int(films[films > 1].sum()),
        median=float(np.median(films)),
        most=int(films.max()),
        bands=dict(list(bands.items())[: last + 1]),
        met_again=float((films * (1 - TEST_SHARE ** (films - 1.0))).sum() / films.sum()),
    )


def _band_name(low: int, high: int | None) -> str:
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}–{high}"


def given(frame: pd.DataFrame, column: str) -> pd.Series:
    """A text column with NOT_GIVEN where a cell, or the whole column, is missing."""
    if column not in frame:
        return pd.Series(NOT_GIVEN, index=frame.index)
    return frame[column].astype(object).where(frame[column].notna(), "").replace("", NOT_GIVEN)


def age_bands(ages: pd.Series) -> pd.Series:
    """The band of each age as an ordered category; missing where the age is."""
    edges = [0.0, *AGE_BANDS.values()]
    return pd.cut(ages, edges, right=False, labels=list(AGE_BANDS))


def age_histogram(ages: pd.Series, sexes: pd.Series) -> dict[str, dict[str, int]]:
    """Sex → decade ("20–29") → films, every decade from the youngest to the oldest film."""
    known = ages.notna()
    if not known.any():
        return {}
    decades = (ages[known] // 10).astype(int)
    span = range(decades.min(), decades.max() + 1)
    counts = pd.crosstab(sexes[known], decades).reindex(columns=span, fill_value=0)
    return {str(sex): {f"{10 * d}–{10 * d + 9}": int(row[d]) for d in span} for sex, row in counts.iterrows()}


@dataclass(frozen=True)
class Giveaway:
    """What one property of a film other than its pixels says of a finding: the AUROC, 0.5..1, None = not measurable.

    clear: SHORTCUT_AUROC is reached, and not by chance.
    """

    auroc: float | None
    clear: bool


def giveaways(frame: pd.DataFrame, findings: Sequence[str]) -> dict[str, dict[str, Giveaway]]:
    """Finding → "view", "sex", "age" → what knowing that alone gives away. A property with one value is left out.

    A view or sex scores a film with the prevalence of the finding in its group; the age as it is, whichever way
    round it separates better.
    """
    groups = {c: given(frame, c) for c in ("view", "sex")}
    groups = {c: g for c, g in groups.items() if g.nunique() > 1}
    ages = frame["age"].to_numpy(np.float64) if "age" in frame else np.full(len(frame), np.nan)
    found: dict[str, dict[str, Giveaway]] = {}
    for finding in findings:
        labels = frame[finding].to_numpy(np.float32)
        found[finding] = {c: _giveaway(labels, _group_prevalence(labels, g)) for c, g in groups.items()}
        if len(np.unique(ages[~np.isnan(ages)])) > 1:
            found[finding]["age"] = _giveaway(np.where(np.isnan(ages), np.nan, labels), np.nan_to_num(ages))
    return found


def _group_prevalence(labels: NDArray[np.float32], groups: pd.Series) -> NDArray[np.float64]:
    prevalence = pd.Series(labels, index=groups.index, dtype=np.float64).groupby(groups).transform("mean")
    return prevalence.fillna(0.0).to_numpy(np.float64)


def _giveaway(labels: NDArray[np.floating], scores: NDArray[np.float64]) -> Giveaway:
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if min(positives, negatives) < _SMALLEST_CLASS:
        return Giveaway(None, clear=False)
    area = auroc(labels.astype(np.float32), scores)
    assert area is not None
    area = max(area, 1 - area)
    # Standard error of an AUROC that is 0.5 in truth (Mann and Whitney 1947).
    error = np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return Giveaway(area, clear=area >= SHORTCUT_AUROC and area - 0.5 > _CHANCE_ERRORS * float(error))
