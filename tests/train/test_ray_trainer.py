"""How often a training is started again, and how it ends when that is enough. Without Ray's processes; with them: test_kills.py."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import ray.train

from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.train import ray_trainer as module
from ray_cxr.train.progress import MovedError
from ray_cxr.train.ray_trainer import fit_with_ray
from ray_cxr.train.settings import Recipe
from ray_cxr.train.sizing import Needs


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the attempts end with, the first of them first; then one ends well."""
    made: list[Exception] = []

    def attempt(recipe: Recipe, needs: Needs, workers: int, threads: int | None) -> None:
        if made and isinstance(made[0], ray.train.ControllerError):
            raise made.pop(0)
        if made:
            raise ray.train.WorkerGroupError("the group failed", {1: made.pop(0)})

    monkeypatch.setattr(module, "wants_gpu", lambda train, workers: False)
    monkeypatch.setattr(module, "room", lambda needs, wait_s, show: nullcontext(2))
    monkeypatch.setattr(module, "moving", lambda *told: nullcontext())
    monkeypatch.setattr(module, "telling_of_stalls", lambda *told: nullcontext())
    monkeypatch.setattr(module, "_fit_once", attempt)
    return made


def _fit(max_failures: int) -> list[str]:
    events: list[dict[str, Any]] = []
    recipe = Recipe.model_validate({"train": {"workers": 2, "max_failures": max_failures}})
    fit_with_ray(recipe, events.append, threads=1)
    return [e["text"] for e in events]


def test_started_again_as_often_as_the_setting_says(failures: list[Exception]) -> None:
    failures += [RuntimeError("the actor died"), RuntimeError("the actor died")]
    assert _fit(2) == [
        f"a worker died; training is started again from the last checkpoint ({n} of 2)" for n in (1, 2)
    ]
    assert failures == []


def test_workers_that_do_not_start_count_as_well(failures: list[Exception]) -> None:
    failures += [ray.train.ControllerError(RuntimeError(f"a node is gone\nno. {n}")) for n in range(2)]
    assert _fit(2) == [
        f"the workers did not start; training is started again from the last checkpoint ({n} of 2)"
        for n in (1, 2)
    ]
    failures += [ray.train.ControllerError(RuntimeError("a node is gone\nno. 3"))]
    with pytest.raises(
        RayCxrError, match=r"failed 1 time, the last time with: no\. 3; nothing saved is lost"
    ):
        _fit(0)


@pytest.mark.parametrize("allowed", [0, 2])
def test_once_more_ends_by_a_sentence_that_says_how_to_go_on(failures: list[Exception], allowed: int) -> None:
    failures += [RuntimeError(f"all is said below\nno. {n}") for n in range(5)]
    with pytest.raises(RayCxrError) as caught:
        _fit(allowed)
    assert caught.value.exit_code == 1 and len(failures) == 4 - allowed
    assert caught.value.message == (
        f"training failed {'1 time' if allowed == 0 else '3 times'}, the last time with: no. {allowed}; nothing saved is lost, the same command "
        "goes on from the last checkpoint."
    )


def test_what_a_user_must_mend_is_told_at_once(failures: list[Exception]) -> None:
    failures += [InputError("stream.batch_size: too large."), RuntimeError("never comes")]
    with pytest.raises(InputError, match="too large"):
        _fit(2)
    assert len(failures) == 1


def test_a_training_that_moves_has_not_failed(failures: list[Exception]) -> None:
    failures += [MovedError("the cluster has room for 3 workers") for _ in range(3)] + [RuntimeError("no. 4")]
    assert _fit(1) == [
        *["the cluster has room for 3 workers: training has saved and moves"] * 3,
        "a worker died; training is started again from the last checkpoint (1 of 1)",
    ]


class _Context:
    def __init__(self, actor: str | None) -> None:
        self.get_actor_id = lambda: actor


@pytest.mark.parametrize(
    ("address", "actor", "cleaner"), [("", None, False), ("", "a trial", True), ("cluster:6379", None, True)]
)
def test_rays_callbacks_without_a_use_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, actor: str | None, cleaner: bool
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: _Context(actor))
    config = ray.train.RunConfig(storage_path=str(tmp_path))
    trainer = module._Trainer(
        lambda: None, scaling_config=ray.train.ScalingConfig(num_workers=1), run_config=config
    )
    ours = {type(c) for c in trainer._create_default_callbacks()}
    rays = {type(c) for c in super(module._Trainer, trainer)._create_default_callbacks()}
    left_out = {"DatasetsCallback"} if cleaner else {"DatasetsCallback", "PlacementGroupCleanerCallback"}
    assert {t.__name__ for t in rays - ours} == left_out and ours < rays
