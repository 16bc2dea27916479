"""The running mean of the weights, which is validated and kept in their place where a job asks for it."""

from __future__ import annotations

from ray_cxr.model.build import ChestModel
from ray_cxr.torch_compat import timm


def build_average(model: ChestModel, decay: float | None) -> timm.utils.ModelEmaV3 | None:
    """An exponential moving average of all weights and batch statistics; None where none is asked for.

    Call `update(model, step=steps done)` after each step: after s steps the weights so far keep min(decay, (s - 1) / (s + 9)),
    so that fresh weights are soon forgotten (as `num_updates` of TensorFlow's ExponentialMovingAverage). Being a function of
    the step, it needs no other state than its weights.
    """
    if decay is None:
        return None
    return timm.utils.ModelEmaV3(model, decay=decay, use_warmup=True, warmup_gamma=10.0, warmup_power=1.0)
