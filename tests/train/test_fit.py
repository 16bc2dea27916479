"""The loop in this process: artifacts, resuming, exactness. With Ray workers: tests/test_end_to_end.py."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError, RefusedError
from ray_cxr.job import Job
from ray_cxr.metrics import metrics_by_finding
from ray_cxr.model.saved import load_model
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.storage import Folder
from ray_cxr.train.alone import alone
from ray_cxr.train.fit import fit
from ray_cxr.train.run import LOCK


def run(job: Job) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    fit(job, to_yaml(job), events.append)
    return events


def history(out: str) -> list[dict[str, Any]]:
    """Without what is measured in time."""
    lines = [json.loads(line) for line in (Path(out) / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(nih_job: Callable[..., Job], nih_dataset: str) -> Job:
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=3")
    run(job)
    return job


def test_a_run_holds_what_is_promised(undisturbed: Job) -> None:
    out = Path(undisturbed.out)
    lines = history(undisturbed.out)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["films"] for line in lines] == [
        open_dataset(undisturbed.dataset, ()).manifest["splits"]["train"]["images"]
    ] * 3
    assert lines[0]["exposure"]["Pneumonia"]["positives"] > 100
    metrics = json.loads((out / "metrics.json").read_text())
    best = max(lines, key=lambda line: line["mean_auroc"])
    assert metrics["split"] == "validation"
    assert metrics["mean_auroc"] == best["mean_auroc"]
    assert metrics["epoch"] == best["epoch"]
    predictions = pd.read_parquet(out / "predictions-validation.parquet")
    dataset = open_dataset(undisturbed.dataset, ())
    expected = dataset.index.loc[dataset.rows("validation"), "image_id"]
    assert predictions["image_id"].tolist() == expected.tolist()
    findings = dataset.findings
    again = metrics_by_finding(
        predictions[[f"label_{f}" for f in findings]].to_numpy(),
        predictions[[f"prob_{f}" for f in findings]].to_numpy(),
        findings,
    )
    assert again["auroc"] == metrics["auroc"]
    assert json.loads((out / "environment.json").read_text())["workers"] == 1


def test_the_loss_falls_and_the_plan_differs_by_epoch(undisturbed: Job) -> None:
    lines = history(undisturbed.out)
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert len({line["plan"] for line in lines}) == 3


def test_training_never_opens_the_test_split(
    nih_job: Callable[..., Job], nih_dataset: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(nih_dataset, tmp_path / "dataset")
    shutil.rmtree(copy / "shards/test")
    job = nih_job(f"dataset={copy}", "train.epochs=1")
    run(job)
    assert (Path(job.out) / "best/model.safetensors").exists()


def test_storage_that_fails_for_a_while_is_waited_for_and_counted(
    undisturbed: Job, nih_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of the first readings of shards time out; the run is as if none had."""
    opened, left = Folder.open, [TimeoutError("no answer")] * 3

    def open_or_fail(self: Folder, name: str, **how: Any) -> Any:
        if left and name.startswith("shards/train/"):
            raise left.pop()
        return opened(self, name, **how)

    monkeypatch.setattr(Folder, "open", open_or_fail)
    monkeypatch.setattr("ray_cxr.stream.read.RETRY_AFTER_S", (0.0, 0.0, 0.0))
    job = nih_job(f"dataset={undisturbed.dataset}", "train.epochs=3")
    run(job)
    lines, calm = history(job.out), history(undisturbed.out)
    assert [line.pop("storage_retries") for line in lines] == [3, 3, 3]
    assert [line.pop("storage_retries") for line in calm] == [0, 0, 0]
    assert lines == calm


def test_the_same_job_twice_gives_the_same_model(
    undisturbed: Job, nih_job: Callable[..., Job], nih_dataset: str
) -> None:
    again = nih_job(f"dataset={nih_dataset}", "train.epochs=3")
    run(again)
    files = [Path(j.out) / "best/model.safetensors" for j in (undisturbed, again)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_micro_batches_change_nothing(
    undisturbed: Job, nih_job: Callable[..., Job], nih_dataset: str
) -> None:
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=3", "train.accumulate=3")
    run(job)
    for a, b in zip(history(undisturbed.out), history(job.out), strict=True):
        assert a["plan"] == b["plan"]
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-5)


KILLED = """
import sys
from ray_cxr.config import read_settings, to_yaml
from ray_cxr.job import Job
from ray_cxr.train.fit import fit
job = read_settings(Job, sys.argv[1])
fit(job, to_yaml(job), lambda event: None)
"""


@pytest.mark.parametrize("epochs_before_the_kill", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_and_started_again_ends_as_never_killed(
    undisturbed: Job,
    nih_job: Callable[..., Job],
    nih_dataset: str,
    tmp_path: Path,
    epochs_before_the_kill: int,
) -> None:
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=3")
    (tmp_path / "job.yaml").write_text(to_yaml(job))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "job.yaml")])
    checkpoints = Path(job.out) / "checkpoints"
    while len(list(checkpoints.glob("*/complete.json"))) < epochs_before_the_kill:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    events = run(job)
    resumed_at = [e["epoch"] for e in events if e["kind"] == "epoch"]
    assert resumed_at == [1, 2, 3][epochs_before_the_kill:]
    assert history(job.out) == history(undisturbed.out)
    for name in ("best/model.safetensors", "predictions-validation.parquet", "metrics.json"):
        assert (Path(job.out) / name).read_bytes() == (Path(undisturbed.out) / name).read_bytes()


def test_a_finished_run_is_not_trained_again(undisturbed: Job) -> None:
    (told,) = [e for e in run(undisturbed) if e["kind"] != "note"]
    assert told["kind"] == "resumed" and [line["epoch"] for line in told["history"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda run: shutil.rmtree(run / "best"), r"lost what it kept of epoch \d \(.*no trained model"),
        (lambda run: (run / "best/model.safetensors").write_bytes(b"x"), "is not the file that model.json describes"),
        (lambda run: (run / "metrics.json").unlink(), "metrics.json is missing"),
    ],
)  # fmt: skip
def test_a_finished_run_that_lost_its_model_says_so(
    undisturbed: Job, nih_job: Callable[..., Job], harm: Callable[[Path], None], says: str
) -> None:
    job = nih_job(f"dataset={undisturbed.dataset}", "train.epochs=3")
    shutil.copytree(undisturbed.out, job.out, dirs_exist_ok=True)
    run(job)
    harm(Path(job.out))
    with pytest.raises(RefusedError, match=says):
        run(job)


def test_another_job_in_the_same_directory_is_refused(undisturbed: Job, nih_job: Callable[..., Job]) -> None:
    def other(*overrides: str) -> Job:
        return nih_job(
            f"dataset={undisturbed.dataset}", "train.epochs=3", f"out={undisturbed.out}", *overrides
        )

    with pytest.raises(RefusedError, match=r"train\.learning_rate was 0\.001, now 0\.01"):
        run(other("train.learning_rate=0.01"))
    with pytest.raises(RefusedError, match="seed was 0, now 1"):
        run(other("seed=1"))


def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(
    undisturbed: Job, nih_job: Callable[..., Job], tmp_path: Path
) -> None:
    copy = shutil.copytree(undisturbed.out, tmp_path / "run")
    newest = sorted((copy / "checkpoints").iterdir())[-1] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    job = nih_job(f"dataset={undisturbed.dataset}", "train.epochs=3", f"out={copy}")
    events = run(job)
    assert any("incomplete or damaged" in e["text"] for e in events if e["kind"] == "note")
    assert [e["epoch"] for e in events if e["kind"] == "epoch"] == [3]
    assert history(str(copy)) == history(undisturbed.out)


def test_where_no_checkpoint_is_whole_training_begins_anew_and_says_so(
    undisturbed: Job, nih_job: Callable[..., Job], tmp_path: Path
) -> None:
    copy = shutil.copytree(undisturbed.out, tmp_path / "run")
    for weights in (copy / "checkpoints").glob("*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-10])
    job = nih_job(f"dataset={undisturbed.dataset}", "train.epochs=3", f"out={copy}")
    events = run(job)
    assert "no whole checkpoint is left: training begins anew" in [
        e["text"] for e in events if e["kind"] == "note"
    ]
    assert [e["epoch"] for e in events if e["kind"] == "epoch"] == [1, 2, 3]
    assert history(str(copy)) == history(undisturbed.out)


def test_a_finding_without_positives_is_refused_by_name(
    nih_job: Callable[..., Job], nih_dataset: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'Consolidatio' is not in the data set"):
        run(nih_job(f"dataset={nih_dataset}", "findings=[Consolidatio]"))


def test_findings_can_be_chosen_and_a_frozen_trunk_stays(
    nih_job: Callable[..., Job], nih_dataset: str
) -> None:
    job = nih_job(
        f"dataset={nih_dataset}", "findings=[Mass,Effusion]", "model.freeze_depth=head", "train.epochs=1"
    )
    run(job)
    model, card = load_model(Folder(job.out) / "best")
    assert card.findings == ["Mass", "Effusion"]
    assert model.findings == 2


def test_too_deep_a_freeze_and_unknown_backbones_are_told(
    nih_job: Callable[..., Job], nih_dataset: str
) -> None:
    with pytest.raises(
        InputError, match=r"model\.freeze_depth: got 99, but test_convnext has \d stages \(1: stem"
    ):
        run(nih_job(f"dataset={nih_dataset}", "model.freeze_depth=99"))
    with pytest.raises(InputError, match="did you mean resnet34"):
        run(nih_job(f"dataset={nih_dataset}", "model.backbone=resnet-34"))
    with pytest.raises(InputError, match="at most 16 workers"):
        run(nih_job(f"dataset={nih_dataset}", "train.workers=17"))


def test_a_single_film_before_batch_norm_is_told(nih_job: Callable[..., Job], nih_dataset: str) -> None:
    job = nih_job(
        f"dataset={nih_dataset}", "model.backbone=resnet18", "stream.image_px=32", "stream.batch_size=1"
    )
    with pytest.raises(InputError, match=r"stream\.batch_size: a step of 1 films leaves one film"):
        run(job)


def test_a_directory_with_other_things_is_no_place_for_a_run(
    nih_job: Callable[..., Job], nih_dataset: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something that is no run"):
        run(nih_job(f"dataset={nih_dataset}", f"out={tmp_path}"))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_second_command_at_the_same_run_is_refused_and_changes_nothing(
    nih_job: Callable[..., Job], nih_dataset: str, tmp_path: Path
) -> None:
    job = nih_job(f"dataset={nih_dataset}", f"out={tmp_path / 'run'}", "train.epochs=1")
    with (
        alone(Folder(job.out), LOCK, "it"),
        pytest.raises(RefusedError, match="another process is at work on"),
    ):
        run(job)
    assert [p.name for p in Path(job.out).iterdir()] == [LOCK]
    run(job)
    assert len((Path(job.out) / "history.jsonl").read_text().splitlines()) == 1


def test_a_resampled_run_from_the_cache_is_the_run_from_the_shards(
    nih_job: Callable[..., Job], nih_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_CXR_CACHE_DIR", str(tmp_path))
    settings = (
        f"dataset={nih_dataset}", "train.epochs=1", "stream.resampling=balanced", "stream.target=Pneumonia",
    )  # fmt: skip
    plain, cached = nih_job(*settings), nih_job(*settings, "stream.cache=node")
    run(plain)
    run(cached)
    (line,) = history(plain.out)
    assert history(cached.out) == [line]
    shown = line["exposure"]["Pneumonia"]
    assert abs(shown["positives"] - shown["negatives"]) <= 1
    assert (
        shown["films"] <= open_dataset(nih_dataset, ()).manifest["splits"]["train"]["positives"]["Pneumonia"]
    )
    assert shown["patients"] <= shown["films"]
    assert not any(Path(tmp_path).rglob("*.films"))
