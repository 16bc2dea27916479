"""`explore`: its arguments, its one JSON object, its exit codes."""

import json
from pathlib import Path

import pytest

from ray_cxr.cli.main import run
from ray_cxr.storage import Folder

JOB = "source: {kind: phantom, patients: 40}\ndataset: data\nout: run\nshards: {image_px: 64, engine: threads}\nstream: {image_px: 64}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "job.yaml").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_before_prepare_and_after(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["explore", "job.yaml", "--films", "8", "--json"]) == 0
    before = json.loads(capfd.readouterr().out)
    assert before["prepared"] is False
    assert before["title"] == "job"
    assert before["report"] == str(here / "data-explore/index.html")
    assert json.loads((here / "data-explore/explore.json").read_text())["rows"] == before["rows"]
    assert not (here / "data").exists()
    assert run(["prepare", "job.yaml"]) == 0
    told = sorted(p.name for p in (here / "data").iterdir())
    capfd.readouterr()
    assert run(["explore", "data", "--films", "0", "--out", "page", "--json"]) == 0
    after = json.loads(capfd.readouterr().out)
    assert after["prepared"] is True
    assert after["overall"] == before["overall"]
    assert after["splits"] == before["splits"]
    assert sorted(p.name for p in (here / "data").iterdir()) == told, "the data set is left as it is"
    assert run(["explore", "job.yaml", "--films", "0"]) == 0
    said = capfd.readouterr().out
    assert "Cardiomegaly" in said
    assert "data-explore/index.html" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "neither a job file nor a prepared data set"),
        (["."], "neither a job file nor a prepared data set"),
        (["memory://nothing"], "neither a job file nor a prepared data set"),
        (["job.yaml", "split.tset=3"], "did you mean split.test?"),
        (["job.yaml", "--films", "3", "model.backbone=resnet1"], "which is no timm model"),
        (["job.yaml", "--out", "job.yaml", "--films", "0"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(here: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:  # fmt: skip
    assert run(["explore", *arguments]) == 2
    told = capfd.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_settings_are_a_jobs(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "set").mkdir()
    (here / "set/manifest.json").write_text("{}")
    assert run(["explore", "set", "seed=3"]) == 2
    assert "is a setting of a job" in capfd.readouterr().err


def test_a_data_set_at_a_url(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["prepare", "job.yaml", "dataset=memory://drawn"]) == 0
    capfd.readouterr()
    assert run(["explore", "memory://drawn", "--films", "5", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["report"] == "memory://drawn-explore/index.html"
    assert told["original_sizes"] == [{"width": 64, "height": 64, "images": told["rows"]}]
    assert b"<html" in Folder("memory://drawn-explore").read_bytes("index.html")
