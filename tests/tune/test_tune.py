"""`tune` as a whole: what is refused before it starts, and what a search leaves behind."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import save_file

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError, RayCxrError, RefusedError
from ray_cxr.job import Job, load_job
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.shards.lock import locked
from ray_cxr.storage import Folder
from ray_cxr.torch_compat import timm
from ray_cxr.train.run import write_history
from ray_cxr.tune.search import Search
from ray_cxr.tune.tune import open_search, search
from tests.tune.conftest import Player, line

Make = Callable[..., Job]
RATE = {"train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


def silent(event: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"train.learning_rat": {"choices": [1]}}, "train.learning_rat: unknown setting; did you mean train.learning_rate?"),
        ({"train": {"choices": [1]}}, r"train is a group of settings; name one of them, as train\."),
        ({"shards.image_px": {"choices": [64]}}, "shards.image_px is settled when the data set is prepared"),
        ({"tune.trials": {"choices": [64]}}, "tune.trials says how to search"),
        ({"out": {"choices": ["a"]}}, "out cannot be searched, since each trial has a directory of its own"),
        ({"train.workers": {"choices": [0, 1]}}, "train.workers cannot be searched, since it changes where and how fast"),
        ({"train.epochs": {"choices": [1], "when": {"model.depth": 0}}}, "the `when` of train.epochs: model.depth: unknown"),
        ({"train.epochs": {"choices": [1], "when": {"model.freeze_depth": 3}}}, "drawn when model.freeze_depth is 3, which no trial has"),
        ({"model.backbone": {"choices": ["test_convnxt"]}}, "no trial could run with model.backbone=test_convnxt"),
        ({"model.freeze_depth": {"choices": [0, 40]}}, r"no trial could run with model.freeze_depth=40: .*met with the job's own"),
        ({"train.learning_rate": {"choices": [0.1, -1]}}, "no trial could run with train.learning_rate=-1"),
        ({"train.learning_rate": {"low": 0.0, "high": 0.1}}, "no trial could run with train.learning_rate=0"),
        ({"stream.image_px": {"choices": [32, 16]}}, "no trial could run with stream.image_px=16"),
        ({"stream.target": {"choices": ["Hernia"]}, "stream.resampling": {"choices": ["oversample"]}}, "no trial could run with stream.target=Hernia"),
        ({"stream.resampling_strength": {"low": 0.1, "high": 1.0}}, "changes nothing where stream.resampling is none or balanced"),
        ({"train.head_learning_rate": {"low": 0.1, "high": 1.0}, "model.freeze_depth": {"choices": ["head"]}}, "changes nothing where model.freeze_depth is head"),
    ],
)  # fmt: skip
def test_a_space_that_no_trial_could_run_in_is_refused(
    tune_job: Make, space: dict[str, Any], sentence: str
) -> None:
    job = tune_job(space=space)
    with pytest.raises(InputError, match=sentence):
        search(job, to_yaml(job), silent)
    assert not Path(job.out).exists(), "nothing was started"


def test_a_refusal_names_the_settings_of_a_trial_that_would_meet_it(tune_job: Make) -> None:
    space = {
        "model.backbone": {"choices": ["test_convnext", "test_vit"]},
        # 16 px patches: 40 px cannot be cut into them.
        "stream.image_px": {"choices": [32, 40], "when": {"model.backbone": "test_vit"}},
    }
    job = tune_job(space=space)
    with pytest.raises(InputError, match=r"stream.image_px=40: .*\(met with model.backbone=test_vit\)"):
        search(job, to_yaml(job), silent)


def test_a_value_that_some_trials_can_have_is_kept_for_them(tune_job: Make) -> None:
    space = {
        "model.backbone": {"choices": ["test_convnext", "test_vit"]},
        "stream.image_px": {"choices": [32, 40]},
    }
    running = open_search(tune_job("tune.trials=30", "tune.sampler=random", space=space), silent)
    drawn = [plan.settings for _ in range(20) if (plan := running.next()) is not None]
    sides = {b: {d["stream.image_px"] for d in drawn if d["model.backbone"] == b} for b in ("test_vit", "test_convnext")}  # fmt: skip
    assert sides == {"test_vit": {32}, "test_convnext": {32, 40}}


def test_the_shipped_space_can_be_searched(tune_job: Make) -> None:
    job = tune_job("tune.recipes=true", "tune.trials=12")
    running = open_search(job, silent)
    drawn = [plan.settings for _ in range(12) if (plan := running.next()) is not None]
    assert len(drawn) == 12
    origins = [t.user_attrs["origin"] for t in running.study.trials]
    assert origins[0] == "recipe:job"
    assert "recipe:resnet18-from-nothing" in origins
    for settings in drawn:
        assert ("stream.resampling_strength" in settings) == (
            settings["stream.resampling"] not in ("none", "balanced")
        )
        if settings["model.weights"] == "none":
            assert "train.head_learning_rate" not in settings
    assert {
        "model.backbone",
        "stream.resampling",
        "loss.kind",
        "train.learning_rate",
        "stream.image_px",
    } <= set(drawn[0])


def test_what_no_trial_could_have_is_left_out_of_the_shipped_space(tune_job: Make, tmp_path: Path) -> None:
    """A file of weights keeps the backbone, whose five groups do not reach to the deepest of the usual depths."""
    save_file(timm.create_model("test_resnet", num_classes=1).state_dict(), tmp_path / "w.safetensors")
    job = tune_job("model.backbone=test_resnet", f"model.weights={tmp_path / 'w.safetensors'}", space={})
    notes: list[str] = []
    running = open_search(job, lambda event: notes.append(event.get("text", "")))
    (depths,) = running.space.parameters["model.freeze_depth"]
    assert depths.choices == [0, 2, 4, "head"]
    assert "model.backbone" not in running.space.parameters
    assert [note.partition(":")[2][:50] for note in notes] == [
        " no trial could run with model.freeze_depth=6: mod"
    ]


@pytest.fixture
def ended_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in this process, without training: better with a higher learning rate."""

    def run(running: Search, show: Callable[[dict[str, Any]], None]) -> None:
        player = Player(load_job(None, []), lambda plan, epoch: 0.5 + plan.recipe.train.learning_rate)
        player.play(running)

    monkeypatch.setattr("ray_cxr.tune.ray_search.run_on_ray", run)


@pytest.mark.usefixtures("ended_here")
def test_what_a_search_leaves_behind(tune_job: Make) -> None:
    job = tune_job("tune.trials=6", space=RATE)
    summary = search(job, to_yaml(job), silent)
    out = Path(job.out)
    frame = pd.read_parquet(out / "trials.parquet")
    best = frame.loc[frame[frame["state"] == "complete"]["objective:mean_auroc"].idxmax()]
    assert summary["winner"]["number"] == best["number"]
    assert json.loads((out / "summary.json").read_text()) == summary
    assert sum(summary["states"].values()) == 6
    recipe = load_job(out / "best.yaml")
    assert recipe.train.learning_rate == json.loads(best["param:train.learning_rate"])
    assert recipe.out == str(out / f"final-{best['number']:05d}")
    assert recipe.stream.cache == job.stream.cache
    assert "tune" not in yaml.safe_load((out / "best.yaml").read_text())
    kept = load_job(out / "config.yaml")
    assert kept.tune.space == job.tune.space
    assert (out / "journal.log").stat().st_size > 0
    trained = [json.loads(row) for row in (out / "trials/00000/history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in trained] == [1, 2, 3]


@pytest.mark.usefixtures("ended_here")
def test_another_job_in_the_same_directory_is_refused(tune_job: Make) -> None:
    job = tune_job("tune.trials=2", space=RATE)
    search(job, to_yaml(job), silent)
    other = tune_job("tune.trials=2", "loss.kind=focal", space=RATE)
    with pytest.raises(RefusedError, match=r"another job \(loss.kind was 'weighted_bce', now 'focal'\)"):
        search(other, to_yaml(other), silent)
    more = tune_job("tune.trials=4", space=RATE)
    assert search(more, to_yaml(more), silent)["compared"] == 4


def test_a_directory_of_something_else_is_refused(tune_job: Make) -> None:
    job = tune_job(space=RATE)
    Path(job.out).mkdir()
    (Path(job.out) / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something that is no search"):
        search(job, to_yaml(job), silent)


def test_where_every_trial_fails_the_reasons_are_told(
    tune_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(running: Search, show: Callable[[dict[str, Any]], None]) -> None:
        while (plan := running.next()) is not None:
            running.fail(plan.number, "the loss is not finite" if plan.number < 2 else "out of memory")

    monkeypatch.setattr("ray_cxr.tune.ray_search.run_on_ray", run)
    job = tune_job("tune.trials=9", "tune.max_failed=3", space=RATE)
    with pytest.raises(RayCxrError, match=r"3 trials failed.*max_failed=3.*\n  2 × the loss is not finite\n  1 × out of memory") as caught:  # fmt: skip
        search(job, to_yaml(job), silent)
    assert caught.value.exit_code == 1
    assert json.loads((Path(job.out) / "summary.json").read_text())["failures"] == {
        "the loss is not finite": 2,
        "out of memory": 1,
    }


@pytest.mark.usefixtures("ray_cluster")
def test_a_search_never_needs_the_test_split(tune_job: Make, drawn_dataset: str, tmp_path: Path) -> None:
    """Trained for real, under Ray, with the test films deleted; the winner's `best.yaml` is the recipe of its trial."""
    dataset = tmp_path / "dataset"
    shutil.copytree(drawn_dataset, dataset)
    shutil.rmtree(dataset / "shards/test")
    space = {**RATE, "stream.resampling": {"choices": ["none", "class_aware"]}}
    job = tune_job(f"dataset={dataset}", "tune.trials=4", "train.epochs=2", "tune.concurrency=2", space=space)
    summary = search(job, to_yaml(job), silent)
    out = Path(job.out)
    frame = pd.read_parquet(out / "trials.parquet")
    assert set(frame["state"]) <= {"complete", "pruned"}
    winner = frame.loc[summary["winner"]["number"]]
    metrics = json.loads((out / winner["run"] / "metrics.json").read_text())
    assert metrics["split"] == "validation"
    assert metrics["mean_auroc"] == pytest.approx(winner["objective:mean_auroc"])
    predictions = pd.read_parquet(out / winner["run"] / "predictions-validation.parquet")
    opened = open_dataset(str(dataset), ("train", "validation"))
    films = opened.index.loc[opened.rows("validation"), "image_id"]
    assert predictions["image_id"].tolist() == films.tolist()
    assert summary["winner"]["interval"] is not None
    low, high = summary["winner"]["interval"]
    assert low < summary["winner"]["value"] < high
    trained = yaml.safe_load((out / winner["run"] / "config.yaml").read_text())
    best = load_job(out / "best.yaml")
    assert best.train.learning_rate == trained["train"]["learning_rate"]
    assert not (out / winner["run"] / "checkpoints").exists()
    seconds = np.array([e["seconds"]["train"] for e in map(json.loads, (out / winner["run"] / "history.jsonl").read_text().splitlines())])  # fmt: skip
    assert winner["train_seconds"] >= seconds.sum()


def test_lines_of_a_history_that_are_known_change_nothing(tune_job: Make) -> None:
    running = open_search(tune_job("tune.trials=2", space=RATE), silent)
    plan = running.next()
    assert plan is not None
    write_history(Folder(plan.recipe.out), [line(1, 0.6)])
    for _ in range(3):
        assert not running.report(plan.number, line(1, 0.6))
    assert running.study.trial(plan.number).intermediate_values == {1: 0.6}


RATE_ITSELF = {"train.learning_rate": {"low": 0.001, "high": 0.1, "when": {"train.learning_rate": 0.1}}}


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (RATE_ITSELF, "train.learning_rate → train.learning_rate wait for each other"),
        ({"train.epochs": {"low": 1, "high": 3}}, "^tune.space: train.epochs has whole numbers only; add int: true to its range from 1 to 3"),
        (
            {
                "stream.resampling": [
                    {"choices": ["oversample"], "when": {"model.backbone": "test_vit"}},
                    {"choices": ["none"], "when": {"model.backbone": "test_convnext"}},
                ],
                "model.backbone": {"choices": ["test_vit", "test_convnext"]},
                "loss.kind": {"choices": ["bce"], "when": {"stream.resampling": "oversample", "model.backbone": "test_convnext"}},
            },
            "which no trial has",
        ),
    ],
)  # fmt: skip
def test_a_space_that_contradicts_itself_is_refused(
    tune_job: Make, space: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as refused:
        open_search(tune_job(space=space), silent)
    lines = refused.value.message.splitlines()
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        ({"train.accumulate": {"choices": [1, 8]}}, {"stream.batch_size": {"choices": [4, 16]}}),
        ({"train.warmup_epochs": {"choices": [0, 4]}}, {"train.epochs": {"choices": [1, 6]}}),
        ({"train.warmup_epochs": {"choices": [0, 40]}}, {"train.epochs": {"choices": list(range(1, 41))}}),
        ({"model.unfreeze": {"choices": [{}, {2: 0}]}}, {"model.freeze_depth": {"choices": ["head"]}}),
    ],
)
def test_what_depends_on_another_setting_may_stand_before_it(
    tune_job: Make, later: dict[str, Any], earlier: dict[str, Any]
) -> None:
    for space in (later | earlier, earlier | later):
        open_search(tune_job("model.weights=none", "train.epochs=2", space=space), silent)


def test_a_when_may_be_met_in_any_of_its_ways(tune_job: Make) -> None:
    space = {
        "model.backbone": {"choices": ["test_vit", "test_convnext"]},
        "stream.resampling": [
            {"choices": ["oversample"], "when": {"model.backbone": "test_vit"}},
            {"choices": ["class_aware"], "when": {"model.backbone": "test_convnext"}},
        ],
        "loss.kind": {
            "choices": ["bce", "focal"],
            "when": {"stream.resampling": ["oversample", "class_aware"], "model.backbone": "test_convnext"},
        },
    }
    open_search(tune_job(space=space), silent)


def test_a_search_that_runs_is_left_alone(tune_job: Make) -> None:
    job = tune_job(space=RATE)
    with locked(Folder(job.out), "search.lock", silent), pytest.raises(RefusedError) as refused:
        search(job, to_yaml(job), silent)
    assert refused.value.message.startswith(
        f"out: {job.out} is being searched in by process {os.getpid()} on "
    )


def test_a_search_whose_job_is_lost_is_left_alone(tune_job: Make) -> None:
    job = tune_job(space=RATE)
    Folder(job.out).write_bytes("trials.parquet", b"")
    with pytest.raises(RefusedError, match="holds a search without its config.yaml"):
        search(job, to_yaml(job), silent)


def test_a_study_whose_runs_are_elsewhere_is_left_alone(
    player: Callable[..., Player], tmp_path: Path
) -> None:
    storage = f"tune.storage=sqlite:///{tmp_path}/study.db"
    begun = player(lambda *_: 0.6, storage, "tune.trials=3", space=RATE)
    begun.play()
    shutil.rmtree(Path(begun.job.out))
    with pytest.raises(RefusedError, match="trained trials, whose runs are not in"):
        begun.open()
