"""The training loop: one, for every number of workers, with its steps in order.

Reads: a prepared data set's training and validation splits; never the test split. Writes: the run directory.
"""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.loss.multitask import MultitaskLoss
from ray_cxr.metrics import metrics_by_finding
from ray_cxr.model.build import ChestModel, build_model, resolve_normalisation
from ray_cxr.model.calibration import fit_calibration, probabilities
from ray_cxr.model.freeze import Depth, freeze, train_mode
from ray_cxr.model.saved import ModelCard, save_model
from ray_cxr.model.weights import Loaded, load_weights
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.augment_device import on_device
from ray_cxr.stream.collate import Batch
from ray_cxr.stream.plan import EpochPlan
from ray_cxr.stream.resample import exposure
from ray_cxr.stream.stream import Stream
from ray_cxr.train.checkpoint import TrainState, load_checkpoint, save_checkpoint
from ray_cxr.train.findings import trained_findings, training_loss
from ray_cxr.train.optimizer import build_optimizer, set_learning_rate
from ray_cxr.train.run import (
    environment,
    predictions_frame,
    split_metrics,
    write_history,
    write_predictions,
)
from ray_cxr.train.schedule import learning_rate_factor
from ray_cxr.train.scoring import score_split
from ray_cxr.train.settings import Recipe
from ray_cxr.train.worker import Worker


@dataclass
class Session:
    """Everything of one worker's training, made by `open_session`."""

    recipe: Recipe
    worker: Worker
    run: Folder
    dataset: Dataset
    findings: list[str]
    labels: Labels
    model: ChestModel
    ddp: nn.Module
    optimizer: Optimizer
    loss: MultitaskLoss
    train_stream: Stream
    validation_stream: Stream
    state: TrainState
    loaded: Loaded | None
    epoch_times: dict[str, float] = field(default_factory=dict)
    depth: Depth | None = None
    """The freeze depth in effect; None before the first epoch."""
    learning_rate: float = 0.0


def train(recipe: Recipe, worker: Worker) -> None:
    """Trains to the last epoch, going on from the newest whole checkpoint in `recipe.out`."""
    s = open_session(recipe, worker)
    if worker.is_first and s.state.history:
        # A kill between the last checkpoint and its line would leave the file a line short for ever.
        write_history(s.run, s.state.history)
    for epoch in range(s.state.epoch + 1, recipe.train.epochs + 1):
        torch.manual_seed(hash((recipe.seed, epoch, worker.world.rank)) % 2**63)
        _freeze_for(s, epoch)
        plan = s.train_stream.plan(epoch)
        train_loss = _train_epoch(s, plan)
        line = _validate(s, plan, train_loss)
        if line is not None:
            started = time.perf_counter()
            save_checkpoint(s.run / "checkpoints", s.model.network, s.optimizer, s.state)
            line["seconds"]["checkpoint"] = round(time.perf_counter() - started, 3)
            write_history(s.run, s.state.history)
            worker.report({"kind": "epoch", "epochs": recipe.train.epochs, **line})
        worker.barrier()
    s.train_stream.close()
    s.validation_stream.close()


def open_session(recipe: Recipe, worker: Worker) -> Session:
    """Data set, model, loss and optimizer, restored where there is a checkpoint. Raises InputError, RefusedError."""
    torch.set_num_threads(worker.threads)
    dataset = open_dataset(recipe.dataset, ("train", "validation"))
    findings, dropped = trained_findings(dataset, recipe)
    labels = dataset.labels(findings)
    model, loaded = build_classifier(recipe, dataset, findings)
    model.to(worker.device)
    notes = [dropped] if dropped else []
    notes += _weights_notes(loaded, dataset) if loaded is not None else []
    optimizer = build_optimizer(model, recipe.model, recipe.train)
    run = Folder(recipe.out)
    state, damaged = load_checkpoint(run / "checkpoints", model.network, optimizer)
    for note in notes + damaged:
        worker.report({"kind": "note", "text": note})
    train_stream, validation_stream = (
        Stream.open(
            dataset,
            split,
            recipe.stream,
            seed=recipe.seed,
            world=worker.world,
            threads=worker.threads,
            reader=worker.reader,
            findings=findings,
            gpu=worker.device.type == "cuda",
        )
        for split in ("train", "validation")
    )
    trained = labels[train_stream.layout.rows]
    loss = training_loss(recipe, trained, findings, train_stream.resampling)
    if worker.is_first:
        machine = environment(worker.world.size, worker.device, worker.threads)
        origin = loaded.as_dict() if loaded is not None else None
        run.write_json("environment.json", machine | {"weights": origin})
    return Session(
        recipe, worker, run, dataset, findings, labels, model, model, optimizer, loss.to(worker.device),
        train_stream, validation_stream, state or TrainState(dataset.fingerprint, findings), loaded,
    )  # fmt: skip


def build_classifier(
    recipe: Recipe, dataset: Dataset, findings: list[str]
) -> tuple[ChestModel, Loaded | None]:
    """The model as training starts with it, and what came from its weights (None where they are fresh)."""
    torch.manual_seed(recipe.seed)
    backbone = recipe.model.backbone
    normalisation = resolve_normalisation(
        recipe.stream.normalisation, backbone, dataset.manifest["pixel_statistics"]
    )
    model = build_model(backbone, len(findings), recipe.stream.image_px, normalisation)
    loaded = load_weights(model, recipe.model.weights, backbone, findings)
    for epoch, depth in recipe.model.unfreeze.items():
        freeze(model, depth, backbone, f"model.unfreeze.{epoch}")
    freeze(model, recipe.model.freeze_depth, backbone)
    return model, loaded


def _weights_notes(loaded: Loaded, dataset: Dataset) -> list[str]:
    """What came from the weights, and a warning where our leak check cannot reach."""
    notes = [loaded.sentence()]
    if loaded.trained_on not in (None, dataset.fingerprint):
        notes.append(
            "model.weights: that run was trained on another data set; the test figures hold only if none of its training "
            "patients is among these test films (ray-cxr audit compares two sets)"
        )
    return notes


def _freeze_for(s: Session, epoch: int) -> None:
    """Freezes what this epoch freezes. DDP keeps to the parameters that it was made with, so it is made anew."""
    depth = s.recipe.model.depth_at(epoch)
    if depth == s.depth:
        return
    frozen = freeze(s.model, depth, s.recipe.model.backbone)
    if s.depth is not None:
        trained = sum(p.numel() for p in s.model.parameters()) - frozen
        text = f"epoch {epoch}: freeze_depth is now {depth}, {trained:,} parameters are trained"
        s.worker.report({"kind": "note", "text": text})
    s.depth, s.ddp = depth, s.model
    if s.worker.world.size > 1:
        # The old wrapper lies in a cycle of references, and its hooks stay on the parameters until it is collected.
        gc.collect()
        s.ddp = DistributedDataParallel(s.model)


def _train_epoch(s: Session, plan: EpochPlan) -> float:
    """One pass over the plan; gives the mean loss of a step, over all workers."""
    started, waited, loss_sum = time.perf_counter(), 0.0, 0.0
    train_mode(s.ddp)
    warmup = round(s.recipe.train.warmup_epochs * plan.steps)
    total = s.recipe.train.epochs * plan.steps
    batches = s.train_stream.train(plan)
    for step in range(plan.steps):
        mark = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - mark
        s.learning_rate = s.recipe.train.learning_rate * learning_rate_factor(s.state.step, warmup, total)
        set_learning_rate(s.optimizer, s.learning_rate)
        loss = _step(s, plan, step, batch)
        s.state.step += 1
        loss_sum += loss
        films = min((step + 1) * plan.batch_size, plan.films)
        s.worker.report(
            {"kind": "step", "epoch": plan.epoch, "step": step + 1, "steps": plan.steps, "loss": loss,
             "images_per_s": films / (time.perf_counter() - started)}
        )  # fmt: skip
    s.state.epoch, s.state.plan_hash = plan.epoch, plan.hash
    s.epoch_times = {"train": time.perf_counter() - started, "data_wait": waited}
    return loss_sum / plan.steps


def _step(s: Session, plan: EpochPlan, step: int, batch: Batch) -> float:
    """One optimizer step: forward and backward of the micro-batches, clip, finite check, step. Gives the loss."""
    all_rows = s.train_stream.layout.rows[plan.step_positions(step)]
    labelled = torch.from_numpy((~np.isnan(s.labels[all_rows])).sum(0)).to(s.worker.device)
    s.optimizer.zero_grad(set_to_none=True)
    loss = _backward(s, batch, labelled)
    if s.recipe.train.clip_norm is not None:
        trained = [p for p in s.model.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(trained, s.recipe.train.clip_norm)
    if s.worker.world.size > 1:
        dist.all_reduce(loss)
    if not torch.isfinite(loss):
        raise RayCxrError(
            f"the loss became {loss.item()} in epoch {plan.epoch}, step {step + 1} (index rows "
            f"{', '.join(map(str, np.sort(all_rows)))}); use a smaller train.learning_rate, or look at these films."
        )
    s.optimizer.step()
    return float(loss)


def _backward(s: Session, batch: Batch, labelled: Tensor) -> Tensor:
    """Accumulates the gradient of a rank's films; gives its part of the step's loss.

    DDP averages over ranks where the loss is a sum over them, hence the factor world size.
    """
    if not len(batch.rows):
        return _backward_without_films(s)
    total = torch.zeros((), device=s.worker.device)
    parts = [p for p in np.array_split(np.arange(len(batch.rows)), s.recipe.train.accumulate) if len(p)]
    for number, part in enumerate(parts):
        pixels = on_device(batch.of(part), s.recipe.stream.image_px, s.worker.device)
        targets = torch.from_numpy(s.labels[batch.rows[part]]).to(s.worker.device, non_blocking=True)
        last = number == len(parts) - 1
        with nullcontext() if last or s.worker.world.size == 1 else s.ddp.no_sync():  # type: ignore[operator]
            loss = s.loss(_forward(s, pixels), targets, labelled)
            (loss * s.worker.world.size).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _forward(s: Session, pixels: Tensor) -> Tensor:
    try:
        logits: Tensor = s.ddp(pixels)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"stream.batch_size: a step of {s.recipe.stream.batch_size} films leaves one film to a worker or "
            "micro-batch, and BatchNorm cannot tell anything from one; use a larger batch, fewer train.workers, a "
            "smaller train.accumulate, or a larger stream.image_px."
        ) from None
    return logits


def _backward_without_films(s: Session) -> Tensor:
    """A rank that the last step leaves without films still takes part in the all-reduce, with a zero gradient.

    In evaluation mode, so that the blank film leaves no trace in batch statistics.
    """
    s.ddp.eval()
    blank = torch.zeros(1, s.recipe.stream.image_px, s.recipe.stream.image_px, dtype=torch.uint8)
    (s.ddp(blank.to(s.worker.device)).sum() * 0.0).backward()
    train_mode(s.ddp)
    return torch.zeros((), device=s.worker.device)


def _validate(s: Session, plan: EpochPlan, train_loss: float) -> dict[str, Any] | None:
    """Scores the validation split; on rank 0 keeps the best model and gives the line for the history."""
    started = time.perf_counter()
    if s.worker.world.size > 1:
        # Batch statistics are each rank's own until the next forward pass; validation uses rank 0's everywhere.
        for buffer in s.model.buffers():
            dist.broadcast(buffer, 0)
    gathered = score_split(s.model, s.validation_stream, s.worker)
    if gathered is None:
        return None
    rows, logits = gathered
    labels = s.labels[rows]
    figures = metrics_by_finding(labels, probabilities(logits, None, s.findings), s.findings)
    better = figures["mean_auroc"] > s.state.best_auroc
    if better:
        s.state.best_epoch, s.state.best_auroc = plan.epoch, figures["mean_auroc"]
        _keep_best(s, labels, logits, rows)
    s.epoch_times["validate"] = time.perf_counter() - started
    line = _history_line(s, plan, train_loss, _split_loss(s, labels, logits), figures, better=better)
    s.state.history.append(line)
    return line


def _split_loss(s: Session, labels: Labels, logits: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    targets = torch.from_numpy(labels).to(s.worker.device)
    labelled = (~torch.isnan(targets)).sum(0)
    return float(s.loss(torch.from_numpy(logits).to(s.worker.device), targets, labelled))


def _keep_best(s: Session, labels: Labels, logits: np.ndarray[Any, np.dtype[np.float32]], rows: Any) -> None:
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
        epoch=s.state.best_epoch,
        mean_auroc=s.state.best_auroc,
        calibration=calibration,
        weights=s.loaded.origin() if s.loaded is not None else None,
    )
    save_model(s.run / "best", s.model, card)
    frame = predictions_frame(s.dataset, rows, s.findings, scores, labels)
    write_predictions(s.run, "predictions-validation.parquet", frame)
    metrics = split_metrics("validation", s.dataset, labels, scores, s.findings)
    s.run.write_json("metrics.json", metrics | {"epoch": s.state.best_epoch, "probabilities": "calibrated"})


def _history_line(
    s: Session,
    plan: EpochPlan,
    train_loss: float,
    validation_loss: float,
    figures: dict[str, Any],
    *,
    better: bool,
) -> dict[str, Any]:
    layout = s.train_stream.layout
    patients = s.dataset.index["patient_id"].iloc[layout.rows].tolist()
    return {
        "epoch": plan.epoch,
        "step": s.state.step,
        "films": plan.films,
        "plan": plan.hash,
        "train_loss": train_loss,
        "validation_loss": validation_loss,
        "mean_auroc": figures["mean_auroc"],
        "auroc": figures["auroc"],
        "best": better,
        "learning_rate": s.learning_rate,
        "freeze_depth": s.depth,
        "exposure": exposure(s.labels[layout.rows], patients, s.findings, plan.multiplicity(layout.films)),
        "storage_retries": s.train_stream.health.retries,
        "images_per_s": round(plan.films / s.epoch_times["train"], 1),
        "seconds": {name: round(value, 3) for name, value in s.epoch_times.items()},
    }
