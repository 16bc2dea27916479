"""Settings of the model stage."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ray_cxr.config import Settings


class ModelSettings(Settings):
    """The classifier: a backbone, what it starts from, what of it stays as it is."""

    backbone: str = Field(default="resnet18", min_length=1)
    """Name of a timm model; `ray-cxr doctor --backbones PATTERN` lists them."""
    weights: str = Field(default="none", min_length=1)
    """`none`; `efficientnet-lite0` (ImageNet, from the extra `weights`); `imagenet` (from timm's hub); a file; a run."""
    freeze_depth: Annotated[int, Field(ge=0)] | Literal["head"] = 0
    """Coarse groups from the stem that stay as they are; `head`: all but the classifier."""
    unfreeze: dict[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=0)] | Literal["head"]] = Field(
        default={}
    )
    """Gradual unfreezing, `{epoch: freeze_depth from that epoch on}`: `{3: 2, 6: 0}`; each depth less than the one before."""

    @model_validator(mode="after")
    def _only_thaws(self) -> ModelSettings:
        depths = [self.freeze_depth, *(depth for _, depth in sorted(self.unfreeze.items()))]
        for before, after in pairwise(float("inf") if d == "head" else d for d in depths):
            if after >= before:
                raise ValueError(
                    f"unfreeze leads through the depths {', '.join(map(str, depths))} (freeze_depth first), but each must "
                    "be less than the one before; leave out the epochs at which nothing is thawed"
                )
        return self

    def depth_at(self, epoch: int) -> int | Literal["head"]:
        """`freeze_depth` in an epoch (1, 2, …), a function of nothing else, so that a resumed run needs no state."""
        begun = [e for e in self.unfreeze if e <= epoch]
        return self.unfreeze[max(begun)] if begun else self.freeze_depth
