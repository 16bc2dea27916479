"""The run directory: only the job that began a run may go on in it."""

import getpass
import json
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from ray_cxr.config import to_yaml
from ray_cxr.errors import RefusedError
from ray_cxr.job import Job
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.train.checkpoint import TrainState, take_snapshot, write_snapshot
from ray_cxr.train.run import (
    claim_run,
    environment,
    predictions_frame,
    split_metrics,
    write_history,
    write_predictions,
)

FINGERPRINT = "a" * 64
NAN = float("nan")


def _dataset(fingerprint: str = FINGERPRINT) -> Dataset:
    index = pd.DataFrame({"image_id": ["i0", "i1", "i2", "i3"], "patient_id": ["p0", "p0", "p1", "p2"]})
    manifest = {
        "fingerprint": fingerprint, "protocol": "sampled", "findings": ["Mass", "Edema"], "leak_check": {"clean": True},
    }  # fmt: skip
    return Dataset(Folder("memory://no-data-set"), manifest, index)


def _job(out: Path, **changes: object) -> Job:
    return Job.model_validate(
        {"out": str(out), "seed": 3, "train": {"epochs": 4, "learning_rate": 1e-5}, **changes}
    )


def _claim(job: Job, dataset: Dataset | None = None) -> bool:
    return claim_run(job, to_yaml(job), dataset or _dataset())


def _checkpoint(out: Path, fingerprint: str = FINGERPRINT) -> None:
    network = nn.Linear(2, 1)
    state = TrainState(fingerprint, ["Mass", "Edema"], epoch=1, step=5)
    optimizer = torch.optim.AdamW(network.parameters())
    write_snapshot(Folder(out) / "checkpoints", take_snapshot(network, optimizer, state))


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run with a checkpoint."""
    assert _claim(_job(tmp_path)) is False
    _checkpoint(tmp_path)
    return tmp_path


def test_new_run_stores_the_whole_job(tmp_path: Path) -> None:
    job = _job(tmp_path / "new")
    assert _claim(job) is False
    stored = yaml.safe_load((tmp_path / "new" / "config.yaml").read_text())
    assert Job.model_validate(stored) == job


def test_same_job_goes_on(begun: Path) -> None:
    assert _claim(_job(begun)) is True


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"epochs": 4, "learning_rate": 1e-5, "workers": 3, "gpu": False, "max_failures": 9}},
        {"dataset": "another/place/of/the/same"},
    ],
)
def test_where_and_how_fast_may_differ(begun: Path, changes: dict[str, object]) -> None:
    assert _claim(_job(begun, **changes)) is True


def test_run_may_be_moved(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("elsewhere") / "run"
    begun.rename(moved)
    assert _claim(_job(moved)) is True


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 4}, "seed was 3, now 4"),
        ({"train": {"epochs": 5, "learning_rate": 1e-5}}, "train.epochs was 4, now 5"),
        ({"train": {"epochs": 4}}, "train.learning_rate was 1e-05, now 0.001"),
        ({"train": {"epochs": 4, "learning_rate": 1e-5, "sync_batchnorm": True}},
         "train.sync_batchnorm was False, now True"),
        ({"model": {"backbone": "resnet34"}}, "model.backbone was 'resnet18', now 'resnet34'"),
        ({"findings": ["Mass"]}, r"findings was None, now \['Mass'\]"),
        ({"loss": {"kind": "bce"}}, "loss.kind was 'weighted_bce', now 'bce'"),
        ({"stream": {"batch_size": 64, "augmentation": "none"}},
         "stream.augmentation was 'chest-xray', now 'none'; stream.batch_size was 32, now 64"),
    ],
)  # fmt: skip
def test_another_setting_is_refused_by_name(begun: Path, changes: dict[str, object], sentence: str) -> None:
    stored = (begun / "config.yaml").read_bytes()
    with pytest.raises(RefusedError, match=rf"out: .* holds a run of another job \({sentence}\)") as caught:
        _claim(_job(begun, **changes))
    assert caught.value.exit_code == 3
    assert (begun / "config.yaml").read_bytes() == stored


@pytest.mark.parametrize(("now", "goes_on"), [(False, True), (True, False)])
def test_setting_that_an_older_version_did_not_know_was_at_its_default(
    begun: Path, now: bool, goes_on: bool
) -> None:
    stored = yaml.safe_load((begun / "config.yaml").read_text())
    del stored["train"]["sync_batchnorm"]
    (begun / "config.yaml").write_text(yaml.safe_dump(stored))
    job = _job(begun, train={"epochs": 4, "learning_rate": 1e-5, "sync_batchnorm": now})
    if goes_on:
        assert _claim(job) is True
    else:
        with pytest.raises(RefusedError, match=r"train\.sync_batchnorm was False, now True"):
            _claim(job)


def test_another_data_set_is_refused(begun: Path) -> None:
    with pytest.raises(RefusedError, match="the data set has another fingerprint"):
        _claim(_job(begun), _dataset("b" * 64))


def test_settings_of_preparation_are_judged_by_the_fingerprint(begun: Path) -> None:
    assert _claim(_job(begun, split={"test": 0.3}, source={"kind": "phantom", "patients": 50})) is True


def test_run_without_a_whole_checkpoint_may_be_begun_by_another_job(tmp_path: Path) -> None:
    _claim(_job(tmp_path))
    assert _claim(_job(tmp_path, seed=4)) is False
    _checkpoint(tmp_path)
    (tmp_path / "checkpoints" / "step-00000005" / "complete.json").unlink()
    assert _claim(_job(tmp_path, seed=5)) is False


def test_checkpoints_of_another_version_are_not_trained_over(begun: Path) -> None:
    marker = begun / "checkpoints" / "step-00000005" / "complete.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": 1}))
    sentence = r"out: .* holds checkpoints of another version of ray_cxr \(format 1, this one reads 2\)"
    with pytest.raises(RefusedError, match=sentence):
        _claim(_job(begun, train={"epochs": 4, "learning_rate": 1e-5}))


def test_checkpoints_whose_job_is_unknown_are_not_gone_on_from(begun: Path) -> None:
    (begun / "config.yaml").unlink()
    with pytest.raises(RefusedError, match="holds a run of another job"):
        _claim(_job(begun))


def test_environment_names_versions_and_no_person_or_machine() -> None:
    found = environment(2, torch.device("cpu"), 3)
    assert (found["workers"], found["threads_per_worker"], found["device"]) == (2, 3, "cpu")
    assert found["packages"]["torch"] == torch.__version__
    text = json.dumps(found)
    assert socket.gethostname() not in text and str(Path.home()) not in text
    assert f'"{getpass.getuser()}"' not in text


def test_history_is_written_whole_each_time(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    lines = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "auroc": {"Hernia": None}}]
    write_history(run, lines[:1])
    write_history(run, lines)
    assert [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()] == lines


def test_predictions_stand_beside_their_film_and_label(tmp_path: Path) -> None:
    rows, scores = np.array([2, 0]), np.array([[0.25, 0.5], [0.75, 1.0]])
    labels = np.array([[1, NAN], [0, 1]], np.float32)
    frame = predictions_frame(_dataset(), rows, ["Mass", "Edema"], scores, labels)
    write_predictions(Folder(tmp_path), "predictions.parquet", frame)
    back = pd.read_parquet(tmp_path / "predictions.parquet")
    assert back.columns.tolist() == [
        "image_id", "patient_id", "prob_Mass", "prob_Edema", "label_Mass", "label_Edema",
    ]  # fmt: skip
    assert back["image_id"].tolist() == ["i2", "i0"] and back["patient_id"].tolist() == ["p1", "p0"]
    assert back["prob_Edema"].tolist() == [0.5, 1.0] and back["prob_Mass"].dtype == np.float64
    assert np.array_equal(back[["label_Mass", "label_Edema"]].to_numpy(np.float32), labels, equal_nan=True)


def test_metrics_say_of_what_they_are() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 0]], np.float32)
    scores = np.array([[0.9, 0.1], [0.5, 0.2], [0.1, 0.3]])
    metrics = split_metrics("validation", _dataset(), labels, scores, ["Mass", "Edema"])
    assert (metrics["split"], metrics["protocol"], metrics["fingerprint"]) == (
        "validation",
        "sampled",
        FINGERPRINT,
    )
    assert metrics["leak"] == {"clean": True}
    assert metrics["auroc"] == {"Mass": 0.5, "Edema": None} and metrics["mean_auroc"] == 0.5
