"""Freezing: what is frozen does not move in training, neither weights nor batch statistics; the rest does."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import nn

from ray_cxr.errors import InputError
from ray_cxr.model.build import ChestModel, Normalisation
from ray_cxr.model.freeze import classifier_names, freeze, stage_titles, stages, train_mode
from ray_cxr.torch_compat import timm

DenseNet = timm.models.densenet.DenseNet
Bottleneck, ResNet = timm.models.resnet.Bottleneck, timm.models.resnet.ResNet
SwinTransformer = timm.models.swin_transformer.SwinTransformer

PLAIN = Normalisation("none", (0.0,) * 3, (1.0,) * 3)
IMAGE_PX = 32
SMALLEST_INCEPTION_PX = 75


@dataclass(frozen=True)
class Member:
    """A small member of a family, with as many stages as its shipped one unless it is said."""

    make: Callable[..., nn.Module]
    stages: int
    image_px: int = IMAGE_PX


def _named(name: str) -> Callable[..., nn.Module]:
    def make(**settings: Any) -> nn.Module:
        network: nn.Module = timm.create_model(name, num_classes=3, **settings)
        return network

    return make


FAMILIES = {
    # stem and four layers
    "resnet": Member(_named("test_resnet"), 5),
    "resnext": Member(
        partial(ResNet, Bottleneck, [1] * 4, cardinality=8, base_width=4, num_classes=3), 5
    ),
    # stem, four dense blocks with the transitions after them, last norm
    "densenet": Member(partial(DenseNet, 8, (2,) * 4, num_classes=3), 6),
    # two groups of plain convolutions, eleven mixed blocks
    "inception": Member(_named("inception_v3"), 13, SMALLEST_INCEPTION_PX),
    # stem and five groups of blocks, the last with the last convolution
    "efficientnet": Member(_named("test_efficientnet"), 6),
    # stem, four stages, norm before the classifier
    "convnext": Member(_named("test_convnext"), 6),
    # embedding and six blocks, the last with the last norm
    "vit": Member(partial(_named("test_vit"), img_size=IMAGE_PX), 7),
    "swin": Member(
        partial(
            SwinTransformer, IMAGE_PX, patch_size=2, window_size=4, embed_dim=16, depths=(1,) * 4,
            num_heads=(1, 2, 2, 2), num_classes=3,
        ), 6,
    ),
    "regnet": Member(_named("regnety_002"), 5),
    # stem, six groups of blocks, last convolution
    "mobilenet": Member(_named("mobilenetv3_small_050"), 8),
}  # fmt: skip


@cache
def _built(family: str) -> ChestModel:
    torch.manual_seed(0)
    return ChestModel(FAMILIES[family].make(), 3, PLAIN)


def _films(model: ChestModel) -> torch.Tensor:
    side = SMALLEST_INCEPTION_PX if hasattr(model.network, "Mixed_5b") else IMAGE_PX
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> ChestModel:
    """A model of the backbone asked for, as it was when built; building takes longer than training it."""
    model = _built(request.param)
    kept = {n: t.clone() for n, t in model.state_dict().items()}
    model.train()
    model.requires_grad_(True)

    def restore() -> None:
        model.load_state_dict(kept)

    request.addfinalizer(restore)
    return model


def _train_two_steps(model: ChestModel) -> None:
    """Adam moves a parameter by the learning rate however small its gradient."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    films = _films(model)
    for _ in range(2):
        optimizer.zero_grad()
        (model(films) - 1).square().sum().backward()
        optimizer.step()


def _modules_below(names: set[str]) -> set[str]:
    return {n.rpartition(".")[0] for n in names}


CASES = [
    *((family, depth) for family, member in FAMILIES.items() for depth in (member.stages // 2, "head")),
    ("resnet", 0), ("resnet", 1), ("resnet", 5), ("densenet", 0), ("vit", 1), ("inception", 1),
]  # fmt: skip


@pytest.mark.parametrize(("fresh", "depth"), CASES, indirect=["fresh"])
def test_training_moves_what_is_not_frozen_and_nothing_else(fresh: ChestModel, depth: int | str) -> None:
    network = fresh.network
    count = freeze(fresh, depth, "backbone")  # type: ignore[arg-type]
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert count == sum(p.numel() for n, p in network.named_parameters() if n in frozen)
    before = {n: t.clone() for n, t in network.state_dict().items()}
    train_mode(fresh)
    _train_two_steps(fresh)
    after = network.state_dict()

    parameters = {n for n, _ in network.named_parameters()}
    for name in parameters:
        assert torch.equal(before[name], after[name]) == (name in frozen), name
    quiet = _modules_below(frozen) - _modules_below(parameters - frozen)
    statistics = set(before) - parameters
    assert bool(statistics) == (not any(isinstance(m, nn.LayerNorm) for m in network.modules()))
    for name in statistics:
        assert torch.equal(before[name], after[name]) == (name.rpartition(".")[0] in quiet), name


@pytest.mark.parametrize(
    ("depth", "prefixes"),
    [(0, ()), (1, ("conv1.", "bn1.")), (2, ("conv1.", "bn1.", "layer1.")),
     (5, ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")),
     ("head", ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4."))],
)  # fmt: skip
@pytest.mark.parametrize("fresh", ["resnet"], indirect=True)
def test_depth_counts_groups_from_the_stem(
    fresh: ChestModel, depth: int | str, prefixes: tuple[str, ...]
) -> None:
    freeze(fresh, depth, "resnet18")  # type: ignore[arg-type]
    for name, parameter in fresh.network.named_parameters():
        assert parameter.requires_grad != name.startswith(prefixes or "nothing"), name


@pytest.mark.parametrize(
    ("fresh", "count"), [(f, member.stages) for f, member in FAMILIES.items()], indirect=["fresh"]
)
def test_stages_are_all_parameters_but_the_classifiers_each_once(fresh: ChestModel, count: int) -> None:
    groups = stages(fresh.network)
    listed = [name for names in groups for name in names]
    everything = {n for n, _ in fresh.network.named_parameters()}
    head = classifier_names(fresh.network)
    assert len(groups) == count
    assert len(listed) == len(set(listed)) and set(listed) == everything - head
    assert head and all(fresh.network.get_parameter(n).shape[0] == 3 for n in head)
    assert next(n for n, _ in fresh.network.named_parameters()) in groups[0]


@pytest.mark.parametrize("fresh", FAMILIES, indirect=True)
def test_head_leaves_the_classifier_only(fresh: ChestModel) -> None:
    freeze(fresh, "head", "backbone")
    trained = {n for n, p in fresh.network.named_parameters() if p.requires_grad}
    assert trained == classifier_names(fresh.network)


@pytest.mark.parametrize("fresh", ["resnet"], indirect=True)
def test_freezing_again_thaws_what_is_not_asked_for(fresh: ChestModel) -> None:
    freeze(fresh, "head", "resnet18")
    assert freeze(fresh, 0, "resnet18") == 0
    assert all(p.requires_grad for p in fresh.parameters())


@pytest.mark.parametrize(
    ("fresh", "limit", "listed"),
    [
        ("resnet", 5, "1: conv1, 2: layer1, 3: layer2, 4: layer3, 5: layer4"),
        ("densenet", 6, "1: features.conv0, 2: features.denseblock1, 3: features.denseblock2"),
        ("inception", 13, "1: Conv2d_1a_3x3, 2: Conv2d_3b_1x1, 3: Mixed_5b, 4: Mixed_5c"),
        ("efficientnet", 6, "5: blocks.3, 6: blocks.4"),
        ("convnext", 6, "1: stem, 2: stages.0, 3: stages.1, 4: stages.2, 5: stages.3, 6: head.norm"),
        ("vit", 7, "1: patch_embed, 2: blocks.0"),
        ("swin", 6, "1: patch_embed, 2: layers.0, 3: layers.1, 4: layers.2, 5: layers.3, 6: norm"),
    ],
    indirect=["fresh"],
)
def test_too_deep_is_refused_with_the_stages_that_there_are(
    fresh: ChestModel, limit: int, listed: str
) -> None:
    with pytest.raises(InputError) as caught:
        freeze(fresh, limit + 1, "this_net")
    message = str(caught.value)
    assert f"model.freeze_depth: got {limit + 1}, but this_net has {limit} stages (1: " in message
    assert listed in message and message.endswith(f"use 0 to {limit}, or head.")


STOCHASTIC = {
    "densenet": partial(FAMILIES["densenet"].make, proj_drop_rate=0.5),
    "efficientnet": partial(_named("tf_efficientnet_lite0"), drop_path_rate=0.9),
    "convnext": partial(FAMILIES["convnext"].make, drop_path_rate=0.9),
    "vit": partial(FAMILIES["vit"].make, drop_path_rate=0.9, pos_drop_rate=0.5, proj_drop_rate=0.5),
    "swin": partial(FAMILIES["swin"].make, drop_path_rate=0.9, proj_drop_rate=0.5),
    "resnet": partial(FAMILIES["resnet"].make, drop_path_rate=0.9),
}


@pytest.mark.parametrize("family", STOCHASTIC)
def test_stochastic_layers_are_off_in_frozen_stages_and_on_in_others(family: str) -> None:
    torch.manual_seed(0)
    model = ChestModel(STOCHASTIC[family](), 3, PLAIN)
    # A fresh layer scale of 1e-6, or a last gamma of 0, would hide what a dropped branch changes.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, 1.0)
    titles = stage_titles(model.network)
    depth = len(titles) // 2
    freeze(model, depth, family)
    train_mode(model)
    seen: list[torch.Tensor] = []
    model.network.get_submodule(titles[depth - 1]).register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        logits = [model(_films(model)) for _ in range(6)]
    assert all(torch.equal(seen[0], again) for again in seen[1:])
    assert any(not torch.equal(logits[0], again) for again in logits[1:])


def test_dropout_after_a_frozen_embedding_is_off_and_that_of_the_head_is_on() -> None:
    network: Any = timm.create_model("test_vit", num_classes=3, pos_drop_rate=0.5, drop_rate=0.5)
    model = ChestModel(network, 3, PLAIN)
    for depth, pos_drop in ((0, True), (1, False), ("head", False)):
        freeze(model, depth, "test_vit")  # type: ignore[arg-type]
        train_mode(model)
        assert (network.pos_drop.training, network.head_drop.training) == (pos_drop, True)


@pytest.mark.parametrize("fresh", FAMILIES, indirect=True)
def test_nothing_of_the_frozen_part_is_kept_for_a_backward_pass(fresh: ChestModel) -> None:
    """What autograd keeps, parameters left out: the less the more is frozen; for the head only its input."""
    own = {p.untyped_storage().data_ptr() for p in fresh.parameters()}
    kept: list[dict[int, int]] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[-1][storage.data_ptr()] = storage.nbytes()
        return tensor

    for depth in (0, len(stages(fresh.network)) // 2, "head"):
        kept.append({})
        freeze(fresh, depth, "backbone")  # type: ignore[arg-type]
        train_mode(fresh)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = fresh(_films(fresh))
        assert logits.requires_grad
    everything, half, head = (sum(k.values()) for k in kept)
    assert everything > half > head
    assert len(kept[2]) == 1


def test_frozen_dropout_is_off_and_the_rest_is_on() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    )
    model[0].requires_grad_(False)
    train_mode(model)
    assert [m.training for m in model[0].modules()] == [False] * 3
    assert [m.training for m in model[1].modules()] == [True] * 3
    assert model.training
