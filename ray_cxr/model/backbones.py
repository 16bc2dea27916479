"""What a person wants to know of a backbone before choosing it: its size, its work, its images, its stages."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ray_cxr.model.build import check_backbone, image_error, make_network, own_image_px, patch_px
from ray_cxr.model.freeze import stage_titles

_SMALLEST_PX = 32
"""No smaller images are allowed (`stream.image_px`)."""


@dataclass(frozen=True)
class Backbone:
    """parameters: of the trunk, its classifier for 14 findings with it. macs: multiply-adds of one image of `own_px`.

    smallest_px: of the images that it can take, from 32 up. step_px: they must be multiples of it (1: any).
    stages: what `freeze_depth` counts, from the stem.
    """

    name: str
    parameters: int
    macs: int
    own_px: int
    smallest_px: int
    step_px: int
    stages: list[str]

    def sizes(self) -> str:
        """The images that it takes, in words."""
        multiples = f"multiples of {self.step_px} " if self.step_px > 1 else ""
        return f"{multiples}from {self.smallest_px} px"


def describe(name: str) -> Backbone:
    """Builds the backbone and tries it. Raises InputError where timm has none of this name."""
    check_backbone(name)
    own_px = own_image_px(name)
    # Without numbers: shapes alone tell the work and the limits, in a hundredth of the time.
    network = make_network(name, 14, own_px).to("meta").eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, own_px, own_px, device="meta"))
    return Backbone(
        name=name,
        parameters=sum(p.numel() for p in network.parameters()),
        macs=counter.get_total_flops() // 2,
        own_px=own_px,
        smallest_px=_smallest_px(name, network),
        step_px=patch_px(network),
        stages=stage_titles(network),
    )


def _smallest_px(name: str, network: nn.Module) -> int:
    """By halving: what takes a side takes larger ones too."""
    sides = range(_SMALLEST_PX, own_image_px(name) + 1, patch_px(network))
    return sides[bisect_left(sides, True, key=lambda px: image_error(name, network, px) is None)]
