"""One epoch of training: its steps in order, and what a step does.

Reads: a worker's batches. Changes: the model, its average, the optimizer, the step count.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ray_cxr.axes import Rows
from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.model.freeze import freeze, train_mode
from ray_cxr.stream.augment_device import on_device
from ray_cxr.stream.collate import Batch
from ray_cxr.stream.plan import EpochPlan
from ray_cxr.train.batch_norm import nothing_counted
from ray_cxr.train.checkpoint import EpochSoFar
from ray_cxr.train.schedule import build_schedule
from ray_cxr.train.session import Session

_AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def prepare_epoch(s: Session, epoch: int) -> None:
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
        with s.worker.place.waiting():
            s.ddp = ddp = DistributedDataParallel(s.model)
        # Rank 0's batch statistics are what counts, and no step reads them. Set here, and not before, they are equal at first.
        ddp.broadcast_buffers = False
        s.worker.place.watch_gradient_of(next(p for p in s.model.parameters() if p.requires_grad))
    if s.recipe.train.compile:
        s.ddp = torch.compile(s.ddp)  # type: ignore[assignment]


def train_epoch(s: Session, plan: EpochPlan) -> EpochSoFar:
    """What is left of the plan, all of it unless the epoch was interrupted; gives the sums over the whole epoch."""
    so_far, s.state.plan_hash, place = s.state.so_far, plan.hash, s.worker.place
    started, before_s, first = time.perf_counter(), so_far.train_s, so_far.steps
    train_mode(s.ddp)
    schedule = build_schedule(s.optimizer, s.recipe.train, plan.steps)
    batches = s.train_stream.train(plan, first, s.recipe.train.epochs)
    for step in range(first, plan.steps):
        mark = time.perf_counter()
        place.at("films", plan.epoch, step + 1)
        batch = next(batches)
        so_far.wait_s += time.perf_counter() - mark
        place.at("compute")
        # Drop-out draws by epoch and step, so that a resumed run draws what an undisturbed one would.
        torch.manual_seed(hash((s.recipe.seed, plan.epoch, step, s.worker.world.rank)) % 2**63)
        schedule.step_update(s.state.step)
        with _memory_sentence(s, plan, step):
            loss = train_step(s, plan, step, batch)
        place.at("telling")
        s.state.step += 1
        so_far.add(loss)
        trained_s = time.perf_counter() - started
        so_far.train_s = before_s + trained_s
        if loss is not None:
            s.worker.report(
                {"kind": "step", "epoch": plan.epoch, "step": step + 1, "steps": plan.steps, "loss": loss,
                 "images_per_s": _films(plan, first, step + 1) / trained_s,
                 "trained_steps": s.state.step, "wait_share": so_far.wait_s / so_far.train_s,
                 "epochs": s.recipe.train.epochs, "step_s": trained_s / (step + 1 - first)}
            )  # fmt: skip
        every = s.recipe.train.checkpoint_every_steps
        if every is not None and so_far.steps % every == 0 and so_far.steps < plan.steps:
            s.save()
    s.state.epoch, s.state.so_far = plan.epoch, EpochSoFar()
    return so_far


@contextmanager
def _memory_sentence(s: Session, plan: EpochPlan, step: int) -> Iterator[None]:
    """Says in a sentence that memory did not suffice; the dry run had more, or others took it since."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"stream.batch_size: memory did not suffice in epoch {plan.epoch}, step {step + 1}, though it did in the dry run; "
            f"leave more of it to this process, or use train.accumulate={2 * s.recipe.train.accumulate} (smaller "
            "micro-batches, the same gradient)."
        ) from None


def is_out_of_memory(error: RuntimeError) -> bool:
    """torch has a class of its own for a GPU; on the CPU its allocator and the C++ library have sentences."""
    sentences = ("allocate memory", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError) or any(s in str(error) for s in sentences)


def _films(plan: EpochPlan, first: int, end: int) -> int:
    """Films of the steps from the first to before the end."""
    return min(end * plan.batch_size, plan.films) - first * plan.batch_size


def train_step(s: Session, plan: EpochPlan, step: int, batch: Batch) -> float | None:
    """One optimizer step: forward and backward of the micro-batches, clip, finite check, step.

    Gives the loss, or None for a step that was skipped because loss or gradient were not finite.
    """
    all_rows = s.train_stream.layout.rows[plan.step_positions(step)]
    labelled = torch.from_numpy((~np.isnan(s.labels[all_rows])).sum(0)).to(s.worker.device)
    buffers = _buffers_to_go_back_to(s)
    s.optimizer.zero_grad(set_to_none=True)
    parts = plan.micro_batches(step, s.worker.world, s.recipe.train.accumulate)
    loss = backward(s, batch, parts, labelled)
    s.scaler.unscale_(s.optimizer)
    trained = [p for p in s.model.parameters() if p.requires_grad]
    norm = nn.utils.clip_grad_norm_(trained, s.recipe.train.clip_norm or math.inf)
    if s.worker.world.size > 1:
        dist.all_reduce(loss)
    # The scaler itself leaves out steps with an infinite gradient: that is how it finds its factor.
    finite = bool(torch.isfinite(loss) & (torch.isfinite(norm) | s.scaler.is_enabled()))
    if finite:
        s.scaler.step(s.optimizer)
    else:
        _stop_or_skip(s, plan, step, all_rows, float(loss), float(norm))
        for buffer, before in zip(s.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    s.scaler.update()
    if s.average is not None and finite:
        s.average.update(s.model, step=s.state.step + 1)
    return float(loss) if finite else None


def _buffers_to_go_back_to(s: Session) -> list[Tensor]:
    """Copies of the batch statistics, which a step that is skipped must not change; none where no step may be skipped."""
    return [b.clone() for b in s.model.buffers()] if s.recipe.train.on_nonfinite == "skip" else []


def _stop_or_skip(s: Session, plan: EpochPlan, step: int, rows: Rows, loss: float, norm: float) -> None:
    """Raises RayCxrError with epoch, step and index rows, unless `train.on_nonfinite` lets this step be skipped."""
    s.state.skipped += 1
    what = f"the loss became {loss}" if not math.isfinite(loss) else f"the gradient's norm became {norm}"
    where = f"{what} in epoch {plan.epoch}, step {step + 1} (index rows {', '.join(map(str, np.sort(rows)))})"
    if s.recipe.train.on_nonfinite == "stop":
        raise RayCxrError(f"{where}; use a smaller train.learning_rate, or look at these films.")
    if s.state.skipped > s.recipe.train.max_skipped:
        raise RayCxrError(
            f"{where}; train.max_skipped={s.recipe.train.max_skipped} steps were skipped before it, so training stops; use a "
            "smaller train.learning_rate, or look at these films."
        )
    s.worker.report({"kind": "note", "text": f"{where}; the step is skipped"})


def backward(s: Session, batch: Batch, parts: Sequence[Rows], labelled: Tensor) -> Tensor:
    """Accumulates the gradient of a rank's films over micro-batches; gives its part of the step's loss.

    DDP averages over ranks where the loss is a sum over them, hence the factor world size. Where a norm waits for all
    ranks, they go through all micro-batches together, also those that they have no film of.
    """
    total = torch.zeros((), device=s.worker.device)
    if not s.synced_norms:
        parts = [p for p in parts if len(p)] or parts[:1]
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        s.worker.place.at("compute")
        with nullcontext() if last or s.worker.world.size == 1 else s.ddp.no_sync():  # type: ignore[operator]
            total += _backward_part(s, batch.of(part), labelled) if len(part) else _backward_without_films(s)
    return total


def _backward_part(s: Session, batch: Batch, labelled: Tensor) -> Tensor:
    pixels = on_device(batch, s.recipe.stream.image_px, s.worker.device)
    targets = torch.from_numpy(s.labels[batch.rows]).to(s.worker.device, non_blocking=True)
    loss: Tensor = s.loss(forward(s, s.ddp, pixels), targets, labelled)
    s.scaler.scale(loss * s.worker.world.size).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def forward(s: Session, model: nn.Module, pixels: Tensor) -> Tensor:
    """Logits [B, F] of films [B, H, W] uint8, in the precision of the job. Raises InputError where one film meets BatchNorm."""
    precision = _AUTOCAST[s.recipe.train.precision]
    try:
        with torch.autocast(pixels.device.type, precision, enabled=precision != torch.float32):
            logits: Tensor = model(pixels)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"stream.batch_size: a step of {s.recipe.stream.batch_size} films leaves one film to a worker or "
            "micro-batch, and BatchNorm cannot tell anything from one; use a larger batch, fewer train.workers, a "
            "smaller train.accumulate, or a larger stream.image_px."
        ) from None
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(getattr(error, "inner_exception", error)).strip().splitlines()[0]
        raise InputError(
            f"train.compile: the model cannot be compiled on this machine ({reason}); use train.compile=false."
        ) from None
    return logits


def _backward_without_films(s: Session) -> Tensor:
    """A rank that the last step leaves without films still takes part in the all-reduce, with a zero gradient.

    The blank film leaves no trace in batch statistics: it comes in evaluation mode or, where norms wait for all ranks,
    uncounted.
    """
    if not s.synced_norms:
        s.ddp.eval()
    px = s.recipe.stream.image_px
    blank = torch.zeros(1, px, px, dtype=torch.uint8, device=s.worker.device)
    with nothing_counted(s.model):
        (forward(s, s.ddp, blank).sum() * 0.0).backward()  # type: ignore[no-untyped-call]
    train_mode(s.ddp)
    return torch.zeros((), device=s.worker.device)
