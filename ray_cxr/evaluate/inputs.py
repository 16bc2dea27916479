"""Scored films with their labels: what every figure is computed from, whether a run or somebody's files gave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.axes import Labels, Scores
from ray_cxr.labels.names import says_normal

SUBGROUP_COLUMNS = ("sex", "age", "view", "source", "scanner")
"""What films may be grouped by, where it is known; age in years."""


def in_means(findings: Sequence[str]) -> list[str]:
    """The findings that means are over: without those that say a film is normal ("No Finding"), where there are others."""
    return [f for f in findings if not says_normal(f)] or list(findings)


@dataclass(frozen=True)
class Scored:
    """Films of one split, in any order; the rows of all fields belong together.

    Holds ids of films and patients, which get into no report, log or error.
    """

    image_ids: NDArray[np.object_]
    """[N] text, each once."""
    patient_ids: NDArray[np.object_] | None
    """[N] text; None where patients are not known, so that intervals can only be image-level."""
    findings: list[str]
    labels: Labels
    """[N, F] 0, 1, NaN = not labelled (or not counted)."""
    scores: Scores
    """[N, F] float64, finite; higher = more likely. Probabilities only where `probabilities` says so."""
    weights: NDArray[np.float64] | None = None
    """[N] above 0: how many films of the natural population a film stands for; None where all count the same."""
    groups: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Those of SUBGROUP_COLUMNS that are known: text (age float), missing = unknown; N rows, or no column at all."""
    protocol: str | None = None
    """How the films were chosen (`official`, `sampled`, `custom`, `kfold`); None where nobody said."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Where the films come from and how columns were matched, in words, for the report. No ids."""
    rows: NDArray[np.int64] | None = None
    """[N] row of each film in the table of scores, the first row of data being 0; None = its number here."""

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def clustered(self) -> bool:
        """Whether intervals can be by patient."""
        return self.patient_ids is not None

    @property
    def units(self) -> NDArray[np.object_]:
        """[N] what the bootstrap draws: patients where they are known, else films."""
        return self.image_ids if self.patient_ids is None else self.patient_ids

    @property
    def patients(self) -> int | None:
        """How many patients; None where they are not known."""
        return None if self.patient_ids is None else len(pd.unique(self.patient_ids))

    @property
    def probabilities(self) -> bool:
        """Whether all scores lie in 0..1, without which calibration cannot be measured."""
        return bool(len(self) and self.scores.min() >= 0 and self.scores.max() <= 1)

    @property
    def in_means(self) -> list[str]:
        """The findings that means are over."""
        return in_means(self.findings)

    def column(self, finding: str) -> tuple[Labels, Scores]:
        """[N] labels and [N] scores of one finding."""
        number = self.findings.index(finding)
        return self.labels[:, number], self.scores[:, number]

    def only(self, films: NDArray[np.bool_] | NDArray[np.int64]) -> Scored:
        """Some of the films, by mask or number, in that order."""
        kept = np.arange(len(self))[films]
        return replace(
            self,
            image_ids=self.image_ids[kept],
            patient_ids=None if self.patient_ids is None else self.patient_ids[kept],
            labels=self.labels[kept],
            scores=self.scores[kept],
            weights=None if self.weights is None else self.weights[kept],
            groups=self.groups if self.groups.empty else self.groups.iloc[kept].reset_index(drop=True),
            rows=None if self.rows is None else self.rows[kept],
        )


def scored_from_index(
    index: pd.DataFrame, findings: Sequence[str], scores: Scores, protocol: str, origin: dict[str, Any]
) -> Scored:
    """From rows of a data set's index and the scores [N, F] of the same films."""
    weights = index["sampling_weight"].to_numpy(np.float64)
    known = [c for c in SUBGROUP_COLUMNS if c in index and index[c].notna().any()]
    return Scored(
        index["image_id"].to_numpy(object),
        index["patient_id"].to_numpy(object),
        list(findings),
        index[list(findings)].to_numpy(np.float32),
        scores,
        None if np.all(weights == weights[:1]) else weights,
        index[known].reset_index(drop=True),
        protocol,
        origin,
    )
