"""`evaluate --predictions`: what it writes, what it says, what it refuses. The run form is tested end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ray_cxr.cli.main import run


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """predictions.csv, labels.csv.gz, validation.csv (with labels in it) of made-up films."""
    rng = np.random.default_rng(0)
    for name, first in (("predictions", 0), ("validation", 500)):
        labels = rng.integers(0, 2, (120, 2))
        films = [f"{first + n // 2:08d}_{n % 2:03d}.png" for n in range(120)]
        scores = np.round(1 / (1 + np.exp(-(rng.normal(size=(120, 2)) + labels - 0.5))), 4)
        frame = pd.DataFrame(
            {"Image Index": films, "prob_Mass": scores[:, 0], "prob_Pleural Effusion": scores[:, 1]}
        )
        truth = pd.DataFrame({"image": films, "Mass": labels[:, 0], "Effusion": labels[:, 1]})
        if name == "predictions":
            frame.to_csv(tmp_path / "predictions.csv", index=False)
            truth.sample(frac=1, random_state=1).to_csv(tmp_path / "labels.csv.gz", index=False)
        else:
            frame.assign(label_Mass=labels[:, 0], label_Effusion=labels[:, 1]).to_csv(
                tmp_path / "validation.csv", index=False
            )
    return tmp_path


@pytest.fixture
def evaluate(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Runs `evaluate … --json`; gives the exit code and the one object on stdout."""

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = run(["evaluate", *arguments, "--draws", "100", "--json"])
        out = capfd.readouterr().out
        return code, json.loads(out)

    return call


def test_somebodys_predictions_become_a_report(tables: Path, evaluate: Callable[..., Any]) -> None:
    out = tables / "out"
    code, answer = evaluate(
        "--predictions", str(tables / "predictions.csv"), "--labels", str(tables / "labels.csv.gz"),
        "--validation-predictions", str(tables / "validation.csv"), "--out", str(out), "--protocol", "official",
        "--sensitivity", "0.8",
    )  # fmt: skip
    assert code == 0
    predictions = pd.read_csv(tables / "predictions.csv").set_index("Image Index")
    truth = pd.read_csv(tables / "labels.csv.gz").set_index("image").loc[predictions.index]
    assert answer["auroc"] == {
        "Mass": pytest.approx(roc_auc_score(truth["Mass"], predictions["prob_Mass"]), abs=1e-12),
        "Pleural Effusion": pytest.approx(roc_auc_score(truth["Effusion"], predictions["prob_Pleural Effusion"]), abs=1e-12),
    }  # fmt: skip
    assert answer["input"]["matched"]["Pleural Effusion"] == {
        "score": "prob_Pleural Effusion",
        "label": "Effusion",
        "labelled_as": "Effusion",
    }
    assert (answer["films"], answer["patients"], answer["protocol"]) == (120, 60, "official")
    assert answer["operating_points"]["chosen_on"] == {"films": 120, "patients": 60}
    assert answer["operating_points"]["fixed_sensitivity"] == 0.8
    metrics = json.loads((out / "metrics.json").read_text())
    assert {k: answer[k] for k in metrics} == metrics
    page = (out / "report/index.html").read_text()
    assert "120 test films of 60 patients (split protocol: official, as stated by whoever ran this)" in page
    assert "publishers of the data set" not in page
    assert "00000000_000" not in page
    for name in ("findings", "operating-points", "reliability"):
        assert len(pd.read_csv(out / f"report/tables/{name}.csv")) >= 2
    figures = json.loads((out / "report/figures.json").read_text())
    assert figures["metrics"] == metrics
    assert figures["roc"]["Mass"]["sensitivity"][-1] == 1


def test_a_person_is_told_what_was_taken_for_what(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = [
        "evaluate",
        "--predictions",
        str(tables / "predictions.csv"),
        "--labels",
        str(tables / "labels.csv.gz"),
    ]
    assert run([*command, "--out", str(tables / "out"), "--draws", "100"]) == 0
    said = capfd.readouterr().out
    assert "prob_Pleural Effusion with Effusion" in said
    assert "patients from file names of NIH ChestX-ray14" in said
    assert "no operating points: no --validation-predictions were given" in said


def _logits(table: Path, to: Path) -> str:
    """The same table with logits in place of probabilities."""
    frame = pd.read_csv(table)
    scored = [c for c in frame.columns if c.startswith("prob_")]
    frame[scored] = np.log(frame[scored] / (1 - frame[scored]))
    frame.to_csv(to, index=False)
    return str(to)


def test_thresholds_of_another_scale_are_refused(tables: Path, evaluate: Callable[..., Any]) -> None:
    logits = _logits(tables / "validation.csv", tables / "logits.csv")
    given = ["--predictions", str(tables / "predictions.csv"), "--labels", str(tables / "labels.csv.gz")]
    code, answer = evaluate(*given, "--validation-predictions", logits, "--out", str(tables / "out"))
    assert code == 2
    assert "one of the files holds probabilities and the other does not" in answer["error"]
    both = _logits(tables / "predictions.csv", tables / "test-logits.csv")
    code, answer = evaluate(
        "--predictions", both, *given[2:], "--validation-predictions", logits, "--out", str(tables / "out")
    )
    assert (code, answer["operating_points"]["cautions"]) == (0, [])


def test_what_weakens_thresholds_is_said(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of 7 validation films, shifted scores of one finding, none of the other; and columns that match nothing."""
    frame = (
        pd.read_csv(tables / "validation.csv")
        .drop(columns=["prob_Pleural Effusion", "label_Effusion"])
        .head(7)
    )
    frame.assign(prob_Mass=frame["prob_Mass"] / 1000).to_csv(tables / "few.csv", index=False)
    table = pd.read_csv(tables / "predictions.csv").assign(fold=3, prob_Zebra=0.5)
    table.to_csv(tables / "more.csv", index=False)
    given = [
        "--predictions",
        str(tables / "more.csv"),
        "--labels",
        str(tables / "labels.csv.gz"),
        "--protocol",
        "official",
    ]
    out = tables / "out"
    assert (
        run(
            [
                "evaluate",
                *given,
                "--validation-predictions",
                str(tables / "few.csv"),
                "--out",
                str(out),
                "--draws",
                "100",
            ]
        )
        == 0
    )
    said, page = capfd.readouterr().out, (out / "report/index.html").read_text()
    positives = int(frame["label_Mass"].sum())
    for text in (
        "very labelled test film passes the threshold, so its rates say nothing: Mass (Youden's index, fixed sensitivity",
        f"Mass ({positives} positive and {7 - positives} negative validation films)",
        "not scored in --validation-predictions",
        "as stated by whoever ran this",
        "Zebra",
        "fold",
    ):
        assert text in said
        assert text.replace("'", "&#39;") in page
    assert "no operating points for Pleural Effusion: not scored in --validation-predictions" in said
    assert "scored, but not labelled: Zebra" in said
    assert "other columns of numbers in --predictions, not used: fold" in said


def test_one_line_says_what_a_list_of_findings_is(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labels = pd.read_csv(tables / "labels.csv.gz")
    names = [
        "|".join(f for f in ("Mass", "Effusion") if row[f]) or "No Finding"
        for row in labels.to_dict("records")
    ]
    labels[["image"]].assign(**{"Finding Labels": names}).to_csv(tables / "nih.csv", index=False)
    given = ["--predictions", str(tables / "predictions.csv"), "--labels", str(tables / "nih.csv")]
    assert run(["evaluate", *given, "--out", str(tables / "out"), "--draws", "100"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:3] == [
        "findings: Mass",
        "columns: prob_Pleural Effusion with Effusion",
        "labels: names listed in 'Finding Labels'",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "give a RUN, or --predictions"),
        (["run", "--labels", "{labels}"], 2, "go with --predictions"),
        (["run", "--predictions", "{predictions}"], 2, "either a run or predictions"),
        (["--predictions", "{predictions}", "--thumbnails"], 2, "go with a run"),
        (["--predictions", "nowhere.csv"], 2, "nowhere.csv"),
        (["--predictions", "{predictions}"], 2, "give --labels"),
        (["--predictions", "{predictions}", "--labels", "{labels}", "--sensitivity", "0.9"], 2, "no --validation-predictions were given"),
        (["--predictions", "{predictions}", "--labels", "{labels}", "--validation-labels", "{labels}"], 2, "no --validation-predictions"),
        (["--predictions", "{predictions}", "--labels", "{labels}", "--validation-predictions", "{predictions}"], 3, "120 films and 60 patients"),
        (["--predictions", "{predictions}", "--labels", "{labels}", "--out", "{here}"], 2, "holds something that is no evaluation"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    tables: Path, evaluate: Callable[..., Any], arguments: list[str], code: int, said: str
) -> None:
    names = {"predictions": tables / "predictions.csv", "labels": tables / "labels.csv.gz", "here": tables}
    given = [a.format(**names) for a in arguments]
    if "--out" not in given and "--predictions" in given and "run" not in given:
        given += ["--out", str(tables / "out")]
    found, answer = evaluate(*given)
    assert found == code, answer
    assert said in answer["error"]


def test_a_run_is_not_written_over(tables: Path, evaluate: Callable[..., Any]) -> None:
    out = tables / "run"
    (out / "best").mkdir(parents=True)
    (out / "metrics.json").write_text('{"split": "validation"}')
    code, answer = evaluate(
        "--predictions",
        str(tables / "predictions.csv"),
        "--labels",
        str(tables / "labels.csv.gz"),
        "--out",
        str(out),
    )
    assert code == 2
    assert "is a run" in answer["error"]
    assert json.loads((out / "metrics.json").read_text()) == {"split": "validation"}
