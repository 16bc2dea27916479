"""The classifier: its normalisation, its outputs, and names that timm does not know."""

import numpy as np
import pytest
import torch
from torch import nn

from ray_cxr.errors import InputError
from ray_cxr.model.build import (
    ChestModel,
    Normalisation,
    build_model,
    check_backbone,
    resolve_normalisation,
)

PLAIN = Normalisation("none", (0.0,) * 3, (1.0,) * 3)


class _Keeps(nn.Module):
    """A network that keeps what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return x.mean((1, 2, 3))[:, None]


def test_gray_film_is_seen_as_replicated_rgb_with_the_pretrained_mean_and_std() -> None:
    films = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).repeat(2, 1, 1)
    norm = Normalisation("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    network = _Keeps()
    ChestModel(network, 1, norm)(films)
    rgb = np.repeat(films.numpy()[:, None] / 255, 3, axis=1)
    for channel, (mean, std) in enumerate(zip(norm.mean, norm.std, strict=True)):
        assert np.allclose(network.seen[:, channel].numpy(), (rgb[:, channel] - mean) / std, atol=1e-5)
    assert network.seen.shape == (2, 3, 16, 16) and network.seen.dtype == torch.float32
    assert films.dtype == torch.uint8 and int(films.max()) == 255


@pytest.mark.parametrize("backbone", ["resnet18", "test_vit", "test_convnext"])
def test_one_logit_per_finding(backbone: str) -> None:
    model = build_model(backbone, 5, 96, PLAIN)
    with torch.inference_mode():
        logits = model(torch.randint(0, 256, (2, 96, 96), dtype=torch.uint8))
    assert logits.shape == (2, 5) and logits.dtype == torch.float32
    assert model.findings == 5


def test_fixed_size_backbones_are_built_for_the_image_size() -> None:
    model = build_model("vit_tiny_patch16_224", 2, 96, PLAIN)
    assert model(torch.zeros(1, 96, 96, dtype=torch.uint8)).shape == (1, 2)


@pytest.mark.parametrize(
    ("backbone", "image_px", "message"),
    [
        # Its rows of patches would end 4 pixels before the film does.
        (
            "vit_tiny_patch16_224",
            100,
            r"its patches are 16 px, and the film's border would be cut\); try 96 or 112",
        ),
        ("inception_v3", 74, r"Kernel size can't be greater than actual input size\); try 96"),
        ("coatnet_nano_rw_224", 100, r"size of tensor .*\); try 128"),
    ],
)
def test_image_size_that_a_backbone_cannot_take_is_refused(
    backbone: str, image_px: int, message: str
) -> None:
    with pytest.raises(
        InputError,
        match=f"stream.image_px: got {image_px}, which backbone {backbone} cannot take .*{message}",
    ):
        build_model(backbone, 2, image_px, PLAIN)


def test_inceptions_smallest_image_is_taken() -> None:
    model = build_model("inception_v3", 2, 75, PLAIN)
    assert model(torch.zeros(1, 75, 75, dtype=torch.uint8)).shape == (1, 2)


@pytest.mark.parametrize("name", ["resnet81", "resnet18:abc", "hf-hub:timm/resnet18.a1_in1k", "densenet"])
def test_unknown_backbone_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"model.backbone: got .* which is no timm model"):
        check_backbone(name)


def test_unknown_backbone_is_told_the_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean .*resnet18"):
        check_backbone("resnet-18")


def test_normalisation_by_kind() -> None:
    statistics = {"mean": 0.52, "std": 0.25}
    assert resolve_normalisation("none", "resnet18", statistics) == PLAIN
    assert resolve_normalisation("dataset", "resnet18", statistics) == Normalisation(
        "dataset", (0.52,) * 3, (0.25,) * 3
    )
    # ImageNet's published mean and std; a backbone may have been pretrained with others.
    imagenet = resolve_normalisation("imagenet", "resnet18", statistics)
    assert imagenet.mean == (0.485, 0.456, 0.406) and imagenet.std == (0.229, 0.224, 0.225)
    half = resolve_normalisation("imagenet", "tf_efficientnet_lite0", statistics)
    assert half.mean == half.std == (0.5, 0.5, 0.5)


def test_films_of_one_gray_do_not_divide_by_zero() -> None:
    norm = resolve_normalisation("dataset", "resnet18", {"mean": 0.5, "std": 0.0})
    assert min(norm.std) > 0


def test_weights_file_holds_the_backbones_own_names_only() -> None:
    model = build_model("test_resnet", 2, 64, PLAIN)
    assert all(name.startswith("network.") for name in model.state_dict())
