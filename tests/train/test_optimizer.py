"""Learning rates and weight decay by parameter, and gradual unfreezing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError, RefusedError
from ray_cxr.job import Job, load_job
from ray_cxr.model.build import ChestModel, Normalisation
from ray_cxr.model.freeze import freeze, train_mode
from ray_cxr.model.saved import load_model
from ray_cxr.model.settings import ModelSettings
from ray_cxr.storage import Folder
from ray_cxr.torch_compat import timm
from ray_cxr.train import loop
from ray_cxr.train.fit import fit
from ray_cxr.train.optimizer import build_optimizer, learning_rate_scales
from ray_cxr.train.schedule import build_schedule
from ray_cxr.train.session import Session
from ray_cxr.train.settings import TrainSettings

PLAIN = Normalisation("none", (0.0,) * 3, (1.0,) * 3)


def _model(backbone: str) -> ChestModel:
    torch.manual_seed(0)
    return ChestModel(timm.create_model(backbone, num_classes=2), 2, PLAIN)


def _by_name(model: ChestModel, optimizer: torch.optim.Optimizer, value: str) -> dict[str, float]:
    names = {id(p): n for n, p in model.network.named_parameters()}
    return {names[id(p)]: g[value] for g in optimizer.param_groups for p in g["params"]}


def test_without_decay_by_layers_all_learn_alike() -> None:
    model = _model("test_resnet")
    optimizer = build_optimizer(model, ModelSettings(), TrainSettings(learning_rate=0.01))
    assert len(optimizer.param_groups) == 2
    assert set(_by_name(model, optimizer, "lr").values()) == {0.01}
    assert set(_by_name(model, optimizer, "lr")) == {n for n, _ in model.network.named_parameters()}


def test_learning_rate_falls_by_the_same_factor_with_each_stage_from_the_classifier() -> None:
    """Five stages by hand: 0.5^5 at the stem, 0.5 at the last, 1 at the classifier."""
    model = _model("test_resnet")
    train = TrainSettings(learning_rate=0.02, layer_decay=0.5)
    optimizer = build_optimizer(model, ModelSettings(), train)
    build_schedule(optimizer, TrainSettings(learning_rate=0.02, warmup_epochs=0), 1).step_update(0)
    rates = _by_name(model, optimizer, "lr")
    expected = {
        "conv1": 0.03125,
        "bn1": 0.03125,
        "layer1": 0.0625,
        "layer2": 0.125,
        "layer3": 0.25,
        "layer4": 0.5,
        "fc": 1.0,
    }
    assert rates == {n: pytest.approx(0.02 * expected[n.split(".")[0]]) for n in rates}


def test_the_classifier_can_have_a_learning_rate_of_its_own() -> None:
    network = _model("test_convnext").network
    scales = learning_rate_scales(
        network, TrainSettings(learning_rate=0.001, head_learning_rate=0.01, layer_decay=0.9)
    )
    head = {n: s for n, s in scales.items() if n.startswith("head.fc")}
    assert list(head.values()) == [pytest.approx(10.0)] * 2
    assert scales["head.norm.weight"] == pytest.approx(0.9)
    assert scales["stem.0.weight"] == pytest.approx(0.9**6)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_convnext"])
def test_norms_biases_and_embeddings_do_not_decay(backbone: str) -> None:
    model = _model(backbone)
    optimizer = build_optimizer(model, ModelSettings(), TrainSettings(weight_decay=0.05))
    decayed = {n for n, d in _by_name(model, optimizer, "weight_decay").items() if d}
    matrices = {
        f"{n}.weight" for n, m in model.network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    }
    assert decayed == matrices


def test_what_is_never_trained_is_not_the_optimizers() -> None:
    model = _model("test_resnet")
    optimizer = build_optimizer(model, ModelSettings(freeze_depth=2), TrainSettings())
    assert {n.split(".")[0] for n in _by_name(model, optimizer, "lr")} == {"layer2", "layer3", "layer4", "fc"}


def test_what_is_thawed_later_moves_from_then_on_only() -> None:
    model = _model("test_vit")
    settings = ModelSettings(backbone="test_vit", freeze_depth="head", unfreeze={2: 4, 3: 1})
    optimizer = build_optimizer(model, settings, TrainSettings(epochs=3, layer_decay=0.8))
    films = torch.randint(0, 256, (2, 160, 160), dtype=torch.uint8)
    moved_by_epoch = {1: {"head"}, 2: {"head", "blocks.3", "blocks.4", "blocks.5"}, 3: {"head", *(f"blocks.{i}" for i in range(6))}}  # fmt: skip
    for epoch, expected in moved_by_epoch.items():
        freeze(model, settings.depth_at(epoch), "test_vit")
        train_mode(model)
        before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
        optimizer.zero_grad(set_to_none=True)
        model(films).square().sum().backward()
        optimizer.step()
        moved = {n for n, p in model.network.named_parameters() if not torch.equal(p, before[n])}
        places = {".".join(n.split(".")[: 2 if n.startswith("blocks") else 1]) for n in moved}
        assert places - {"norm"} == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.freeze_depth=2", "model.unfreeze={2: 3}"], "unfreeze leads through the depths 2, 3"),
        (["model.freeze_depth=head", "model.unfreeze={2: 1, 3: head}"], "depths head, 1, head"),
        (["model.unfreeze={3: 0}"], "depths 0, 0"),
        (["model.freeze_depth=head", "model.unfreeze={1: 0}"], "greater than or equal to 2"),
        (["model.freeze_depth=head", "model.unfreeze={5: 0}", "train.epochs=4"], r"got epoch 5, but train\.epochs is 4"),
        (["train.layer_decay=1.5"], r"train\.layer_decay: got 1\.5"),
    ],
)  # fmt: skip
def test_plans_that_make_no_sense_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_job(None, overrides)


@pytest.mark.parametrize(
    "overrides", [["model.unfreeze={2: 3, 4: 0}"], ["model.unfreeze.2=3", "model.unfreeze.4=0"]]
)
def test_depth_is_a_function_of_the_epoch(overrides: list[str]) -> None:
    settings = load_job(None, ["model.freeze_depth=head", *overrides]).model
    assert [settings.depth_at(e) for e in range(1, 7)] == ["head", 3, 3, 0, 0, 0]


UNFREEZING = (
    "model.freeze_depth=head",
    "model.unfreeze={2: 3, 3: 1}",
    "train.layer_decay=0.7",
    "train.epochs=3",
)


def _history(out: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (Path(out) / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(nih_job: Callable[..., Job], nih_dataset: str) -> tuple[Job, list[str]]:
    job = nih_job(f"dataset={nih_dataset}", *UNFREEZING)
    events: list[dict[str, Any]] = []
    fit(job, to_yaml(job), events.append)
    return job, [e["text"] for e in events if e["kind"] == "note" and e["text"].startswith("epoch")]


def test_each_thaw_is_told_and_stands_in_the_history(undisturbed: tuple[Job, list[str]]) -> None:
    job, notes = undisturbed
    assert [line["freeze_depth"] for line in _history(job.out)] == ["head", 3, 1]
    assert [n.split(",")[0] for n in notes] == [
        "epoch 2: freeze_depth is now 3",
        "epoch 3: freeze_depth is now 1",
    ]
    model, _ = load_model(Folder(job.out) / "best")
    total = sum(p.numel() for p in model.parameters())
    stem = sum(p.numel() for n, p in model.network.named_parameters() if n.startswith("stem."))
    assert notes[1].endswith(f"{total - stem:,} parameters are trained")


class StoppedError(Exception):
    """In the place of a kill."""


def test_stopped_before_each_thaw_and_gone_on_equals_never_stopped(
    undisturbed: tuple[Job, list[str]], nih_job: Callable[..., Job], nih_dataset: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    job = nih_job(f"dataset={nih_dataset}", *UNFREEZING)
    whole, stops = loop.train_epoch, [2, 3]

    def stop(session: Session, plan: Any) -> float:
        if plan.epoch in stops:
            stops.remove(plan.epoch)
            raise StoppedError
        return whole(session, plan)

    monkeypatch.setattr(loop, "train_epoch", stop)
    for _ in (2, 3):
        with pytest.raises(StoppedError):
            fit(job, to_yaml(job), lambda event: None)
    fit(job, to_yaml(job), lambda event: None)
    assert stops == []
    assert _history(job.out) == _history(undisturbed[0].out)
    files = [Path(j.out) / "best/model.safetensors" for j in (job, undisturbed[0])]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_going_on_without_the_thaws_is_another_job(
    undisturbed: tuple[Job, list[str]], nih_job: Callable[..., Job]
) -> None:
    job = undisturbed[0]
    other = nih_job(
        f"dataset={job.dataset}", f"out={job.out}", *(o for o in UNFREEZING if "unfreeze" not in o)
    )
    with pytest.raises(RefusedError, match=r"model\.unfreeze\.2 was 3, now None"):
        fit(other, to_yaml(other), lambda event: None)


def test_too_deep_an_unfreeze_is_told_by_its_own_name(nih_job: Callable[..., Job], nih_dataset: str) -> None:
    job = nih_job(f"dataset={nih_dataset}", "model.freeze_depth=head", "model.unfreeze={2: 40}")
    with pytest.raises(InputError, match=r"model\.unfreeze\.2: got 40, but test_convnext has 6 stages"):
        fit(job, to_yaml(job), lambda event: None)


RANK = """
import sys
import torch.distributed as dist
from ray_cxr.config import read_settings
from ray_cxr.stream.plan import World
from ray_cxr.train.loop import train
from ray_cxr.train.session import Session
from ray_cxr.train.settings import Recipe
from ray_cxr.train.worker import Worker
from ray_cxr.job import Job
job = read_settings(Job, sys.argv[1])
rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
train(job, Worker(World(rank, 2)))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_workers_thaw_as_one(
    undisturbed: tuple[Job, list[str]], nih_job: Callable[..., Job], tmp_path: Path
) -> None:
    """DDP is made anew at each thaw. Tolerance as for workers without thaws: 1e-5 of the loss."""
    job = nih_job(f"dataset={undisturbed[0].dataset}", *UNFREEZING)
    (tmp_path / "job.yaml").write_text(to_yaml(job))
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, tmp_path / "job.yaml", str(rank), tmp_path / "meeting"])
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=200) for process in ranks] == [0, 0]
    for one, two in zip(_history(undisturbed[0].out), _history(job.out), strict=True):
        assert two["plan"] == one["plan"]
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
        assert two["validation_loss"] == pytest.approx(one["validation_loss"], rel=1e-5)
