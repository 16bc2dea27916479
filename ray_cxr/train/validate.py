"""After an epoch: scores the validation split, keeps the model, gives the epoch's line of the history.

Reads: the validation shards. Writes: `best/`, `predictions-validation.parquet`, `metrics.json`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ray_cxr.axes import Labels, Rows
from ray_cxr.metrics import metrics_by_finding
from ray_cxr.model.calibration import fit_calibration, probabilities
from ray_cxr.model.saved import ModelCard, save_model
from ray_cxr.stream.plan import EpochPlan
from ray_cxr.stream.resample import exposure
from ray_cxr.train.checkpoint import EpochSoFar
from ray_cxr.train.optimizer import learning_rate
from ray_cxr.train.run import predictions_frame, split_metrics, write_predictions
from ray_cxr.train.scoring import score_split
from ray_cxr.train.session import Session


def validate(s: Session, plan: EpochPlan, trained: EpochSoFar) -> dict[str, Any] | None:
    """Scores the validation split; on rank 0 keeps the model and gives the line for the history."""
    started = time.perf_counter()
    s.worker.place.at("validation", plan.epoch, 0)
    if s.worker.world.size > 1:
        # Batch statistics are each rank's own; validation uses rank 0's everywhere.
        with s.worker.place.waiting():
            for buffer in s.judged.buffers():
                dist.broadcast(buffer, 0)
    retries = s.worker.total(s.train_stream.health.retries + s.validation_stream.health.retries)
    gathered = score_split(s.judged, s.validation_stream, s.worker, _tell(s, plan.epoch))
    if gathered is None:
        return None
    rows, logits = gathered
    s.worker.place.at("saving")
    labels = s.labels[rows]
    figures = metrics_by_finding(labels, probabilities(logits, None, s.findings), s.findings)
    better = figures["mean_auroc"] > s.state.best_auroc
    if better:
        s.state.best_epoch, s.state.best_auroc = plan.epoch, figures["mean_auroc"]
    if better or s.recipe.train.keep == "last":
        _keep(s, plan.epoch, figures["mean_auroc"], labels, logits, rows)
    line = _history_line(s, plan, trained, _split_loss(s, labels, logits), figures, better=better)
    line["storage_retries"] = retries
    line["seconds"]["validate"] = round(time.perf_counter() - started, 3)
    s.state.history.append(line)
    return line


def _tell(s: Session, epoch: int) -> Callable[[int], None]:
    """Reports how far validation is. Workers score equal parts, so that of rank 0 tells of all."""
    films, done = s.validation_stream.layout.films, 0

    def advance(scored: int) -> None:
        nonlocal done
        s.worker.place.at("validation")
        done = min(done + scored * s.worker.world.size, films)
        s.worker.report(
            {
                "kind": "validation",
                "epoch": epoch,
                "epochs": s.recipe.train.epochs,
                "films": done,
                "of": films,
            }
        )

    return advance


def _split_loss(s: Session, labels: Labels, logits: NDArray[np.float32]) -> float:
    targets = torch.from_numpy(labels).to(s.worker.device)
    labelled = (~torch.isnan(targets)).sum(0)
    return float(s.loss(torch.from_numpy(logits).to(s.worker.device), targets, labelled))


def _keep(
    s: Session, epoch: int, mean_auroc: float, labels: Labels, logits: NDArray[np.float32], rows: Rows
) -> None:
    """Writes `best/`, its calibration and its validation figures, in place of those of an epoch before."""
    resampling, trained = s.train_stream.resampling, s.train_stream.layout.rows
    shown = None if resampling is None else resampling.expected()
    weight = s.dataset.index["sampling_weight"].to_numpy(np.float64)
    shift = s.loss.shift(s.labels[trained], weight[trained], shown)
    calibration = fit_calibration(logits, labels, s.findings, shift, weight[rows])
    scores = probabilities(logits, calibration, s.findings)
    card = ModelCard(
        backbone=s.recipe.model.backbone,
        findings=s.findings,
        image_px=s.recipe.stream.image_px,
        stored_px=s.dataset.image_px,
        normalisation=s.model.normalisation,
        fingerprint=s.dataset.fingerprint,
        protocol=s.dataset.manifest["protocol"],
        epoch=epoch,
        mean_auroc=mean_auroc,
        calibration=calibration,
        weights=s.loaded.origin() if s.loaded is not None else None,
    )
    save_model(s.run / "best", s.judged, card)
    frame = predictions_frame(s.dataset, rows, s.findings, scores, labels)
    write_predictions(s.run, "predictions-validation.parquet", frame)
    metrics = split_metrics("validation", s.dataset, labels, scores, s.findings)
    kept = {"epoch": epoch, "keep": s.recipe.train.keep, "probabilities": "calibrated"}
    s.run.write_json("metrics.json", metrics | kept)


def _history_line(
    s: Session,
    plan: EpochPlan,
    trained: EpochSoFar,
    validation_loss: float,
    figures: dict[str, Any],
    *,
    better: bool,
) -> dict[str, Any]:
    layout = s.train_stream.layout
    patients = s.dataset.index["patient_id"].iloc[layout.rows]
    return {
        "epoch": plan.epoch,
        "step": s.state.step,
        "films": plan.films,
        "plan": plan.hash,
        "train_loss": trained.mean_loss,
        "skipped_steps": trained.skipped,
        "validation_loss": validation_loss,
        "mean_auroc": figures["mean_auroc"],
        "auroc": figures["auroc"],
        "average_precision": figures["average_precision"],
        "best": better,
        "learning_rate": learning_rate(s.optimizer),
        "freeze_depth": s.depth,
        "exposure": exposure(s.labels[layout.rows], patients, s.findings, plan.multiplicity(layout.films)),
        "images_per_s": round(plan.films / trained.train_s, 1),
        "seconds": {"train": round(trained.train_s, 3), "data_wait": round(trained.wait_s, 3)},
    }
