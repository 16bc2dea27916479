"""BatchNorm over the films of all workers, on the CPU and on GPUs. torch's own (nn.SyncBatchNorm) refuses tensors on the CPU.

Changes the class of a network's norms and nothing else: names, weights and batch statistics stay, so that checkpoints and
`best/` are those of the plain network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ray_cxr.errors import InputError
from ray_cxr.torch_compat import timm


class SyncedNorm(nn.modules.batchnorm._BatchNorm):
    """What the synchronised norms share. In evaluation mode, so where it is frozen, a plain BatchNorm.

    alone: plain in training, too, for what a single worker tries. counted: False while this worker has no film and runs a
    blank one, which must leave no trace in anybody's statistics.
    """

    alone = False
    counted = True

    def forward(self, x: Tensor) -> Tensor:
        if self.alone or not self.training:
            return super().forward(x)
        return self._finish(_over_workers(self, x))

    def _finish(self, x: Tensor) -> Tensor:
        return x


class _SyncedNorm1d(SyncedNorm, nn.BatchNorm1d):
    pass


class _SyncedNorm2d(SyncedNorm, nn.BatchNorm2d):
    pass


class _SyncedNormAct2d(SyncedNorm, timm.layers.BatchNormAct2d):  # type: ignore[misc]
    """timm's, with the activation behind it."""

    def _finish(self, x: Tensor) -> Tensor:
        after: Any = self
        activated: Tensor = after.act(after.drop(x))
        return activated


_SYNCED: dict[type[nn.Module], type[SyncedNorm]] = {
    nn.BatchNorm1d: _SyncedNorm1d,
    nn.BatchNorm2d: _SyncedNorm2d,
    timm.layers.BatchNormAct2d: _SyncedNormAct2d,
}
"""All that the networks of timm 1.0 are made of, of one member of each family (docs/decisions.md)."""


def has_batch_norm(network: nn.Module) -> bool:
    """Whether any layer of it takes statistics from a batch and is trained to."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in network.modules())


def synchronise(network: nn.Module, backbone: str) -> int:
    """Turns each BatchNorm into one over all workers; gives their number. Raises InputError for a kind that it does not know."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    for norm in norms:
        plain = norm.affine and norm.track_running_stats and norm.momentum is not None
        if type(norm) not in _SYNCED or not plain:
            raise InputError(
                f"train.sync_batchnorm: {backbone} has norms of the kind {type(norm).__name__} that cannot be synchronised; "
                "use train.sync_batchnorm=false, or another model.backbone."
            )
        norm.__class__ = _SYNCED[type(norm)]
    return len(norms)


@contextmanager
def each_alone(network: nn.Module) -> Iterator[None]:
    """Within it each worker's norms see its own films only, and wait for nobody."""
    with _set(network, "alone", value=True):
        yield


@contextmanager
def nothing_counted(network: nn.Module) -> Iterator[None]:
    """Within it this worker's films leave no trace in the statistics, and get no gradient from them."""
    with _set(network, "counted", value=False):
        yield


@contextmanager
def _set(network: nn.Module, name: str, *, value: bool) -> Iterator[None]:
    norms = [m for m in network.modules() if isinstance(m, SyncedNorm)]
    for norm in norms:
        setattr(norm, name, value)
    try:
        yield
    finally:
        for norm in norms:
            delattr(norm, name)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _over_workers(norm: SyncedNorm, x: Tensor) -> Tensor:
    """The norm of [B, C, …] by mean and variance over the films of all workers; its running statistics follow them."""
    running: Any = norm  # torch types what `synchronise` has checked as perhaps None
    with torch.no_grad():
        # Films may come in bf16; statistics are of the numbers of the weights.
        mean, variance, values = _statistics(x.to(norm.weight.dtype), counted=norm.counted)
        running.num_batches_tracked.add_(1)
        running.running_mean.lerp_(mean, norm.momentum)
        running.running_var.lerp_(variance * values / (values - 1), norm.momentum)
    normed: Tensor = _Norm.apply(x, norm.weight, norm.bias, mean, variance, values, norm.eps, norm.counted)  # type: ignore[no-untyped-call]
    return normed


def _statistics(x: Tensor, *, counted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C] and variance [C] of each channel over all workers, and the number of values that they are of.

    From each worker's own mean and variance (Chan, Golub and LeVeque, 1979), which loses no digits where a mean is large.
    """
    # torch.var_mean gives the same in 15 times the time, where channels lie last.
    mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
    channels = len(mean)
    own = x.numel() // channels
    count = mean.new_full((1,), own)
    mine = torch.cat([mean, variance, count]).double() * counted
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine)
    means, variances, counts = torch.split(torch.stack(parts), [channels, channels, 1], dim=1)
    values = counts.sum()
    # On a GPU reading a number waits for it; only who has one value per channel has to know how many others have.
    if own <= 1 and values <= 1:
        raise ValueError("Expected more than 1 value per channel when training")
    mean = (counts * means).sum(0) / values
    variance = (counts * (variances + (means - mean) ** 2)).sum(0) / values
    return mean.to(x.dtype), variance.to(x.dtype), values.to(x.dtype)


class _Norm(torch.autograd.Function):
    """Normalises by given statistics, and lets the gradient through them, too.

    With y = w·(x - m)/s + b over N values: dx = w/s · (dy - Σdy/N - x̂·Σ(dy·x̂)/N), its sums over all workers (Ioffe and
    Szegedy, Batch Normalization, ICML 2015, section 3).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, values: Tensor,
        eps: float, counted: bool,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, mean, variance, values)
        ctx.eps, ctx.counted = eps, counted
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, values = ctx.saved_tensors
        # As if the statistics were constants; their part comes below.
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([dbias, dweight])
        dist.all_reduce(sums)
        if ctx.counted:
            scale = torch.rsqrt(variance + ctx.eps)
            slope = -weight * scale * scale * sums[1] / values
            level = -weight * scale * sums[0] / values - slope * mean
            shape = [1, -1] + [1] * (x.ndim - 2)
            dx = dx.to(slope.dtype).addcmul_(x, slope.view(shape)).add_(level.view(shape)).to(x.dtype)
        return dx, dweight, dbias, None, None, None, None, None
