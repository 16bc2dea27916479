"""A batch of noise before the first film is read: memory, shapes and speed are known in seconds, not after an hour.

Changes nothing: no weight, no batch statistic, no optimizer state. Gives: a note with speed, time and memory.
"""

from __future__ import annotations

import gc
import math
import resource
import sys
import time

import torch
from torch import Tensor

from ray_cxr.console import duration
from ray_cxr.errors import InputError
from ray_cxr.model.freeze import train_mode
from ray_cxr.storage import in_bytes
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.plan import ALONE, EpochPlan, World
from ray_cxr.train.batch_norm import each_alone, has_batch_norm
from ray_cxr.train.epoch import forward, is_out_of_memory
from ray_cxr.train.session import Session
from ray_cxr.train.sizing import READING_CPUS


def dry_run(s: Session, plan: EpochPlan) -> None:
    """Tries the smallest and the largest micro-batch of this worker, and reports what the largest took.

    Raises InputError where memory does not suffice, with the `train.accumulate` that fits, or where BatchNorm gets one film.
    """
    sizes = _micro_batches(s, plan, s.recipe.train.accumulate)
    seconds = _seconds(s, plan, max(sizes))
    for films in sizes - {max(sizes)}:
        _seconds(s, plan, films)
    rate = max(sizes) * s.worker.world.size / seconds
    epochs_left = s.recipe.train.epochs - s.state.epoch
    text = (
        f"dry run of {max(sizes)} films a worker: {rate:.0f} films/s and {in_bytes(_memory(s))} of memory; at that speed "
        f"{duration(plan.films / rate)} an epoch, {duration(epochs_left * plan.films / rate)} in all, without validation"
    )
    s.worker.report({"kind": "note", "text": text})


def tell_plan(s: Session, plan: EpochPlan) -> None:
    """Reports what training is about to do, and with what."""
    size, reads_here = s.worker.world.size, s.worker.reader is local_tables
    films = max(len(plan.step_positions(0, World(rank, size))) for rank in range(size))
    on = (
        "a GPU"
        if s.worker.device.type == "cuda"
        else f"{s.worker.threads} thread{'s' * (s.worker.threads > 1)}"
    )
    workers = "this process" if reads_here else f"{size} worker{'s' * (size > 1)}"
    left = s.recipe.train.epochs - s.state.epoch
    each, of_them = (" each", " a worker") if size > 1 else ("", "")
    reading = "" if reads_here else f", {READING_CPUS:g} CPUs kept for reading films"
    text = (
        f"plan: {workers} with {on}{each}{reading}; {films} films a step{of_them}, {plan.steps} steps an epoch, "
        f"{left} epoch{'s' * (left != 1)} to train"
    )
    s.worker.report({"kind": "note", "text": text})
    if (
        not isinstance(s.recipe.train.workers, int)
        and size > 1
        and not s.synced_norms
        and has_batch_norm(s.model)
    ):
        text = (
            "BatchNorm sees its own worker's films, so another number of workers trains another network; with "
            "train.sync_batchnorm=true it does not"
        )
        s.worker.report({"kind": "note", "text": text})


def _seconds(s: Session, plan: EpochPlan, films: int) -> float:
    """Of a pass of so many films, the faster of two, the first of which also sets up. Raises InputError where they do not fit."""
    first, error = _fitting(s, films)
    second, error = _fitting(s, films) if error is None else (first, error)
    if error is not None:
        raise _too_large(s, plan, films, error) from None
    return min(first, second)


def _fitting(s: Session, films: int) -> tuple[float, RuntimeError | None]:
    """Seconds of a pass of so many films, or what was raised where memory may have been its cause."""
    try:
        return _try(s, films), None
    except RuntimeError as error:
        if not is_out_of_memory(error) and not _is_onednn(error):
            raise
        found = error.with_traceback(None)
    # The traceback's frames held the activations of what did not fit: only now is there room for fewer films.
    gc.collect()
    if s.worker.device.type == "cuda":
        torch.cuda.empty_cache()
    return math.inf, found


def _micro_batches(s: Session, plan: EpochPlan, accumulate: int) -> set[int]:
    """Sizes of this worker's micro-batches; only the last steps of an epoch may be smaller than the first."""
    steps = {0, max(plan.steps - 2, 0), plan.steps - 1}
    here, together = (
        {len(p) for step in steps for p in plan.micro_batches(step, world, accumulate) if len(p)} or {1}
        for world in (s.worker.world, ALONE)
    )
    if not s.synced_norms:
        return here
    # A single film is too few for a norm only where no other worker has one.
    return {1} if together == {1} else {max(*here, 2)} | (together & {1})


def _try(s: Session, films: int) -> float:
    """Seconds of a forward and backward pass, with the optimizer's moments there. Without DDP: a worker whose memory does not suffice must not leave others waiting."""
    model = s.ddp if s.worker.world.size == 1 else s.model
    buffers = [b.clone() for b in s.model.buffers()]
    px, device = s.recipe.stream.image_px, s.worker.device
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (films, px, px), dtype=torch.uint8, generator=generator).to(device)
    targets = torch.zeros(films, len(s.findings), device=device)
    moments = [torch.empty_like(p) for p in _without_moments(s) for _ in range(2)]
    train_mode(model)
    started = time.perf_counter()
    try:
        with each_alone(s.model):
            logits = forward(s, model, pixels)
        loss: Tensor = s.loss(logits, targets, torch.full((len(s.findings),), films, device=device))
        loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started
    finally:
        del moments
        s.optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(s.model.buffers(), buffers, strict=True):
            buffer.copy_(before)


def _is_onednn(error: RuntimeError) -> bool:
    """What oneDNN says where it gets no memory, but not there only."""
    return "could not create a primitive" in str(error) or "could not execute a primitive" in str(error)


def _too_large(s: Session, plan: EpochPlan, films: int, error: RuntimeError) -> InputError | RuntimeError:
    """The sentence, with the smallest `train.accumulate` (doubled each time) whose micro-batches fit.

    The error itself where memory may not be its cause, since not even a single film goes through.
    """
    accumulate, told = s.recipe.train.accumulate, is_out_of_memory(error)
    what = f"stream.batch_size: a micro-batch of {films} films of {s.recipe.stream.image_px} px does not fit into memory"
    while films > 1:
        accumulate *= 2
        films = max(_micro_batches(s, plan, accumulate))
        try:
            _, again = _fitting(s, films)
        except InputError:  # BatchNorm and a single film
            break
        if again is None:
            return InputError(
                f"{what}; use train.accumulate={accumulate} (micro-batches of {films}, the same gradient)."
            )
        told = told or is_out_of_memory(again)
    if not told:
        return error
    return InputError(
        f"{what}, nor does any smaller one; use a smaller stream.image_px or another model.backbone."
    )


def _without_moments(s: Session) -> list[Tensor]:
    """What the first step will give two moments each: AdamW's."""
    return [] if s.optimizer.state else [p for p in s.model.parameters() if p.requires_grad]


def _memory(s: Session) -> int:
    """Bytes at the peak so far; on the CPU with the optimizer's moments, which take no room until they are written."""
    if s.worker.device.type == "cuda":
        return torch.cuda.max_memory_allocated(s.worker.device)
    moments = 2 * sum(p.numel() * p.element_size() for p in _without_moments(s))
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit + moments
