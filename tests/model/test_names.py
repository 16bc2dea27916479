"""State dicts of other people: torchvision's networks give the same from our backbone, whatever the names are."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ray_cxr.errors import InputError
from ray_cxr.model.build import ChestModel, Normalisation
from ray_cxr.model.weights import Loaded, load_weights
from ray_cxr.torch_compat import timm, torchvision

PLAIN = Normalisation("none", (0.0,) * 3, (1.0,) * 3)
HALF = Normalisation("imagenet", (0.5,) * 3, (0.5,) * 3)


def _torchvision_vit() -> nn.Module:
    network: nn.Module = torchvision.models.VisionTransformer(64, 16, 2, 3, 192, 768)
    nn.init.normal_(network.heads.head.weight)  # type: ignore[union-attr, arg-type]
    return network


def _timm_vit(num_classes: int) -> nn.Module:
    network: nn.Module = timm.models.vision_transformer.VisionTransformer(
        64, 16, embed_dim=192, depth=2, num_heads=3, num_classes=num_classes
    )
    return network


@dataclass(frozen=True)
class Pair:
    theirs: Callable[[], nn.Module]
    ours: str | Callable[[int], nn.Module]
    image_px: int = 64


PAIRS = {
    "resnet18": Pair(lambda: torchvision.models.resnet18(weights=None), "resnet18"),
    "resnext50_32x4d": Pair(lambda: torchvision.models.resnext50_32x4d(weights=None), "resnext50_32x4d"),
    "densenet121": Pair(lambda: torchvision.models.densenet121(weights=None), "densenet121"),
    "inception_v3": Pair(
        lambda: torchvision.models.inception_v3(weights=None, init_weights=False), "inception_v3", 75
    ),
    "efficientnet_b0": Pair(lambda: torchvision.models.efficientnet_b0(weights=None), "efficientnet_b0"),
    "convnext_tiny": Pair(lambda: torchvision.models.convnext_tiny(weights=None), "convnext_tiny"),
    "vit": Pair(_torchvision_vit, _timm_vit),
}


def _stirred(network: nn.Module) -> nn.Module:
    """Statistics and gammas that are not 0 and 1, so that one in the place of another shows."""
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 1 and tensor.is_floating_point():
            low = 0.5 if name.endswith(("running_var", "weight")) else -0.2
            tensor.uniform_(low, low + 0.5)
        if name.endswith("layer_scale"):
            tensor.uniform_(0.5, 1.0)
    return network.eval()


def _theirs(family: str) -> nn.Module:
    torch.manual_seed(3)
    return _stirred(PAIRS[family].theirs())


def _ours(family: str, num_classes: int = 3) -> nn.Module:
    torch.manual_seed(4)
    ours = PAIRS[family].ours
    network: nn.Module = (
        ours(num_classes) if callable(ours) else timm.create_model(ours, num_classes=num_classes)
    )
    return network.eval()


def _load(
    network: nn.Module, tensors: dict[str, Tensor], folder: Path, norm: Normalisation = PLAIN
) -> Loaded:
    path = folder / "weights.safetensors"
    save_file({n: t.contiguous() for n, t in tensors.items()}, path)
    loaded = load_weights(ChestModel(network, 3, norm), str(path), "this_net")
    assert loaded is not None
    return loaded


def _features(network: Any, images: Tensor) -> Tensor:
    features: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)
    return features


def _without_classifier(network: Any) -> nn.Module:
    """torchvision's network up to the input of its last linear layer."""
    if hasattr(network, "heads"):
        network.heads = nn.Identity()
    elif hasattr(network, "fc"):
        network.fc = nn.Identity()
    elif isinstance(network.classifier, nn.Sequential):
        network.classifier[-1] = nn.Identity()
    else:
        network.classifier = nn.Identity()
    assert isinstance(network, nn.Module)
    return network


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize("family", PAIRS)
def test_torchvisions_weights_give_torchvisions_features(family: str, wrapper: str, tmp_path: Path) -> None:
    theirs, ours = _theirs(family), _ours(family)
    loaded = _load(ours, {wrapper + n: t for n, t in theirs.state_dict().items()}, tmp_path)
    assert loaded.fraction == 1.0 and not loaded.classifier and loaded.other_shape == []
    side = PAIRS[family].image_px
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = _without_classifier(theirs)(images)
        assert torch.allclose(
            _features(ours, images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
        )
    assert float(expected.std()) > 1e-3


def test_inceptions_auxiliary_head_has_no_place_and_is_said(tmp_path: Path) -> None:
    ours = _ours("inception_v3")
    loaded = _load(ours, _theirs("inception_v3").state_dict(), tmp_path)
    assert loaded.unused and all(n.startswith("AuxLogits.") for n in loaded.unused)
    assert not any("Aux" in n for n, _ in ours.named_modules())
    assert isinstance(ours.train()(torch.rand(2, 3, 75, 75)), Tensor), "training gives logits, not a pair"


def _old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", n): t for n, t in tensors.items()}


def test_chexnet_names(tmp_path: Path) -> None:
    """`module.densenet121.features.denseblock1.denselayer1.norm.1.weight`, and a classifier in a Sequential."""
    theirs, ours = _theirs("densenet121"), _ours("densenet121")
    tensors = {
        f"module.densenet121.{n.replace('classifier.', 'classifier.0.')}": t
        for n, t in _old_names(theirs.state_dict()).items()
    }
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in tensors
    loaded = _load(ours, tensors, tmp_path)
    assert loaded.fraction == 1.0 and loaded.missing == ["classifier.bias", "classifier.weight"]
    assert loaded.unused == ["classifier.0.bias", "classifier.0.weight"] or set(loaded.unused) == {
        "classifier.0.weight", "classifier.0.bias",
    }  # fmt: skip
    own = ours.state_dict()
    assert all(
        torch.equal(own[n], t) for n, t in theirs.state_dict().items() if not n.startswith("classifier")
    )


def _one_channel(family: str) -> nn.Module:
    """As TorchXRayVision makes them: torchvision's network with a stem for one channel."""
    theirs: Any = _theirs(family)
    stem = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    if family == "densenet121":
        theirs.features.conv0 = stem
    else:
        theirs.conv1 = stem
    assert isinstance(theirs, nn.Module)
    return theirs


@pytest.mark.parametrize(("family", "prefix"), [("densenet121", ""), ("resnet18", "model.")])
def test_torchxrayvision_takes_pixels_in_its_own_range(family: str, prefix: str, tmp_path: Path) -> None:
    """Theirs sees 2048 g - 1024 in one channel, ours (g - 0.5) / 0.5 in three: the same features.

    With a mean of 0.5 also at the border, where zeros are padded: both mean the gray in the middle.
    """
    theirs, ours = _one_channel(family), _ours(family)
    state = theirs.state_dict()
    norm = "features.norm0" if family == "densenet121" else "bn1"
    state[f"{norm}.running_var"].fill_(3e5)  # of pixels in that range
    state[f"{norm}.running_mean"].uniform_(-200, 200)
    tensors = {prefix + n: t for n, t in state.items()} | {"op_threshs": torch.rand(18)}
    loaded = _load(ours, tensors, tmp_path, HALF)
    assert loaded.fraction == 1.0 and loaded.notes == ["the stem for one channel is spread over three"]
    assert "op_threshs" in loaded.unused
    films = torch.randint(0, 256, (2, 1, 64, 64), generator=torch.Generator().manual_seed(0)) / 255
    with torch.inference_mode():
        expected = _without_classifier(theirs)(2048 * films - 1024)
        found = _features(ours, ((films - 0.5) / 0.5).repeat(1, 3, 1, 1))
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_any_other_stem_for_one_channel_gives_the_same_on_gray(tmp_path: Path) -> None:
    theirs, ours = _one_channel("resnet18"), _ours("resnet18")
    _load(ours, theirs.state_dict(), tmp_path)
    films = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = _without_classifier(theirs)(films)
        found = _features(ours, films.repeat(1, 3, 1, 1))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("file", "backbone"),
    [("resnet18", "resnext50_32x4d"), ("convnext_tiny", "resnet18"), ("densenet121", "efficientnet_b0")],
)
def test_weights_of_another_family_are_refused(file: str, backbone: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fits only \d+% of this_net \(at least 90% is needed; "):
        _load(_ours(backbone), _theirs(file).state_dict(), tmp_path)
