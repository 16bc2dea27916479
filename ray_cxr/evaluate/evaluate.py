"""`evaluate RUN`: scores the test split with the best model of a run.

Reads: `config.yaml`, `best/`, the data set's test shards. Writes: `predictions-test.parquet`, `metrics.json`
(`"split": "test"`; the validation figures stay in `metrics-validation.json`) and `test-openings.json`.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError, RefusedError
from ray_cxr.model.calibration import probabilities
from ray_cxr.model.saved import ModelCard, load_model
from ray_cxr.shards.dataset import Dataset, check_findings, open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream
from ray_cxr.train.run import predictions_frame, split_metrics, write_predictions
from ray_cxr.train.scoring import score_split
from ray_cxr.train.worker import Worker

OPENINGS = "test-openings.json"
_SCORING_BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """What the test gave: metrics as in `metrics.json`, labels and probabilities [N, F] of the test films."""

    metrics: dict[str, Any]
    card: ModelCard
    dataset: Dataset
    labels: Labels
    scores: NDArray[np.float64]


def evaluate_run(
    run: Folder,
    dataset_url: str | None,
    start: Callable[[str, int], None],
    advance: Callable[[int], None],
    *,
    raw: bool = False,
) -> Evaluation:
    """Opens the test split of the run's data set (or of `dataset_url`, where it has moved) and scores it.

    raw: the sigmoid of the logits as they are, without the model's calibration.
    Raises InputError (no run, no data set) and RefusedError (another data set, a damaged model, a leak).
    """
    config = read_config(run)
    run.check_writable()
    model, card = load_model(run / "best")
    dataset = open_dataset(dataset_url or config["dataset"], ("test",))
    if dataset.fingerprint != card.fingerprint:
        raise RefusedError(
            f"the data set {dataset.folder} is not the one that this model was trained on (another fingerprint), so "
            "its test films may have been training films; give the data set of the run with --dataset."
        )
    findings = check_findings(dataset, card.findings)
    settings = StreamSettings(image_px=card.image_px, augmentation="none", batch_size=_SCORING_BATCH)
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stream = Stream.open(dataset, "test", settings, seed=0, threads=threads)
    openings = _count_opening(run, dataset)
    start("test films", stream.layout.films)
    scored = score_split(model.to(device), stream, Worker(device=device, threads=threads), advance)
    assert scored is not None
    rows, logits = scored
    labels = dataset.labels(findings)[rows]
    calibration = None if raw else card.calibration
    scores = probabilities(logits, calibration, findings)
    metrics = split_metrics("test", dataset, labels, scores, findings)
    metrics |= {"patients": int(dataset.index["patient_id"].iloc[rows].nunique())}
    metrics |= {"epoch": card.epoch, "test_openings": openings}
    metrics |= {"probabilities": "raw" if calibration is None else "calibrated"}
    write_predictions(
        run, "predictions-test.parquet", predictions_frame(dataset, rows, findings, scores, labels)
    )
    _keep_validation_metrics(run)
    run.write_json("metrics.json", metrics)
    return Evaluation(metrics, card, dataset, labels, scores)


def read_config(run: Folder) -> dict[str, Any]:
    """The settings that the run was made with. InputError where this is no run."""
    if not run.exists("config.yaml") or not (run / "best").exists("model.json"):
        raise InputError(
            f"RUN: {run} holds no trained run (no config.yaml or best/); give the `out` of a training."
        )
    config = yaml.safe_load(run.read_bytes("config.yaml"))
    if not isinstance(config, dict) or "dataset" not in config:
        raise InputError(f"RUN: {run}/config.yaml does not name a data set; give it with --dataset.")
    return config


def _count_opening(run: Folder, dataset: Dataset) -> int:
    """Written before the first test film is read: an opening that fails later has been one all the same."""
    before: list[dict[str, Any]] = run.read_json(OPENINGS)["openings"] if run.exists(OPENINGS) else []
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    openings = [*before, {"time": now, "fingerprint": dataset.fingerprint}]
    run.write_json(OPENINGS, {"count": len(openings), "openings": openings})
    return len(openings)


def _keep_validation_metrics(run: Folder) -> None:
    if run.exists("metrics.json") and run.read_json("metrics.json").get("split") == "validation":
        run.write_bytes("metrics-validation.json", run.read_bytes("metrics.json"))
