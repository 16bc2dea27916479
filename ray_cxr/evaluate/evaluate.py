"""`evaluate RUN`: scores the test split with the best model of a run.

Reads: `config.yaml`, `best/`, `predictions-validation.parquet`, the data set's test shards. Writes:
`predictions-test.parquet`, `metrics.json` (`"split": "test"`; the validation figures stay in `metrics-validation.json`) and
`test-openings.json`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml

from ray_cxr.axes import Rows, Scores
from ray_cxr.cores import usable_cores
from ray_cxr.errors import InputError, RefusedError
from ray_cxr.evaluate.figures import Choices, Measured, measure
from ray_cxr.evaluate.inputs import Scored, scored_from_index
from ray_cxr.evaluate.misses import Miss, worst_misses
from ray_cxr.evaluate.protocol import dataset_protocol
from ray_cxr.evaluate.thumbnails import thumbnails
from ray_cxr.model.calibration import probabilities
from ray_cxr.model.saved import ModelCard, load_model
from ray_cxr.parquet import read_frame
from ray_cxr.shards.dataset import Dataset, check_findings, open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream
from ray_cxr.train.run import predictions_frame, write_predictions
from ray_cxr.train.scoring import score_split
from ray_cxr.train.worker import Worker

OPENINGS = "test-openings.json"
_SCORING_BATCH = 64
_CALIBRATED = "raw scores were asked for, and the run's validation films were scored with the calibration"


@dataclass(frozen=True)
class Evaluation:
    """What the test gave. rows: [N] of the index, of the films of `scored`. pictures: PNG of the films of `misses`, by film."""

    metrics: dict[str, Any]
    measured: Measured
    scored: Scored
    rows: Rows
    misses: list[Miss]
    pictures: dict[int, bytes]
    card: ModelCard
    dataset: Dataset


def evaluate_run(
    run: Folder,
    dataset_url: str | None,
    start: Callable[[str, int], None],
    advance: Callable[[int], None],
    choices: Choices | None = None,
    *,
    raw: bool = False,
    with_pictures: bool = False,
) -> Evaluation:
    """Opens the test split of the run's data set (or of `dataset_url`, where it has moved) and scores it.

    raw: the sigmoid of the logits as they are, without the model's calibration.
    Raises InputError (no run, no data set) and RefusedError (another data set, a damaged model, a leak).
    """
    config = read_config(run)
    run.check_writable()
    model, card = load_model(run / "best")
    dataset = open_dataset(dataset_url or config["dataset"], ("test",), config.get("fold"))
    if dataset.fingerprint != card.fingerprint:
        raise RefusedError(
            f"the data set {dataset.folder} is not the one that this model was trained on (another fingerprint), so "
            "its test films may have been training films; give the data set of the run with --dataset."
        )
    findings = check_findings(dataset, card.findings)
    settings = StreamSettings(image_px=card.image_px, augmentation="none", batch_size=_SCORING_BATCH)
    threads = usable_cores()
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stream = Stream.open(dataset, "test", settings, seed=0, threads=threads)
    openings = _count_opening(run, dataset)
    start("test films", stream.layout.films)
    found = score_split(model.to(device), stream, Worker(device=device, threads=threads), advance)
    assert found is not None
    rows, logits = found
    calibration = None if raw else card.calibration
    scored = _scored(dataset, rows, findings, probabilities(logits, calibration, findings))
    validation = _CALIBRATED if raw and card.calibration is not None else _validation(run, dataset)
    measured = measure(scored, validation, choices or Choices())
    metrics = measured.metrics | {
        "fingerprint": dataset.fingerprint, "epoch": card.epoch, "test_openings": openings,
        "probabilities": "raw" if calibration is None else "calibrated",
        "protocol_details": dataset_protocol(dataset.manifest),
        "leak": dataset.manifest["leak_check"],
    }  # fmt: skip
    frame = predictions_frame(dataset, rows, findings, scored.scores, scored.labels)
    write_predictions(run, "predictions-test.parquet", frame)
    _keep_validation_metrics(run)
    run.write_json("metrics.json", metrics)
    misses = worst_misses(scored)
    pictures = thumbnails(stream, rows, [m.film for m in misses]) if with_pictures else {}
    return Evaluation(metrics, measured, scored, rows, misses, pictures, card, dataset)


def _scored(dataset: Dataset, rows: Rows, findings: list[str], scores: Scores) -> Scored:
    origin = {"films": len(rows), "patients_from": "the data set", "joined_by": "rows of the data set"}
    return scored_from_index(
        dataset.index.iloc[rows], findings, scores, str(dataset.manifest["protocol"]), origin
    )


def _validation(run: Folder, dataset: Dataset) -> Scored | str:
    """The validation films of the run, on which its thresholds are chosen, or why there are none."""
    if not run.exists("predictions-validation.parquet"):
        return (
            "the run holds no predictions-validation.parquet, so there are no films to choose thresholds on"
        )
    name = "predictions-validation.parquet"
    frame = read_frame(run.read_bytes(name), f"{run}/{name}")
    findings = [c.removeprefix("prob_") for c in frame.columns if c.startswith("prob_")]
    return Scored(
        frame["image_id"].to_numpy(object),
        frame["patient_id"].to_numpy(object),
        findings,
        frame[[f"label_{f}" for f in findings]].to_numpy(np.float32),
        frame[[f"prob_{f}" for f in findings]].to_numpy(np.float64),
        protocol=str(dataset.manifest["protocol"]),
    )


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
