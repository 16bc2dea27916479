"""The model's file gives back the model, and whatever was changed in it is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.model.build import ChestModel, Normalisation, build_model
from ray_cxr.model.saved import ModelCard, load_model, save_model
from ray_cxr.storage import Folder

CARD = ModelCard(
    backbone="test_resnet", findings=["Mass", "Pneumonia", "Edema"], image_px=64, stored_px=128,
    normalisation=Normalisation("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), fingerprint="f" * 64,
    protocol="sampled", epoch=3, mean_auroc=0.7512345678901234,
)  # fmt: skip


def _model() -> ChestModel:
    """A model whose batch statistics were trained too."""
    torch.manual_seed(0)
    model = build_model(CARD.backbone, 3, CARD.image_px, CARD.normalisation)
    model.train()
    with torch.no_grad():
        model(_films(9))
    return model.eval()


def _films(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (4, 64, 64), dtype=torch.uint8, generator=generator)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(Folder(tmp_path), _model(), CARD)
    return tmp_path


@pytest.mark.parametrize("place", ["local", "memory"])
def test_round_trip_gives_identical_logits(place: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path if place == "local" else "memory://saved-model/best")
    model = _model()
    save_model(folder, model, CARD)
    torch.manual_seed(1)
    loaded, card = load_model(folder)
    with torch.inference_mode():
        assert torch.equal(loaded(_films(2)), model(_films(2)))
    assert card == CARD
    assert loaded.normalisation == CARD.normalisation and not loaded.training


def test_calibration_is_kept(tmp_path: Path) -> None:
    card = ModelCard(**{**CARD.__dict__, "calibration": {"temperature": 1.25}})
    save_model(Folder(tmp_path), _model(), card)
    assert load_model(Folder(tmp_path))[1].calibration == {"temperature": 1.25}


def test_files_are_safetensors_with_timms_names_and_json(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "model.safetensors"]
    data = (saved / "model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header) - {"__metadata__"} == set(_model().network.state_dict())
    assert json.loads((saved / "model.json").read_bytes())["findings"] == CARD.findings


@pytest.mark.parametrize("where", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("file", ["model.safetensors", "model.json"])
def test_flipped_bit_is_refused(saved: Path, file: str, where: float) -> None:
    data = bytearray((saved / file).read_bytes())
    data[int(where * (len(data) - 2))] ^= 0x01
    (saved / file).write_bytes(bytes(data))
    with pytest.raises(RefusedError) as caught:
        load_model(Folder(saved))
    assert caught.value.exit_code == 3


def test_missing_weights_are_refused_and_a_folder_without_a_model_is_bad_input(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(RefusedError, match=r"is not the file that model\.json describes"):
        load_model(Folder(saved))
    (saved / "model.json").unlink()
    with pytest.raises(InputError, match="holds no trained model"):
        load_model(Folder(saved))


def _renamed(card: dict[str, Any]) -> None:
    card["findings"] = ["Edema", "Pneumonia", "Mass"]


def _fewer(card: dict[str, Any]) -> None:
    card["findings"] = ["Mass", "Pneumonia"]


def _other_mean(card: dict[str, Any]) -> None:
    card["normalisation"]["mean"] = [0.5, 0.5, 0.5]


def _other_backbone(card: dict[str, Any]) -> None:
    card["backbone"] = "test_vit"


def _other_format(card: dict[str, Any]) -> None:
    card["format"] = 99


def _unknown_field(card: dict[str, Any]) -> None:
    card["surprise"] = 1


def _without_hash(card: dict[str, Any]) -> None:
    del card["weights_sha256"]


@pytest.mark.parametrize(
    "change",
    [_renamed, _fewer, _other_mean, _other_backbone, _other_format, _unknown_field, _without_hash],
)
def test_changed_description_is_refused(saved: Path, change: Callable[[dict[str, Any]], None]) -> None:
    card = json.loads((saved / "model.json").read_bytes())
    change(card)
    (saved / "model.json").write_text(json.dumps(card))
    with pytest.raises(RefusedError, match=r"model.json cannot be used"):
        load_model(Folder(saved))


@pytest.mark.parametrize("text", ["", "[]", "null", "7", "{}", '"x"', "\xff\xfe"])
def test_description_that_is_none_is_refused(saved: Path, text: str) -> None:
    (saved / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RefusedError, match=r"model.json cannot be used"):
        load_model(Folder(saved))


def test_weights_of_another_backbone_are_refused_where_the_hash_agrees(tmp_path: Path) -> None:
    card = ModelCard(**{**CARD.__dict__, "backbone": "test_convnext"})
    save_model(Folder(tmp_path), _model(), card)
    with pytest.raises(RefusedError, match="the weights do not fit test_convnext"):
        load_model(Folder(tmp_path))


def test_findings_of_another_number_than_the_weights_are_refused(tmp_path: Path) -> None:
    card = ModelCard(**{**CARD.__dict__, "findings": ["Mass", "Pneumonia"]})
    save_model(Folder(tmp_path), _model(), card)
    with pytest.raises(RefusedError, match="the weights do not fit test_resnet"):
        load_model(Folder(tmp_path))
