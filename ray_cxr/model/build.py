"""Builds the classifier: gray uint8 films in, one logit per finding out.

Reads: settings and, where asked for, a weights file. Gives: `ChestModel`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ray_cxr.errors import InputError
from ray_cxr.torch_compat import timm


@dataclass(frozen=True)
class Normalisation:
    """mean and std of each of the three channels, for pixels scaled to 0..1; stored in `model.json`."""

    kind: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class ChestModel(nn.Module):
    """A timm backbone behind the film's own preparation, which thus is the same wherever the model is.

    forward: [B, H, W] uint8 (gray, bright = dense) → logits [B, F] float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, findings: int, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.findings = findings
        self.normalisation = normalisation
        # Not persistent: they come from model.json, and the weights file keeps the backbone's own names.
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        gray = pixels.unsqueeze(1).float().div_(255)
        return cast(Tensor, self.network((gray - self.mean) / self.std))


def build_model(backbone: str, findings: int, image_px: int, normalisation: Normalisation) -> ChestModel:
    """A model with fresh weights. InputError for an unknown backbone or an image size that it cannot take."""
    return ChestModel(_create(backbone, findings, image_px), findings, normalisation)


def resolve_normalisation(kind: str, backbone: str, pixel_statistics: dict[str, float]) -> Normalisation:
    """The numbers behind `stream.normalisation`: imagenet, dataset or none."""
    if kind == "dataset":
        mean, std = pixel_statistics["mean"], max(pixel_statistics["std"], 1e-3)
        return Normalisation(kind, (mean,) * 3, (std,) * 3)
    if kind == "none":
        return Normalisation(kind, (0.0,) * 3, (1.0,) * 3)
    check_backbone(backbone)
    config = timm.get_pretrained_cfg(backbone)
    mean_, std_ = (config.mean, config.std) if config else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Normalisation(kind, _three(mean_), _three(std_))


def check_backbone(name: str) -> None:
    """Raises InputError, with the nearest names, where timm has no such model."""
    if timm.is_model(name.partition(".")[0]) and ":" not in name:
        return
    near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else "`ray-cxr doctor --backbones PATTERN` lists them."
    )
    raise InputError(f"model.backbone: got {name!r}, which is no timm model; {hint}")


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _create(backbone: str, findings: int, image_px: int) -> nn.Module:
    check_backbone(backbone)
    config = timm.get_pretrained_cfg(backbone)
    extra = {"img_size": image_px} if config is not None and config.fixed_input_size else {}
    try:
        network = timm.create_model(backbone, pretrained=False, num_classes=findings, in_chans=3, **extra)
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, image_px, image_px))
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"stream.image_px: got {image_px}, which backbone {backbone} cannot take ({reason}); "
            f"try {config.input_size[-1] if config is not None else 224}."
        ) from None
    return cast(nn.Module, network)
