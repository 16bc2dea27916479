"""`evaluate` and `predict` give calibrated probabilities unless asked for raw scores; the order of films is the same."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_cxr.cli.main import run
from ray_cxr.config import to_yaml
from ray_cxr.evaluate.evaluate import evaluate_run
from ray_cxr.evaluate.predict import predict
from ray_cxr.job import Job
from ray_cxr.storage import Folder
from ray_cxr.train.fit import fit

FINDINGS = ["Pneumonia", "Infiltration", "Hernia"]


@pytest.fixture(scope="module")
def job(nih_job: Callable[..., Job], nih_dataset: str) -> Job:
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=1", f"findings=[{','.join(FINDINGS)}]")
    fit(job, to_yaml(job), lambda event: None)
    return job


def _silent(*_: object) -> None:
    """Progress that nobody watches."""


def test_calibration_is_stored_and_says_what_it_could_not_do(job: Job) -> None:
    stored = json.loads((Path(job.out) / "best/model.json").read_text())["calibration"]
    assert stored["fitted_on"] == "validation" and list(stored["findings"]) == FINDINGS
    hernia = stored["findings"]["Hernia"]
    assert hernia["method"] == "shift" and "Platt scaling needs 10" in hernia["reason"]
    # Weighted: ln(negatives / positives) of the training films, above 3 with at most 7 hernias among more than 500.
    assert hernia["shift"] > 3
    assert json.loads((Path(job.out) / "metrics.json").read_text())["probabilities"] == "calibrated"


def test_evaluate_calibrates_unless_asked_not_to(job: Job) -> None:
    raw = evaluate_run(Folder(job.out), None, _silent, _silent, raw=True)
    calibrated = evaluate_run(Folder(job.out), None, _silent, _silent)
    assert (raw.metrics["probabilities"], calibrated.metrics["probabilities"]) == ("raw", "calibrated")
    assert calibrated.metrics["auroc"] == pytest.approx(raw.metrics["auroc"], abs=1e-12)
    distance = [
        np.abs(np.nanmean(e.scored.labels, axis=0) - e.scored.scores.mean(0)) for e in (calibrated, raw)
    ]  # of the mean probability from the prevalence
    assert (distance[0] < distance[1]).all()


def test_a_run_is_tested_beside_readers(job: Job, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two readers of half of the test films, of whom one never errs: their figures stand in the run, and in its report."""
    index = pd.read_parquet(Path(job.dataset) / "index.parquet").query("split == 'test'")
    read = index[index["Pneumonia"].notna()].iloc[::2]
    truth = read["Pneumonia"].astype(int)
    tables = [
        pd.DataFrame({"image_id": read["image_id"], "reader": name, "Pneumonia": answer})
        for name, answer in (("anna", truth), ("bert", (truth + (np.arange(len(read)) % 5 == 0)) % 2))
    ]
    pd.concat(tables).to_csv(tmp_path / "readers.csv", index=False)
    command = ["evaluate", job.out, "--readers", str(tmp_path / "readers.csv"), "--draws", "100", "--json"]
    # Labels that equal a reader's answers are taken for his: against these nobody may be measured.
    before = json.loads((Path(job.out) / "metrics.json").read_text())
    assert run([*command, "--no-leave-one-out", "--reference-readers", "anna"]) == 3
    assert (
        json.loads((Path(job.out) / "metrics.json").read_text()) == before
    )  # refused before the test was opened
    capfd.readouterr()
    assert run(command) == 0
    found = json.loads(capfd.readouterr().out)["readers"]
    assert (found["films"], found["films_unread"]) == (len(read), len(index) - len(read))
    assert found["agreement"]["Pneumonia"]["observed"]["value"] == pytest.approx(
        np.mean(np.arange(len(read)) % 5 != 0)
    )
    assert found["reference"]["made_by"] == ["Reader 1"]
    bert = found["model"]["Pneumonia"]["readers"][-1]
    assert bert["name"] == "Reader 2"
    hits = tables[1]["Pneumonia"][truth == 1].mean()
    assert bert["sensitivity"]["value"] == pytest.approx(hits)
    assert json.loads((Path(job.out) / "metrics.json").read_text())["readers"] == found
    page = (Path(job.out) / "report/index.html").read_text()
    assert "The model beside readers" in page
    assert not any(name in page for name in ("anna", *read["image_id"].head(3)))


def test_predict_calibrates_unless_asked_not_to(job: Job, shared_data: Path, tmp_path: Path) -> None:
    films = [str(p) for p in sorted((shared_data / "nih/images").iterdir())[:5]]
    raw, calibrated = (
        predict(Folder(job.out), films, str(tmp_path / "p.csv"), _silent, _silent, raw=choice)
        for choice in (True, False)
    )
    fits = json.loads((Path(job.out) / "best/model.json").read_text())["calibration"]["findings"]
    for finding in FINDINGS:
        fit_, z = fits[finding], np.log(raw[f"prob_{finding}"] / (1 - raw[f"prob_{finding}"]))
        expected = 1 / (1 + np.exp(-(fit_["slope"] * (z - fit_["shift"]) + fit_["intercept"])))
        pd.testing.assert_series_equal(calibrated[f"prob_{finding}"], expected, rtol=1e-6)
