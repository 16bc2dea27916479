"""What a report is made from, as evaluation and the run directory give it, and what follows from it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_cxr.evaluate.bands import Band
from ray_cxr.evaluate.misses import Miss


@dataclass(frozen=True)
class ShownMiss:
    """A film that the model got badly wrong, by number; png: its picture, None where nobody asked for one."""

    miss: Miss
    number: int
    png: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a report of any test rests on. Holds no patient id and no image id, so that none can get into the page."""

    title: str
    metrics: dict[str, Any]
    """`metrics.json` of the test split; a null figure = not measurable."""
    findings: list[str]
    labels: NDArray[np.float32]
    """[N, F] of the test films: 0, 1, NaN = not labelled."""
    scores: NDArray[np.float64]
    """[N, F] probabilities, 0..1, or any numbers that rank."""
    bands: dict[str, tuple[Band, Band]]
    """Bands of the ROC and the precision-recall curve of the findings that have them."""
    misses: list[ShownMiss]
    """The worst misses, those of each kind together."""
    film_is: str
    """What the number of a film counts, such as "row of index.parquet, from 0"."""
    environment: dict[str, Any]
    """Versions and hardware: of the training, or without a run of the test."""

    @property
    def test_patients(self) -> int | None:
        """Patients of the test films; None where they are not known."""
        patients = self.metrics["patients"]
        return None if patients is None else int(patients)

    @property
    def protocol(self) -> str:
        """How the test films were chosen, and who says so where it is not the data set."""
        stated = self.metrics["protocol"]
        by = (self.metrics.get("protocol_details") or {}).get("protocol_stated_by")
        return f"{stated or 'not stated'}, as stated by {by}" if by else stated or "not stated"

    def measured(self, metric: str) -> dict[str, float]:
        """The findings that have a figure of this metric ("auroc", "average_precision")."""
        figures = self.metrics[metric]
        return {f: float(figures[f]) for f in self.findings if is_known(figures.get(f))}

    def unmeasurable(self) -> dict[str, str]:
        """Finding → why it has no AUROC, in words."""
        measured = self.measured("auroc")
        return {f: self._reason(f) for f in self.findings if f not in measured}

    def _reason(self, finding: str) -> str:
        positives, labelled = self.metrics["positives"][finding], self.metrics["labelled"][finding]
        if labelled == 0:
            return "no test film is labelled for it"
        if positives == 0:
            return "no positive test film"
        if positives == labelled:
            return "no negative test film"
        return "the evaluation gave no figure"


@dataclass(frozen=True, kw_only=True)
class ReportContents(Contents):
    """What a report of a run rests on besides."""

    history: list[dict[str, Any]]
    """The lines of `history.jsonl`, one an epoch; empty where the run kept none."""
    manifest: dict[str, Any]
    """`manifest.json` of the data set."""
    model: dict[str, Any]
    """`model.json`: the model that was tested."""
    config_yaml: str
    """The effective settings of the run."""


def is_known(value: float | None) -> bool:
    """False for the null and the NaN of a figure that could not be measured."""
    return value is not None and not math.isnan(value)
