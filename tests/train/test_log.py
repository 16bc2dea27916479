"""`log.jsonl`: what is in it, and what is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError
from ray_cxr.job import Job
from ray_cxr.storage import Folder
from ray_cxr.train.fit import fit
from ray_cxr.train.log import RunLog, run_id

STEP = {
    "kind": "step",
    "epoch": 1,
    "step": 1,
    "steps": 9,
    "loss": 0.5,
    "images_per_s": 8.0,
    "wait_share": 0.0,
}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_lines_name_the_run_and_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_CXR_JOB", "ray-cxr-train-1a2b3c4d")
    shown: list[dict[str, Any]] = []
    with RunLog(Folder(tmp_path), shown.append) as log:
        log({"kind": "note", "text": "warning: a note"})
        log(STEP)
        log({**STEP, "step": 2})
        log({"kind": "validation", "films": 8, "of": 80})
        log({"kind": "resumed", "epochs": 3, "history": []})
    assert [line["event"] for line in lines(tmp_path)] == ["started", "note", "step", "resumed", "ended"]
    assert {(line["run"], line["job"]) for line in lines(tmp_path)} == {
        (run_id(Folder(tmp_path)), "ray-cxr-train-1a2b3c4d")
    }
    assert [line["level"] for line in lines(tmp_path)] == ["info", "warning", "info", "info", "info"]
    # All is shown, also the step that came too soon after the first to be written.
    assert [event["kind"] for event in shown] == ["note", "step", "step", "validation", "resumed"]


def test_a_run_that_goes_on_adds_to_its_log(tmp_path: Path) -> None:
    for _ in range(2):
        with RunLog(Folder(tmp_path), lambda event: None):
            pass
    assert [line["event"] for line in lines(tmp_path)] == ["started", "ended"] * 2


def test_the_log_of_an_object_store_is_whole(tmp_path: Path) -> None:
    folder = Folder(f"memory://log-{tmp_path.name}")
    for _ in range(2):
        with RunLog(folder, lambda event: None) as log:
            log(STEP)
            log({"kind": "note", "text": "x"})
    events = [json.loads(line)["event"] for line in folder.read_bytes("log.jsonl").splitlines()]
    assert events == ["started", "note", "ended"] * 2


def test_an_error_is_told_by_its_sentence_only_where_it_is_ours(tmp_path: Path) -> None:
    with pytest.raises(InputError), RunLog(Folder(tmp_path), lambda event: None):
        raise InputError("stream.target: no film")
    with pytest.raises(KeyError), RunLog(Folder(tmp_path), lambda event: None):
        raise KeyError("patient 17")
    failed = [line for line in lines(tmp_path) if line["event"] == "failed"]
    assert [line["text"] for line in failed] == ["stream.target: no film", "KeyError"]
    assert {line["level"] for line in failed} == {"error"}


def test_a_training_logs_no_patient_and_no_film(nih_job: Callable[..., Job], nih_dataset: str) -> None:
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=1")
    fit(job, to_yaml(job), lambda event: None)
    written = lines(Path(job.out))
    assert [line["event"] for line in written if line["event"] not in ("step", "note")] == [
        "started", "epoch", "ended",
    ]  # fmt: skip
    assert {line["run"] for line in written} == {run_id(Folder(job.out))}
    index = pd.read_parquet(Path(nih_dataset) / "index.parquet")
    text = (Path(job.out) / "log.jsonl").read_text()
    assert not any(film in text for film in index["image_id"])
    assert not any(f'"{patient}"' in text for patient in index["patient_id"])
