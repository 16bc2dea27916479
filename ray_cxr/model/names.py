"""Brings the names of other people's state dicts to timm's: prefixes, torchvision's own names, old DenseNet names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]

_OLD_DENSENET = [(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.")]
"""As in torchvision's published files and in CheXNet's: `norm.1`, from before names could not hold dots."""

_TORCHVISION_VIT = [
    (r"^class_token$", "cls_token"),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"^encoder\.ln\.", "norm."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    (r"^heads\.head\.", "head."),
]

_TORCHVISION_CONVNEXT = [
    (r"^features\.0\.", "stem."),
    (r"\.layer_scale$", ".gamma"),
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"^classifier\.0\.", "head.norm."),
    (r"^classifier\.2\.", "head.fc."),
]

_SQUEEZE = {"fc1": "se.conv_reduce", "fc2": "se.conv_expand"}
_EXPANDING = [
    {"0": "conv_pw", "1": "bn1"},
    {"0": "conv_dw", "1": "bn2"},
    _SQUEEZE,
    {"0": "conv_pwl", "1": "bn3"},
]
_PLAIN = [{"0": "conv_dw", "1": "bn1"}, _SQUEEZE, {"0": "conv_pw", "1": "bn2"}]
"""Layers of an EfficientNet's blocks in torchvision's order, under timm's names."""


def timm_names(tensors: Tensors, own: Tensors, classifier: set[str]) -> dict[str, Tensor]:
    """The tensors under the names of `own`, timm's state dict, as far as they can be told; others keep theirs.

    Of the ways known, the one under which the most numbers find a place of their shape. No tensor is left out.
    """
    plain = _without_common_prefix(tensors)
    readings = [
        dict(tensors),
        _renamed(tensors, _OLD_DENSENET),
        _renamed(plain, _TORCHVISION_VIT),
        {_convnext_name(name): tensor for name, tensor in plain.items()},
        _efficientnet_names(plain),
    ]
    candidates = [_without_prefix(reading, own) for reading in readings]
    return max(
        [*candidates, _by_order(tensors, own, classifier)], key=lambda names: _numbers_placed(names, own)
    )


def _numbers_placed(tensors: Tensors, own: Tensors) -> int:
    return sum(t.numel() for name, t in tensors.items() if name in own and own[name].numel() == t.numel())


def _renamed(tensors: Tensors, rules: list[tuple[str, str]]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        renamed[new] = tensor
    return renamed


def _convnext_name(name: str) -> str:
    """torchvision counts stages and the downsampling before them in one row: odd are stages, even lead to the next."""
    for pattern, replacement in _TORCHVISION_CONVNEXT:
        name = re.sub(pattern, replacement, name)
    if found := re.match(r"^features\.(\d+)\.(\d+)\.(.+)$", name):
        place, child, rest = int(found[1]), found[2], found[3]
        kind = "blocks" if place % 2 else "downsample"
        return f"stages.{place // 2}.{kind}.{child}.{rest}"
    return name


def _efficientnet_names(tensors: Tensors) -> dict[str, Tensor]:
    """torchvision numbers the layers of a block; the first block's has one less, for it does not expand."""
    deepest: Counter[str] = Counter()
    for name in tensors:
        if found := re.match(r"^(features\.\d+\.\d+)\.block\.(\d)\.", name):
            deepest[found[1]] = max(deepest[found[1]], int(found[2]))
    last = max((int(n.split(".")[1]) for n in tensors if re.match(r"^features\.\d+\.", n)), default=0)
    renamed = {}
    for name, tensor in tensors.items():
        if found := re.match(r"^(features\.(\d+)\.(\d+))\.block\.(\d)\.(\d|fc\d)\.(.+)$", name):
            layers = _EXPANDING if deepest[found[1]] == len(_EXPANDING) - 1 else _PLAIN
            layer = layers[int(found[4])].get(found[5], found[5])
            renamed[f"blocks.{int(found[2]) - 1}.{found[3]}.{layer}.{found[6]}"] = tensor
        else:
            ends = {"features.0.0": "conv_stem", "features.0.1": "bn1",
                    f"features.{last}.0": "conv_head", f"features.{last}.1": "bn2"}  # fmt: skip
            beginning, _, rest = name.rpartition(".")
            renamed[f"{ends.get(beginning, beginning)}.{rest}"] = tensor
    return renamed


def _without_common_prefix(tensors: Tensors) -> dict[str, Tensor]:
    parts = [name.split(".") for name in tensors]
    common = 0
    while parts and all(len(p) > common + 1 and p[common] == parts[0][common] for p in parts):
        common += 1
    return {".".join(name.split(".")[common:]): tensor for name, tensor in tensors.items()}


def _without_prefix(tensors: Tensors, own: Tensors) -> dict[str, Tensor]:
    """Takes off what a wrapper put before the names (`module.densenet121.`, `model.`): what leads the most of ours."""
    prefixes: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in own:
                prefixes[".".join(parts[:i])] += 1
                break
    if not prefixes or not (prefix := prefixes.most_common(1)[0][0]):
        return dict(tensors)
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items()}


def _by_order(tensors: Tensors, own: Tensors, classifier: set[str]) -> dict[str, Tensor]:
    """The same tensors in the same order under other names, as in the package of EfficientNet-Lite0.

    Only where every one has the shape and the kind (`weight`, `running_mean`) of its partner; the classifier's may differ
    in shape.
    """
    if len(tensors) != len(own):
        return {}
    pairs = zip(tensors.items(), own.items(), strict=True)
    if all(
        theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        and (tensor.shape == mine.shape or ours in classifier)
        for (theirs, tensor), (ours, mine) in pairs
    ):
        return dict(zip(own, tensors.values(), strict=True))
    return {}
