"""Freezing: which part of a backbone stays as it is, counted in timm's coarse groups from the stem."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from ray_cxr.errors import InputError
from ray_cxr.model.build import ChestModel
from ray_cxr.torch_compat import timm


def stages(network: nn.Module) -> list[list[str]]:
    """Parameter names of each coarse group from the stem, the classifier's own left out."""
    head = classifier_names(network)
    matcher: Any = network.group_matcher
    groups: dict[int, list[str]] = timm.models.group_parameters(
        network, matcher(coarse=True), return_values=False
    )
    named = [[n for n in names if n not in head] for _, names in sorted(groups.items())]
    return [names for names in named if names]


def freeze(model: ChestModel, depth: int | Literal["head"], backbone: str) -> int:
    """Freezes the first `depth` stages (or all but the classifier); gives the number of frozen parameters.

    Raises InputError where the backbone has fewer stages, naming them.
    """
    groups = stages(model.network)
    if depth != "head" and depth > len(groups):
        listed = ", ".join(f"{n + 1}: {title}" for n, title in enumerate(_titles(groups)))
        raise InputError(
            f"model.freeze_depth: got {depth}, but {backbone} has {len(groups)} stages ({listed}); "
            f"use 0 to {len(groups)}, or head."
        )
    frozen = {name for names in (groups if depth == "head" else groups[:depth]) for name in names}
    count = 0
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(name not in frozen)
        count += parameter.numel() * (name in frozen)
    return count


def train_mode(model: nn.Module) -> None:
    """Training mode, but for modules that are frozen whole: their batch statistics and drop-out stay off.

    A module without parameters follows the one that it lies in.
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def classifier_names(network: nn.Module) -> set[str]:
    """Names of the parameters of timm's `get_classifier()`."""
    get_classifier: Any = network.get_classifier
    found = get_classifier()
    heads = list(found) if isinstance(found, (tuple, list, nn.ModuleList)) else [found]
    own = {id(p) for head in heads if isinstance(head, nn.Module) for p in head.parameters()}
    return {name for name, p in network.named_parameters() if id(p) in own}


def _titles(groups: list[list[str]]) -> list[str]:
    """What a person calls each stage, as in `layer2`: where its parameters' names begin alike, or the first module."""
    common = [_beginning(names) for names in groups]
    first = [".".join(names[0].split(".")[:-1][:2]) or names[0] for names in groups]
    return [c if c and common.count(c) == 1 else f for c, f in zip(common, first, strict=True)]


def _beginning(names: list[str]) -> str:
    parts = [n.split(".") for n in names]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ".".join(common)
