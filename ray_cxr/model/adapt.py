"""Brings tensors of other shapes to a network's: a stem for one channel, embeddings of another image size."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ray_cxr.model.build import Normalisation
from ray_cxr.torch_compat import timm

_XRV_MARK = "op_threshs"
_XRV_SCALE = 1024.0
"""TorchXRayVision's models take pixels from -1024 to 1024."""


def adapt_shapes(
    tensors: dict[str, Tensor], network: nn.Module, normalisation: Normalisation
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors with those of a known other shape brought to the network's, and a sentence on each kind of change."""
    adapted, notes = dict(tensors), dict[str, None]()
    for name, own in network.state_dict().items():
        tensor = tensors.get(name)
        if tensor is None or tensor.shape == own.shape:
            continue
        if _is_gray_stem(tensor, own):
            adapted |= _gray_stem(name, tensors, network, normalisation)
            notes["the stem for one channel is spread over three"] = None
        elif name == "pos_embed" and tensor.ndim == 3 and tensor.shape[2] == own.shape[2]:
            adapted[name] = _position_embeddings(tensor, network)
            notes[f"embeddings of {tensor.shape[1]} positions are resized to {own.shape[1]}"] = None
        elif name.endswith("relative_position_bias_table") and tensor.shape[1:] == own.shape[1:]:
            adapted[name] = _relative_positions(tensor, own)
            notes["tables of relative positions are resized to the window"] = None
        elif tensor.numel() == own.numel() and tensor.squeeze().shape == own.squeeze().shape:
            adapted[name] = tensor.reshape(own.shape)
    return adapted, list(notes)


def _is_gray_stem(tensor: Tensor, own: Tensor) -> bool:
    return tensor.ndim == own.ndim == 4 and (
        (tensor.shape[1], own.shape[1]) == (1, 3)
        and (tensor.shape[0], tensor.shape[2:]) == (own.shape[0], own.shape[2:])
    )


def _gray_stem(
    name: str, tensors: dict[str, Tensor], network: nn.Module, normalisation: Normalisation
) -> dict[str, Tensor]:
    """The stem for three equal channels, each with a third of the weight, so that a gray film gives the same.

    A TorchXRayVision stem expects pixels in its own range. For a pixel g of 0..1 it saw 2048 g - 1024, where our channel c
    has x = (g - mean_c) / std_c: the factor goes into the weight, the offset into the mean of the batch norm behind it.
    """
    tensor = tensors[name].float()
    if _XRV_MARK not in tensors:
        return {name: tensor.repeat(1, 3, 1, 1) / 3}
    mean, std = torch.tensor(normalisation.mean), torch.tensor(normalisation.std)
    scaled = tensor * (2 * _XRV_SCALE * std / 3).view(1, 3, 1, 1)
    offset = tensor.sum((1, 2, 3)) * (2 * _XRV_SCALE * mean.mean() - _XRV_SCALE)
    norm = next((n for n in network.state_dict() if n.endswith("running_mean")), "")
    return {name: scaled, **({norm: tensors[norm] - offset} if norm in tensors else {})}


def _position_embeddings(tensor: Tensor, network: Any) -> Tensor:
    before = 0 if network.no_embed_class else network.num_prefix_tokens
    resized: Tensor = timm.layers.resample_abs_pos_embed(
        tensor, list(network.patch_embed.grid_size), num_prefix_tokens=before
    )
    return resized


def _relative_positions(tensor: Tensor, own: Tensor) -> Tensor:
    """Tables [(2 w - 1)², heads] of a window of side w; timm's own way indexes as torch is about to forbid."""
    before, after = math.isqrt(tensor.shape[0]), math.isqrt(own.shape[0])
    grid = tensor.float().T.view(1, -1, before, before)
    resized = nn.functional.interpolate(grid, size=(after, after), mode="bicubic", align_corners=False)
    return resized.view(-1, after * after).T.contiguous()
