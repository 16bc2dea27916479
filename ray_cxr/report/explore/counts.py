"""Counts of labels, and what follows from them for training. Pure.

Reads: a frame with `patient_id` and a float32 column per finding (0, 1, NaN = not labelled). Gives: counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.axes import Labels


@dataclass(frozen=True)
class FindingCount:
    """Films labelled for one finding, and how many of them show it. A figure that has no base is None."""

    labelled: int
    positives: int

    @property
    def negatives(self) -> int:
        return self.labelled - self.positives

    @property
    def prevalence(self) -> float | None:
        """Positives / labelled, 0..1."""
        return self.positives / self.labelled if self.labelled else None

    @property
    def negatives_per_positive(self) -> float | None:
        """The imbalance ratio."""
        return self.negatives / self.positives if self.positives else None

    @property
    def accuracy_of_always_healthy(self) -> float | None:
        """Share of films, 0..1, that a classifier gets right which never says that the finding is there."""
        return self.negatives / self.labelled if self.labelled else None

    @property
    def weight_of_positive(self) -> float | None:
        """w_pos = negatives / total, as in `loss/weights.py`."""
        return self.negatives / self.labelled if self.labelled else None

    @property
    def weight_of_negative(self) -> float | None:
        """w_neg = positives / total, as in `loss/weights.py`."""
        return self.prevalence

    @property
    def one_class(self) -> bool:
        """Nothing can be learnt from positives alone, or from negatives alone."""
        return not (self.positives and self.negatives)

    def as_dict(self) -> dict[str, Any]:
        """For explore.json."""
        return {
            "labelled": self.labelled,
            "positives": self.positives,
            "prevalence": self.prevalence,
            "negatives_per_positive": self.negatives_per_positive,
            "accuracy_of_always_healthy": self.accuracy_of_always_healthy,
            "weight_of_positive": self.weight_of_positive,
            "weight_of_negative": self.weight_of_negative,
        }


@dataclass(frozen=True)
class GroupCount:
    """A set of films. `natural`: prevalence restored by `sampling_weight`, where the set was sampled unevenly."""

    films: int
    patients: int
    findings: dict[str, FindingCount]
    natural: dict[str, float | None] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For explore.json."""
        counts = {name: count.as_dict() for name, count in self.findings.items()}
        restored = {} if self.natural is None else {"natural_prevalence": self.natural}
        return {"images": self.films, "patients": self.patients, "findings": counts} | restored


def count_group(frame: pd.DataFrame, findings: Sequence[str]) -> GroupCount:
    """Counts of all films of a frame."""
    labels = frame[list(findings)]
    counts = {f: FindingCount(int(labels[f].notna().sum()), int((labels[f] == 1).sum())) for f in findings}
    return GroupCount(len(frame), int(frame["patient_id"].nunique()), counts, _natural(frame, findings))


def count_by(frame: pd.DataFrame, findings: Sequence[str], column: str) -> dict[str, GroupCount]:
    """Counts by the values of a column, in the column's own order; films without a value are left out."""
    return {
        str(value): count_group(films, findings)
        for value, films in frame.groupby(column, observed=True, sort=True)
    }


def _natural(frame: pd.DataFrame, findings: Sequence[str]) -> dict[str, float | None] | None:
    if "sampling_weight" not in frame or frame["sampling_weight"].nunique(dropna=False) < 2:
        return None
    weights = frame["sampling_weight"].to_numpy(np.float64)
    if np.isnan(weights).any():  # rows that are in no split
        return None
    restored: dict[str, float | None] = {}
    for finding in findings:
        labels = frame[finding].to_numpy(np.float64)
        known = ~np.isnan(labels)
        total = weights[known].sum()
        restored[finding] = float((weights[known] * labels[known]).sum() / total) if total > 0 else None
    return restored


@dataclass(frozen=True)
class CoOccurrence:
    """Findings on the same film. together [F, F]: films that show both; the diagonal holds each alone.

    share [F, F]: of the films that show the column's finding and are labelled for the row's, the share 0..1 that
    shows the row's too; NaN where there are none.
    """

    together: NDArray[np.int64]
    share: NDArray[np.float64]


def co_occurrence(labels: Labels) -> CoOccurrence:
    """From labels [N, F]."""
    positive, known = (labels == 1).astype(np.float64), (~np.isnan(labels)).astype(np.float64)
    together, base = positive.T @ positive, known.T @ positive
    with np.errstate(invalid="ignore"):
        share = np.where(base > 0, together / base, np.nan)
    return CoOccurrence(together.astype(np.int64), share)


def findings_per_film(labels: Labels) -> dict[int, int]:
    """Number of findings shown → films, over films labelled for at least one finding; [N, F]."""
    shown = (labels == 1).sum(1)[~np.isnan(labels).all(1)]
    return {number: int(films) for number, films in enumerate(np.bincount(shown)) if films or number == 0}
