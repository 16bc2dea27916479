"""The augmentation of `augment`, for a whole batch on the worker's device: one resampling, one intensity map.

The same parameters for each film give the same picture as on the CPU, but for interpolation: OpenCV rounds positions
to 1/32 pixel. On a CPU this is slower than `augment` (DESIGN figures in docs/decisions.md), on a GPU it is free.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from ray_cxr.stream.augment import AREA_ABOVE, Augmentation, output_to_film
from ray_cxr.stream.collate import Batch


def on_device(batch: Batch, image_px: int, device: torch.device) -> Tensor:
    """A batch's films [B, image_px, image_px] uint8 as the model takes them, on its device, augmented there if pending."""
    pixels = torch.from_numpy(batch.pixels)
    if device.type == "cuda":
        # Pinned memory lets the copy run beside the model's work.
        pixels = pixels.pin_memory()
    moved = pixels.to(device, non_blocking=True)
    return moved if batch.pending is None else augment_batch(moved, image_px, batch.pending)


def augment_batch(films: Tensor, image_px: int, drawn: Augmentation) -> Tensor:
    """[B, image_px, image_px] uint8 from square films [B, H, W] uint8 on any device; B parameters of each kind."""
    pixels = films.float()
    if films.shape[-1] > AREA_ABOVE * image_px:
        pixels = _area(pixels, image_px)
    side = pixels.shape[-1]
    grid = _grid(output_to_film(side, image_px, drawn), image_px, side).to(films.device)
    warped = grid_sample(
        pixels.unsqueeze(1), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    ).squeeze(1)
    contrast = torch.from_numpy(drawn.contrast).float().to(films.device)[:, None, None]
    brightness = torch.from_numpy(drawn.brightness).float().to(films.device)[:, None, None]
    mapped = (warped.round() - 127.5) * contrast + 127.5 + 255 * brightness
    return mapped.clamp(0, 255).round().to(torch.uint8)


def _area(pixels: Tensor, image_px: int) -> Tensor:
    """Area averaging: each output pixel is the mean of what it covers, borders by their share."""
    weights = torch.from_numpy(_coverage(pixels.shape[-1], image_px)).float().to(pixels.device)
    return weights @ pixels @ weights.T


def _coverage(side: int, image_px: int) -> NDArray[np.float64]:
    """[image_px, side]: share of input pixel j in output pixel i; rows sum to one."""
    edges = np.arange(image_px + 1) * side / image_px
    starts, ends = edges[:-1, None], edges[1:, None]
    pixel = np.arange(side)[None]
    covered: NDArray[np.float64] = np.clip(np.minimum(ends, pixel + 1) - np.maximum(starts, pixel), 0, None)
    covered /= covered.sum(1, keepdims=True)
    return covered


def _grid(matrices: NDArray[np.float64], image_px: int, side: int) -> Tensor:
    """[B, image_px, image_px, 2] float32: where each output pixel's centre lies in the film, in torch's -1..1."""
    x, y = np.meshgrid(np.arange(image_px), np.arange(image_px))
    centres = np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    at = np.einsum("bij,jn->bni", matrices, centres).reshape(-1, image_px, image_px, 2)
    return torch.from_numpy(((2 * at + 1) / side - 1).astype(np.float32))
