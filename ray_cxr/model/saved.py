"""The model's file: `model.safetensors` (timm's names) and `model.json`, which says how to use it.

What is loaded is checked: the hash of the weights, the findings, every name and shape.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ray_cxr.errors import InputError, RefusedError, reason_of
from ray_cxr.model.build import ChestModel, Normalisation, build_model
from ray_cxr.storage import Folder

FORMAT = 1


@dataclass(frozen=True)
class ModelCard:
    """`model.json` without the hash: all that is needed to score a film as in training."""

    backbone: str
    findings: list[str]
    image_px: int
    stored_px: int
    """Side to which a film is resized first, as in the data set."""
    normalisation: Normalisation
    fingerprint: str
    protocol: str
    epoch: int
    mean_auroc: float
    calibration: dict[str, Any] | None = None
    weights: dict[str, Any] | None = None
    """What training started from: `source`, `sha256`, `fraction` of the trunk that fitted, `trained_on`; None: from nothing."""


def save_model(folder: Folder, model: ChestModel, card: ModelCard) -> str:
    """Writes both files, the description last; gives the sha256 of the weights."""
    data = save_tensors(
        {name: t.detach().cpu().contiguous() for name, t in model.network.state_dict().items()}
    )
    sha256 = hashlib.sha256(data).hexdigest()
    folder.write_bytes("model.safetensors", data)
    description = {"format": FORMAT, **asdict(card), "weights_sha256": sha256}
    folder.write_json("model.json", {**description, "description_sha256": _description_sha256(description)})
    return sha256


def load_model(folder: Folder) -> tuple[ChestModel, ModelCard]:
    """The model and its description. Raises RefusedError where they are missing, damaged or of another model."""
    card, tensors, _ = read_saved(folder)
    model = build_model(card.backbone, len(card.findings), card.image_px, card.normalisation)
    try:
        model.network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise RefusedError(
            f"{folder}: the weights do not fit {card.backbone} ({reason_of(error)})."
        ) from None
    model.eval()
    return model, card


def read_saved(folder: Folder) -> tuple[ModelCard, dict[str, Tensor], str]:
    """The description, the tensors and their sha256, no model. Raises as `load_model`."""
    card, sha256 = _read_card(folder)
    data = folder.read_bytes("model.safetensors") if folder.exists("model.safetensors") else b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RefusedError(
            f"{folder}/model.safetensors is not the file that model.json describes (missing, damaged or exchanged); "
            "restore it or train again."
        )
    return card, dict(load_tensors(data)), sha256


def _description_sha256(description: dict[str, Any]) -> str:
    """Two findings that changed places, or another mean, would fit the weights and give wrong scores in silence."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _read_card(folder: Folder) -> tuple[ModelCard, str]:
    try:
        raw = folder.read_json("model.json")
        if raw.pop("description_sha256") != _description_sha256(raw):
            raise ValueError("it was changed after it was written")
        if raw.pop("format") != FORMAT:
            raise ValueError("another format")
        sha256 = str(raw.pop("weights_sha256"))
        norm = raw.pop("normalisation")
        normalisation = Normalisation(norm["kind"], tuple(norm["mean"]), tuple(norm["std"]))
        return ModelCard(normalisation=normalisation, **raw), sha256
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no trained model (no model.json); give the `out` of a training."
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(f"{folder}/model.json cannot be used ({reason_of(error)}); train again.") from None
