"""`compare`: runs and files of predictions, exit codes, what differs, and the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_cxr.cli.main import run

FILMS = 160


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs as `evaluate` leaves them (the third on other films), and the predictions of the first two as CSV."""
    monkeypatch.chdir(tmp_path)
    for name, signal, seed, fraction in (("a", 3.0, 0, 0.2), ("b", 0.5, 0, 0.2), ("c", 2.0, 1, 0.3)):
        _run(Path(name), signal, seed, fraction)
    truth = pd.read_parquet("a/predictions-test.parquet")
    truth[["image_id", "patient_id"]].assign(Mass=truth["label_Mass"].astype(int)).to_csv(
        "truth.csv", index=False
    )
    few = pd.read_csv("truth.csv")
    few["Mass"] = (np.arange(FILMS) < 6).astype(int)  # three patients
    few.to_csv("few.csv", index=False)
    for name in "ab":
        pd.read_parquet(f"{name}/predictions-test.parquet")[["image_id", "prob_Mass"]].to_csv(
            f"{name}.csv", index=False
        )
    return tmp_path


def _run(place: Path, signal: float, seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.random(FILMS) < 0.4).astype(np.float32)
    scores = 1 / (1 + np.exp(-(truth * signal + np.random.default_rng(int(10 * signal)).normal(size=FILMS))))
    place.mkdir()
    pd.DataFrame(
        {
            "image_id": [f"{seed}-film-{n}.png" for n in range(FILMS)],
            "patient_id": [f"patient-{n // 2}" for n in range(FILMS)],
            "prob_Mass": scores, "label_Mass": truth,
        }
    ).to_parquet(place / "predictions-test.parquet")  # fmt: skip
    metrics = {
        "split": "test",
        "protocol": "sampled",
        "fingerprint": f"{seed}" * 64,
        "test_openings": 1 + seed,
    }
    (place / "metrics.json").write_text(json.dumps(metrics))
    (place / "config.yaml").write_text(
        f"split: {{method: sampled, test: {fraction}, minority_floor: null}}\n"
    )


def _answer(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run(["compare", *arguments, "--draws", "100", "--json"]) == code
    said = json.loads(capfd.readouterr().out)
    assert isinstance(said, dict)
    return said


def test_two_runs_of_one_protocol(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answer = _answer(capfd, "a", "b", "--out", "out")
    assert [m["name"] for m in answer["models"]] == ["a", "b"]
    assert answer["models"][0]["protocol"]["split.test"] == 0.2
    assert answer["models"][0]["test_openings"] == 1
    pair = answer["pairs"][0]
    assert pair["auroc_difference"]["interval"][0] > 0
    assert pair["p_holm"] < 0.001
    assert json.loads(Path("out/comparison.json").read_text())["pairs"] == answer["pairs"]
    page = Path("out/index.html").read_text()
    assert "a has the higher mean AUROC than b" in page
    assert "0-film-" not in page
    assert "patient-" not in page


def test_files_give_what_runs_give(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = _answer(capfd, "a", "b")
    files = _answer(capfd, "a.csv", "b.csv", "--labels", "truth.csv")
    assert files["pairs"][0]["p"] == pytest.approx(runs["pairs"][0]["p"])
    mixed = _answer(capfd, "a", "b.csv", "--labels", "truth.csv")
    assert mixed["pairs"][0]["p"] == pytest.approx(runs["pairs"][0]["p"])


def test_across_protocols_is_refused_and_says_what_differs(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = _answer(capfd, "a", "c", code=3)
    said, *lines = refused["error"].splitlines()
    assert "--across-protocols" in said
    assert [line.split(":")[0].strip() for line in lines] == ["films", "fingerprint", "split.test"]
    assert lines[1:] == ["  fingerprint: 000000000000 / 111111111111", "  split.test: 0.2 / 0.3"]
    told = _answer(capfd, "a", "c", "--across-protocols")
    assert told["common_films"] == 0
    assert told["pairs"] == []
    assert "split.test" in told["protocol_differences"]
    assert run(["compare", "a", "c", "--across-protocols", "--draws", "100"]) == 0
    said = capfd.readouterr().out
    assert "compared across protocols" in said
    assert "on all its own films and labels, so not to be held against each other" in said
    assert "The models have no film in common, so nothing can be tested." in said
    mixed = _answer(capfd, "a", "b.csv", "--labels", "few.csv", code=3)
    assert [line.split(":")[0].strip() for line in mixed["error"].splitlines()[1:]] == ["labels", "protocol"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "give two or more"),
        (["a", "a"], "given 2 times"),
        (["a", "nowhere"], "nowhere"),
        (["a", "b", "--split", "train"], "allowed are test and validation"),
        (["a", "b", "--split", "validation"], "has no predictions-validation.parquet"),
        (["a", "."], "holds no run"),
        (["a.csv", "b.csv"], "--labels"),
    ],
)
def test_mistakes_are_told(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in _answer(capfd, *arguments, code=2)["error"]


def test_a_person_reads_tables(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "a", "b", "--draws", "100"]) == 0
    said = capfd.readouterr().out
    assert "a minus b: AUROC on the 160 films of all" in said
    assert "a has the higher mean AUROC than b" in said


def test_three_positive_patients_make_no_p(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answer = _answer(capfd, "a.csv", "b.csv", "--labels", "few.csv", "--out", "out")
    (pair,) = answer["pairs"]
    assert (pair["p"], pair["p_holm"], pair["auroc_difference"]["interval"]) == (None, None, None)
    assert pair["untested"] == "too few"
    assert answer["too_few"] == {"Mass": {"positive_patients": 3, "negative_patients": 77}}
    assert run(["compare", "a.csv", "b.csv", "--labels", "few.csv", "--draws", "100"]) == 0
    said = capfd.readouterr().out
    assert "too few" in said
    assert "Mass (3 positive)" in said
    assert "No finding has enough patients among the common films, so nothing can be tested." in said
