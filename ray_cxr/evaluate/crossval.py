"""What a cross-validation is worth: figures of the films that each fold's model never saw.

Reads: the folds' runs and their out-of-fold predictions. Writes: `metrics.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_cxr.config import to_yaml
from ray_cxr.crossval.folds import TrainedFolds
from ray_cxr.evaluate.crossval_figures import cross_validation_metrics
from ray_cxr.evaluate.figures import Choices
from ray_cxr.evaluate.inputs import Scored, scored_from_index
from ray_cxr.storage import Folder


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation gave. metrics: contents of `metrics.json`. histories: lines of `history.jsonl` by fold."""

    metrics: dict[str, Any]
    scored: Scored
    histories: list[list[dict[str, Any]]]
    environment: dict[str, Any]
    manifest: dict[str, Any]
    config_yaml: str


def measure_folds(folds: TrainedFolds, choices: Choices | None = None) -> CrossValidation:
    """Figures by fold, over folds and of all films together, which are written; and what the report needs beside them."""
    scored = _scored(folds)
    fold_of = folds.predictions["fold"].to_numpy(np.int64)
    metrics = cross_validation_metrics(scored, fold_of, choices or Choices())
    for entry, run in zip(metrics["by_fold"], folds.runs, strict=True):
        card = (run.run / "best").read_json("model.json")
        entry |= {"epoch": card["epoch"], "fingerprint": run.dataset.fingerprint}
    leaks = [run.dataset.manifest["leak_check"] for run in folds.runs]
    metrics |= {
        "keep": folds.recipe.train.keep,
        "probabilities": "calibrated",
        "protocol": "kfold",
        "fingerprint": folds.dataset.fingerprint,
        "leak": next((leak for leak in leaks if not leak["clean"]), leaks[0]),
    }
    Folder(folds.recipe.out).write_json("metrics.json", metrics)
    return CrossValidation(
        metrics,
        scored,
        [_history(run.run) for run in folds.runs],
        folds.runs[0].run.read_json("environment.json"),
        folds.dataset.manifest,
        to_yaml(folds.recipe),
    )


def _scored(folds: TrainedFolds) -> Scored:
    scores = folds.predictions[[f"prob_{f}" for f in folds.findings]].to_numpy(np.float64)
    origin = {"films": len(folds.rows), "patients_from": "the data set", "joined_by": "rows of the data set"}
    return scored_from_index(folds.dataset.index.iloc[folds.rows], folds.findings, scores, "kfold", origin)


def _history(run: Folder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.read_bytes("history.jsonl").decode().splitlines()]
