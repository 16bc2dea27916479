"""What a report is made from, as evaluation and the run directory give it, and what follows from it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReportContents:
    """Everything a report rests on. Holds no patient id and no image id, so that none can get into the page."""

    title: str
    metrics: dict[str, Any]
    """`metrics.json` of the test split; a null figure = not measurable."""
    findings: list[str]
    labels: NDArray[np.float32]
    """[N, F] of the test films: 0, 1, NaN = not labelled."""
    scores: NDArray[np.float64]
    """[N, F] probabilities, 0..1."""
    history: list[dict[str, Any]]
    """The lines of `history.jsonl`, one an epoch; empty where the run kept none."""
    manifest: dict[str, Any]
    """`manifest.json` of the data set."""
    model: dict[str, Any]
    """`model.json`: the model that was tested."""
    config_yaml: str
    """The effective settings of the run."""
    environment: dict[str, Any]
    """Versions and hardware of the training."""

    @property
    def test_patients(self) -> int:
        """Patients of the test films."""
        return int(self.metrics.get("patients", self.manifest["splits"]["test"]["patients"]))

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


def is_known(value: float | None) -> bool:
    """False for the null and the NaN of a figure that could not be measured."""
    return value is not None and not math.isnan(value)
