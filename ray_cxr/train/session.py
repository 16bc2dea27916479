"""All that one worker needs to train: data set, model, optimizer, loss, streams, and where it stands.

Reads: the data set's index and manifest, the weights to start from, the newest whole checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.optim import Optimizer

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError, RefusedError
from ray_cxr.loss.multitask import MultitaskLoss
from ray_cxr.model.build import ChestModel, build_model, resolve_normalisation
from ray_cxr.model.freeze import Depth, freeze
from ray_cxr.model.weights import Loaded, load_weights
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.stream import Stream
from ray_cxr.torch_compat import timm
from ray_cxr.train.average import build_average
from ray_cxr.train.batch_norm import synchronise
from ray_cxr.train.checkpoint import TrainState, load_checkpoint, take_snapshot
from ray_cxr.train.findings import trained_findings, training_loss
from ray_cxr.train.optimizer import build_optimizer
from ray_cxr.train.run import environment
from ray_cxr.train.saver import Saver
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
    average: timm.utils.ModelEmaV3 | None
    """The running mean of the weights, where `train.ema_decay` asks for it."""
    optimizer: Optimizer
    loss: MultitaskLoss
    train_stream: Stream
    validation_stream: Stream
    state: TrainState
    loaded: Loaded | None
    saver: Saver
    scaler: torch.amp.GradScaler
    """Scales the loss so that gradients of `fp16` do not vanish; does nothing for other precisions."""
    synced_norms: bool = False
    """Whether norms see the films of all workers, and so wait for them."""
    depth: Depth | None = None
    """The freeze depth in effect; None before the first epoch."""

    @property
    def judged(self) -> ChestModel:
        """The model that is validated and kept: the average of the weights where there is one."""
        return self.model if self.average is None else cast(ChestModel, self.average.module)

    def save(self) -> None:
        """Rank 0 begins to write a checkpoint of this moment."""
        if self.worker.is_first:
            self.worker.place.at("saving")
            average = None if self.average is None else self.judged.network
            self.state.scaler = self.scaler.state_dict()
            self.saver.save(lambda: take_snapshot(self.model.network, self.optimizer, self.state, average))

    def close(self) -> None:
        """Lets a checkpoint that is being written become whole; gives back what is shared with others."""
        self.saver.close()
        self.train_stream.close()
        self.validation_stream.close()


def open_session(recipe: Recipe, worker: Worker) -> Session:
    """Data set, model, loss and optimizer, restored where there is a checkpoint. Raises InputError, RefusedError."""
    torch.set_num_threads(worker.threads)
    refuse_precision(recipe, worker.device)
    dataset = open_dataset(recipe.dataset, ("train", "validation"), recipe.fold)
    findings, dropped = trained_findings(dataset, recipe)
    labels = dataset.labels(findings)
    model, loaded = build_classifier(recipe, dataset, findings)
    model.to(worker.device)
    synced = (
        recipe.train.sync_batchnorm
        and worker.world.size > 1
        and synchronise(model.network, recipe.model.backbone) > 0
    )
    if wants_channels_last(recipe, worker.device):
        model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    notes = [dropped] if dropped else []
    notes += _weights_notes(loaded, dataset) if loaded is not None else []
    optimizer = build_optimizer(model, recipe.model, recipe.train)
    average = build_average(model, recipe.train.ema_decay)
    run = Folder(recipe.out)
    averaged = None if average is None else average.module.network
    state, damaged = load_checkpoint(run / "checkpoints", model.network, optimizer, averaged)
    if damaged and state is None:
        damaged.append("no whole checkpoint is left: training begins anew")
    for note in notes + damaged:
        worker.report({"kind": "note", "text": note})
    train_stream = _open_stream("train", dataset, recipe, worker, findings)
    validation_stream = _open_stream("validation", dataset, recipe, worker, findings)
    scaler = torch.amp.GradScaler(worker.device.type, enabled=recipe.train.precision == "fp16")
    if state is not None:
        _refuse_other_plan(state, train_stream)
        scaler.load_state_dict(state.scaler)
    trained = labels[train_stream.layout.rows]
    loss = training_loss(recipe, trained, findings, train_stream.resampling)
    if worker.is_first:
        machine = environment(worker.world.size, worker.device, worker.threads)
        origin = loaded.as_dict() if loaded is not None else None
        run.write_json("environment.json", machine | {"weights": origin})
    return Session(
        recipe, worker, run, dataset, findings, labels, model, model, average, optimizer, loss.to(worker.device),
        train_stream, validation_stream, state or TrainState(dataset.fingerprint, findings), loaded,
        Saver(run / "checkpoints"), scaler, synced,
    )  # fmt: skip


def _open_stream(split: str, dataset: Dataset, recipe: Recipe, worker: Worker, findings: list[str]) -> Stream:
    return Stream.open(
        dataset, split, recipe.stream, seed=recipe.seed, findings=findings, world=worker.world,
        threads=worker.threads, reader=worker.reader, gpu=worker.device.type == "cuda",
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


def wants_channels_last(recipe: Recipe, device: torch.device) -> bool:
    """Whether pixels lie together by position: what the setting says, or by `auto` on the CPU (docs/decisions.md)."""
    asked = recipe.train.channels_last
    return device.type == "cpu" if asked == "auto" else asked


def refuse_precision(recipe: Recipe, device: torch.device) -> None:
    """Raises InputError where the device cannot train with this precision."""
    if recipe.train.precision == "fp16" and device.type == "cpu":
        raise InputError(
            "train.precision: got fp16, which trains on a GPU only; use bf16 or fp32, or train.gpu=true."
        )


def _refuse_other_plan(state: TrainState, stream: Stream) -> None:
    """What was trained, and what is left to train, must be of one order of films."""
    if state.plan_epoch and stream.plan(state.plan_epoch).hash != state.plan_hash:
        raise RefusedError(
            f"dataset: {stream.dataset.folder} has the films of the run's checkpoint, but epoch {state.plan_epoch} would now "
            "take them in another order (its shards were written with other settings, or by another version of ray_cxr); "
            "prepare it as it was, or give another out."
        )


def _weights_notes(loaded: Loaded, dataset: Dataset) -> list[str]:
    """What came from the weights, and a warning where our leak check cannot reach."""
    notes = [loaded.sentence()]
    if loaded.trained_on not in (None, dataset.fingerprint):
        notes.append(
            "model.weights: that run was trained on another data set; the test figures hold only if none of its training "
            "patients is among these test films (ray-cxr audit compares two sets)"
        )
    return notes
