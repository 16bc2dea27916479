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

from ray_cxr.errors import InputError, reason_of
from ray_cxr.torch_compat import timm

_MISFITS = (RuntimeError, AssertionError, ValueError, TypeError)
"""What timm's networks raise for a size that they cannot take."""
_USUAL_PX = (96, 128, 224)


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


def image_error(backbone: str, network: nn.Module, image_px: int) -> str | None:
    """Why a network of this backbone cannot take images of this side, or None: tried with one blank image.

    A transformer of patches is built anew for the side. One that is no multiple of the patch it would take too, and
    leave out the film's right and lower border without a word.
    """
    if _is_built_for_a_size(backbone) and image_px % patch_px(network) == 0:
        try:
            network = make_network(backbone, 1, image_px).to(_device(network))
        except _MISFITS as error:
            return reason_of(error).rstrip(".")
    return _refusal(network, image_px)


def _refusal(network: nn.Module, image_px: int) -> str | None:
    patch = patch_px(network)
    if image_px % patch:
        return f"its patches are {patch} px, and the film's border would be cut"
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, image_px, image_px, device=_device(network)))
    except _MISFITS as error:
        return reason_of(error).rstrip(".")
    return None


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def make_network(backbone: str, outputs: int, image_px: int) -> nn.Module:
    """timm's network with fresh weights, for gray replicated to three channels."""
    size = {"img_size": image_px} if _is_built_for_a_size(backbone) else {}
    network: nn.Module = timm.create_model(
        backbone, pretrained=False, num_classes=outputs, in_chans=3, **size
    )
    return network


def own_image_px(backbone: str) -> int:
    """The side of the images that the backbone was pretrained with."""
    config = timm.get_pretrained_cfg(backbone)
    return int(config.input_size[-1]) if config is not None else 224


def patch_px(network: nn.Module) -> int:
    """The side of a transformer's patches; 1 for a network without patches."""
    size: Any = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    return int(size[0]) if isinstance(size, (tuple, list)) else int(size)


def _is_built_for_a_size(backbone: str) -> bool:
    config = timm.get_pretrained_cfg(backbone)
    return config is not None and bool(config.fixed_input_size)


def _create(backbone: str, findings: int, image_px: int) -> nn.Module:
    check_backbone(backbone)
    try:
        network = make_network(backbone, findings, image_px)
        reason = _refusal(network, image_px)
    except _MISFITS as error:
        network, reason = (
            make_network(backbone, findings, own_image_px(backbone)),
            reason_of(error).rstrip("."),
        )
    if reason is not None:
        sizes = " or ".join(map(str, _sizes_near(backbone, network, image_px)))
        raise InputError(
            f"stream.image_px: got {image_px}, which backbone {backbone} cannot take ({reason}); try {sizes}."
        )
    return network


def _sizes_near(backbone: str, network: nn.Module, image_px: int) -> list[int]:
    """Sides to use instead: the multiples of the patch around it, or the next usual one that works."""
    patch = patch_px(network)
    if image_px % patch:
        return [image_px - image_px % patch, image_px - image_px % patch + patch]
    usual = [px for px in _USUAL_PX if px > image_px]
    return [next((px for px in usual if image_error(backbone, network, px) is None), own_image_px(backbone))]
