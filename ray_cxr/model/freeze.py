"""Freezing: which part of a backbone stays as it is, counted in timm's coarse groups from the stem.

What is frozen lies before what is trained, so autograd keeps nothing of it and no gradient goes through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from torch import nn

from ray_cxr.errors import InputError
from ray_cxr.model.build import ChestModel
from ray_cxr.torch_compat import timm

Depth = int | Literal["head"]


def stages(network: nn.Module) -> list[list[str]]:
    """Parameter names of each coarse group from the stem, the classifier's own left out."""
    head = classifier_names(network)
    matcher: Any = network.group_matcher
    groups: dict[int, list[str]] = timm.models.group_parameters(
        network, matcher(coarse=True), return_values=False
    )
    named = [[n for n in names if n not in head] for _, names in sorted(groups.items())]
    return [names for names in named if names]


def stage_titles(network: nn.Module) -> list[str]:
    """What a person calls each stage, as in `layer2`: the shortest beginning of its names that no other stage has."""
    groups = stages(network)
    everything = [*groups, sorted(classifier_names(network))]
    return [_title(names, [g for g in everything if g is not names]) for names in groups]


def frozen_names(network: nn.Module, depth: Depth, backbone: str, setting: str) -> set[str]:
    """Names of the parameters in the first `depth` stages, or of all but the classifier's.

    Raises InputError, in the name of `setting`, where the backbone has fewer stages; it lists them.
    """
    groups = stages(network)
    problem = depth_error(depth, stage_titles(network), backbone)
    if problem is not None:
        raise InputError(f"{setting}: {problem}")
    return {name for names in (groups if depth == "head" else groups[:depth]) for name in names}


def depth_error(depth: Depth, titles: Sequence[str], backbone: str) -> str | None:
    """Why a backbone whose stages have these titles cannot be frozen so deep, or None."""
    if depth == "head" or depth <= len(titles):
        return None
    listed = ", ".join(f"{n}: {title}" for n, title in enumerate(titles, 1))
    return (
        f"got {depth}, but {backbone} has {len(titles)} stages ({listed}); use 0 to {len(titles)}, or head."
    )


def freeze(model: ChestModel, depth: Depth, backbone: str, setting: str = "model.freeze_depth") -> int:
    """Freezes the first `depth` stages (or all but the classifier), thaws the rest; gives the number of frozen parameters.

    Raises InputError where the backbone has fewer stages, naming them.
    """
    frozen = frozen_names(model.network, depth, backbone, setting)
    count = 0
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(name not in frozen)
        count += parameter.numel() * (name in frozen)
    return count


def train_mode(model: nn.Module) -> None:
    """Training mode, but for modules that are frozen whole: their batch statistics and drop-out stay off.

    A module without parameters follows the one that it lies in or, where that is frozen in part, what comes before
    it there; before the classifier it follows the classifier.
    """
    model.train()
    for module in model.modules():
        if _is_frozen(module):
            module.eval()
        else:
            _quieten_between(module)


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def _quieten_between(parent: nn.Module) -> None:
    """Turns off what has no parameters, such as the drop-out after an embedding, and follows a frozen part.

    timm declares modules in the order in which they run. The last with parameters is the classifier, or holds it:
    the drop-out right before it is the head's.
    """
    children = list(parent.children())
    owners = [i for i, child in enumerate(children) if any(True for _ in child.parameters())]
    for before, after in pairwise(owners[:-1]):
        if _is_frozen(children[before]):
            for child in children[before + 1 : after]:
                child.eval()


def classifier_names(network: nn.Module) -> set[str]:
    """Names of the parameters of timm's `get_classifier()`."""
    get_classifier: Any = network.get_classifier
    found = get_classifier()
    heads = list(found) if isinstance(found, (tuple, list, nn.ModuleList)) else [found]
    own = {id(p) for head in heads if isinstance(head, nn.Module) for p in head.parameters()}
    return {name for name, p in network.named_parameters() if id(p) in own}


def _title(names: list[str], others: list[list[str]]) -> str:
    """Of a stage's first module; a bare parameter, such as a class token, names no stage."""
    name = next((n for n in names if "." in n), names[0])
    parts = name.split(".")
    taken = [other for group in others for other in group]
    for length in range(1, len(parts)):
        beginning = ".".join(parts[:length])
        if not any(other == beginning or other.startswith(beginning + ".") for other in taken):
            return beginning
    return name
