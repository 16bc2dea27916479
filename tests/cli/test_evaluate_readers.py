"""`evaluate --readers`: agreement, consensus, the model beside readers, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_cxr.cli.main import run

FILMS = 120
FINDINGS = ["Mass", "Pleural Effusion"]


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """readers.csv (three readers), truth.csv, predictions.csv (of ten films more), all of 60 patients; the folder is current."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    truth = (rng.random((FILMS, 2)) < 0.4).astype(int)
    ids = [f"film-{n:03d}.png" for n in range(FILMS)]
    patients = [f"patient-{n // 2}" for n in range(FILMS)]
    answers = [
        {"Image ID": ids[n], "Patient ID": patients[n], "Reader ID": reader}
        | {f: {0: "NO", 1: "YES"}[int(truth[n, i] ^ (rng.random() < 0.15))] for i, f in enumerate(FINDINGS)}
        for n in range(FILMS)
        for reader in ("anna", "bert", "cleo")
    ]
    pd.DataFrame(answers).to_csv("readers.csv", index=False)
    pd.DataFrame(
        {"image_id": ids, "patient_id": patients, "Mass": truth[:, 0], "Effusion": truth[:, 1]}
    ).to_csv("truth.csv", index=False)
    scores = truth * 2 + rng.normal(size=truth.shape)
    more = pd.DataFrame(
        {"image_id": [f"more-{n}.png" for n in range(10)], "prob_Effusion": 0.5, "prob_Mass": 0.5}
    )
    known = pd.DataFrame({"image_id": ids, "prob_Effusion": scores[:, 1], "prob_Mass": scores[:, 0]})
    known.to_csv("predictions.csv", index=False)
    pd.concat([known, more]).to_csv("more.csv", index=False)
    return tmp_path


def _answer(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run(["evaluate", *arguments, "--draws", "100", "--json"]) == code
    said = json.loads(capfd.readouterr().out)
    assert isinstance(said, dict)
    return said


def test_readers_alone_give_agreement_and_labels(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answer = _answer(capfd, "--readers", "readers.csv", "--labels", "truth.csv", "--out", "out")
    assert set(answer["readers"]["agreement"]) == set(FINDINGS)
    differing = answer["readers"]["differences"]
    made = pd.read_csv("out/consensus.csv")
    assert list(made.columns) == ["image_id", "patient_id", *FINDINGS]
    truth = pd.read_csv("truth.csv")
    expected = int(((made["Mass"] == 1) & (truth["Mass"] == 0)).sum())
    assert differing["Mass"]["only_ours"] == expected
    # The consensus serves as labels.
    again = _answer(
        capfd, "--predictions", "predictions.csv", "--labels", "out/consensus.csv", "--out", "tested"
    )
    assert again["labelled"]["Mass"] == FILMS


def test_the_readers_make_the_labels_and_each_is_left_out(
    tables: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = _answer(
        capfd, "--predictions", "more.csv", "--readers", "readers.csv", "--margin", "0.1", "--out", "out"
    )
    assert answer["films"] == FILMS
    assert answer["input"]["films_without_labels"] == 10
    readers = answer["readers"]
    assert readers["reference"]["made_by"] == ["Reader 1", "Reader 2", "Reader 3"]
    study = readers["model"]["Effusion"]
    assert [r["left_out_of_the_reference"] for r in study["readers"]] == [True] * 3
    assert study["mean_reader"]["margin"] == 0.1
    stored = json.loads(Path("out/metrics.json").read_text())
    assert stored["readers"] == readers
    page = Path("out/report/index.html").read_text()
    assert "The model beside readers" in page
    for name in ("film-0", "patient-1", "anna"):
        assert name not in page
        assert name not in Path("out/metrics.json").read_text()


def test_labels_that_are_the_readers_own_consensus_are_found_out(
    tables: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _answer(capfd, "--readers", "readers.csv", "--out", "made")
    together = (
        "--predictions",
        "predictions.csv",
        "--labels",
        "made/consensus.csv",
        "--readers",
        "readers.csv",
    )
    answer = _answer(capfd, *together, "--out", "out")
    assert answer["readers"]["reference"]["known_by"].startswith("found")
    refused = _answer(capfd, *together, "--no-leave-one-out", "--out", "out", code=3)
    assert "biased" in refused["error"]


def test_what_is_refused_writes_nothing(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    together = (
        "--predictions",
        "predictions.csv",
        "--readers",
        "readers.csv",
        "--no-leave-one-out",
        "--out",
        "out",
    )
    for more in ((), ("--labels", "truth.csv", "--reference-readers", "anna")):
        assert "these readers made the reference labels" in _answer(capfd, *together, *more, code=3)["error"]
    assert not Path("out").exists()


def test_independent_labels_hold_for_all(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answer = _answer(
        capfd, "--predictions", "predictions.csv", "--labels", "truth.csv", "--readers", "readers.csv",
        "--no-leave-one-out", "--reader-names", "--out", "out",
    )  # fmt: skip
    study = answer["readers"]["model"]["Mass"]
    assert [r["name"] for r in study["readers"]] == ["anna", "bert", "cleo"]
    truth = pd.read_csv("truth.csv").set_index("image_id")["Mass"]
    anna = pd.read_csv("readers.csv").query("`Reader ID` == 'anna'").set_index("Image ID")["Mass"] == "YES"
    assert study["readers"][0]["sensitivity"]["value"] == pytest.approx(anna[truth == 1].mean())
    assert answer["readers"]["differences"] is not None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "or --readers"),
        (["--margin", "0.1", "--predictions", "predictions.csv"], 2, "--margin: there are no --readers"),
        (["--readers", "readers.csv", "--definitive", "CT"], 2, "write FINDING=COLUMN"),
        (["--readers", "readers.csv", "--definitive", "Mass=CT"], 2, "no column 'CT'"),
        (["--readers", "readers.csv", "--remainder", "Other=Abnormal"], 2, "'Other' is no finding"),
        (["--readers", "readers.csv", "--reference-readers", "dora"], 2, "'dora' is no reader"),
        (["--readers", "predictions.csv"], 2, "no column holds answers"),
        (["--readers", "readers.csv", "--out", "."], 2, "--out"),
    ],
)
def test_mistakes_are_told(
    tables: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert said in _answer(capfd, *arguments, code=code)["error"]


def test_a_reader_who_contradicts_himself_is_told(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Anna reads three films again: of six answers, two are not what she said before."""
    first = pd.read_csv("readers.csv")
    again = first[first["Reader ID"] == "anna"].head(3).copy()
    again["Mass"] = ["YES" if a == "NO" else "NO" for a in again["Mass"].head(2)] + again["Mass"].tail(
        1
    ).tolist()
    pd.concat([first, again]).to_csv("readers.csv", index=False)
    assert run(["evaluate", "--readers", "readers.csv", "--out", "out"]) == 0
    said = capfd.readouterr().out
    assert "to one film more than once: 6, contradictory 2 (these count as uncertain: Mass 2)" in said
    figures = json.loads(Path("out/readers.json").read_text())["self_agreement"]
    assert figures["Mass"] == {"read_twice": 3, "same_answer": 1, "share": pytest.approx(1 / 3)}


def test_a_person_reads_tables(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--readers", "readers.csv", "--labels", "truth.csv", "--out", "out"]) == 0
    said = capfd.readouterr().out
    assert "Agreement of 3 readers on 120 films" in said
    assert "more than once" not in said
    assert "majority of the readers" in said
