"""One epoch of training: its steps in order, and what a step does.

Reads: a worker's batches. Changes: the model, its average, the optimizer, the step count.
"""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.model.freeze import freeze, train_mode
from ray_cxr.stream.augment_device import on_device
from ray_cxr.stream.collate import Batch
from ray_cxr.stream.plan import EpochPlan
from ray_cxr.train.optimizer import set_learning_rate
from ray_cxr.train.schedule import learning_rate_factor
from ray_cxr.train.session import Session


def freeze_for(s: Session, epoch: int) -> None:
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


def train_epoch(s: Session, plan: EpochPlan) -> float:
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
        loss = train_step(s, plan, step, batch)
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


def train_step(s: Session, plan: EpochPlan, step: int, batch: Batch) -> float:
    """One optimizer step: forward and backward of the micro-batches, clip, finite check, step. Gives the loss."""
    all_rows = s.train_stream.layout.rows[plan.step_positions(step)]
    labelled = torch.from_numpy((~np.isnan(s.labels[all_rows])).sum(0)).to(s.worker.device)
    s.optimizer.zero_grad(set_to_none=True)
    loss = backward(s, batch, labelled)
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
    if s.average is not None:
        s.average.update(s.model, step=s.state.step + 1)
    return float(loss)


def backward(s: Session, batch: Batch, labelled: Tensor) -> Tensor:
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
