"""The learning rate as a function of the step alone, so that resuming needs no scheduler state: timm's schedules."""

from __future__ import annotations

from torch.optim import Optimizer

from ray_cxr.torch_compat import timm
from ray_cxr.train.settings import TrainSettings


def build_schedule(
    optimizer: Optimizer, train: TrainSettings, steps_per_epoch: int
) -> timm.scheduler.scheduler.Scheduler:
    """Call `step_update(steps done)` before each step: it sets the learning rate of every group, by its `lr_scale`.

    A linear warm-up, then `train.schedule`. The cosine is Loshchilov and Hutter's (SGDR, ICLR 2017, eq. 5, one period).
    """
    warmup = round(train.warmup_epochs * steps_per_epoch)
    common = {
        "warmup_t": warmup,
        "warmup_lr_init": train.learning_rate / (warmup + 1),
        "warmup_prefix": True,
        "t_in_epochs": False,
    }
    if train.schedule == "cosine":
        length = train.epochs * steps_per_epoch - warmup
        # timm warns of a period of one step, whose only step is the same in one of two.
        return timm.scheduler.CosineLRScheduler(optimizer, t_initial=max(length, 2), **common)
    factor = train.step_factor if train.schedule == "step" else 1.0
    return timm.scheduler.StepLRScheduler(
        optimizer, decay_t=train.step_epochs * steps_per_epoch, decay_rate=factor, **common
    )
