"""Freezing: what is frozen does not move in training, neither weights nor batch statistics; the rest does."""

from functools import cache

import pytest
import torch
from torch import nn

from ray_cxr.errors import InputError
from ray_cxr.model.build import ChestModel, Normalisation, build_model
from ray_cxr.model.freeze import classifier_names, freeze, stages, train_mode

PLAIN = Normalisation("none", (0.0,) * 3, (1.0,) * 3)
BACKBONES = {
    "resnet18": 5,  # stem and four layers
    "densenet121": 6,  # stem, four dense blocks, last norm
    "test_convnext": 6,  # stem, four stages, norm before the classifier
    "test_vit": 7,  # embedding and six blocks
    "tf_efficientnet_lite0": 8,  # stem and seven blocks
}
IMAGE_PX = 32


@cache
def _built(backbone: str) -> ChestModel:
    torch.manual_seed(0)
    return build_model(backbone, 3, IMAGE_PX, PLAIN)


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
    films = torch.randint(0, 256, (3, IMAGE_PX, IMAGE_PX), dtype=torch.uint8)
    for _ in range(2):
        optimizer.zero_grad()
        (model(films) - 1).square().sum().backward()
        optimizer.step()


def _modules_below(names: set[str]) -> set[str]:
    return {n.rpartition(".")[0] for n in names}


CASES = [
    ("resnet18", 0), ("resnet18", 1), ("resnet18", 3), ("resnet18", 5), ("resnet18", "head"),
    ("densenet121", 2), ("test_convnext", 3), ("test_convnext", "head"),
    ("test_vit", 1), ("test_vit", 4), ("test_vit", "head"), ("tf_efficientnet_lite0", 4),
    ("tf_efficientnet_lite0", "head"),
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
@pytest.mark.parametrize("fresh", ["resnet18"], indirect=True)
def test_depth_counts_groups_from_the_stem(
    fresh: ChestModel, depth: int | str, prefixes: tuple[str, ...]
) -> None:
    freeze(fresh, depth, "resnet18")  # type: ignore[arg-type]
    for name, parameter in fresh.network.named_parameters():
        assert parameter.requires_grad != name.startswith(prefixes or "nothing"), name


@pytest.mark.parametrize(("fresh", "count"), BACKBONES.items(), indirect=["fresh"])
def test_stages_are_all_parameters_but_the_classifiers_each_once(fresh: ChestModel, count: int) -> None:
    groups = stages(fresh.network)
    listed = [name for names in groups for name in names]
    everything = {n for n, _ in fresh.network.named_parameters()}
    head = classifier_names(fresh.network)
    assert len(groups) == count
    assert len(listed) == len(set(listed)) and set(listed) == everything - head
    assert head and all(fresh.network.get_parameter(n).shape[0] == 3 for n in head)
    assert next(n for n, _ in fresh.network.named_parameters()) in groups[0]


@pytest.mark.parametrize("fresh", BACKBONES, indirect=True)
def test_head_leaves_the_classifier_only(fresh: ChestModel) -> None:
    freeze(fresh, "head", "backbone")
    trained = {n for n, p in fresh.network.named_parameters() if p.requires_grad}
    assert trained == classifier_names(fresh.network)


@pytest.mark.parametrize("fresh", ["resnet18"], indirect=True)
def test_freezing_again_thaws_what_is_not_asked_for(fresh: ChestModel) -> None:
    freeze(fresh, "head", "resnet18")
    assert freeze(fresh, 0, "resnet18") == 0
    assert all(p.requires_grad for p in fresh.parameters())


@pytest.mark.parametrize(
    ("fresh", "backbone", "listed"),
    [
        ("resnet18", "resnet18", "1: conv1, 2: layer1, 3: layer2, 4: layer3, 5: layer4"),
        ("densenet121", "densenet121", "2: features.denseblock1, 3: features.denseblock2"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0", "7: blocks.5, 8: blocks.6"),
    ],
    indirect=["fresh"],
)
def test_too_deep_is_refused_with_the_stages_that_there_are(
    fresh: ChestModel, backbone: str, listed: str
) -> None:
    with pytest.raises(InputError) as caught:
        freeze(fresh, 9, backbone)
    message = str(caught.value)
    limit = BACKBONES[backbone]
    assert f"model.freeze_depth: got 9, but {backbone} has {limit} stages (1: " in message
    assert listed in message and message.endswith(f"use 0 to {limit}, or head.")


def test_frozen_dropout_is_off_and_the_rest_is_on() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    )
    model[0].requires_grad_(False)
    train_mode(model)
    assert [m.training for m in model[0].modules()] == [False] * 3
    assert [m.training for m in model[1].modules()] == [True] * 3
    assert model.training
