"""`init`: a job file that the other commands accept as it is."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.cli.job_text import FEW_FILMS, MANY_FILMS, SOME_FILMS, advise
from ray_cxr.cli.main import run
from ray_cxr.job import load_job
from ray_cxr.labels.pseudonym import KEY_VARIABLE, read_key
from ray_cxr.labels.settings import CsvSource, FolderSource, NihSource
from tests.labels.test_folder_source import KERMANY

HEADER = "file_name,subject_id,age,gender,Mass,Edema,Hernia,report,row_number"


@pytest.fixture(autouse=True)
def _no_key_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def _data(shared_data: Path, films: int = 60) -> None:
    """Real films under a hospital's names, and its table."""
    Path("films").mkdir()
    rows = []
    for n, film in enumerate(sorted((shared_data / "nih/images").iterdir())[:films]):
        (Path("films") / f"x{n}.png").symlink_to(film)
        rows.append(f'x{n}.png,{film.name[:8]},{30 + n},F,{n % 2},{n % 3 % 2},0,"text, number {n}",{n}')
    Path("table.csv").write_text("\n".join([HEADER, *rows, "gone.png,99999999,50,M,1,1,1,text,60"]))


def _init(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    capfd.readouterr()
    assert run(["init", *arguments, "--json"]) == code
    answer: dict[str, Any] = json.loads(capfd.readouterr().out)
    return answer


def test_a_hospitals_table_becomes_a_job_that_prepares(
    shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _data(shared_data)
    answer = _init(capfd, "--labels", "table.csv", "--images", "films")
    assert answer["columns"] == {
        "image": "file_name", "patient": "subject_id", "findings": "Mass, Edema, Hernia", "age": "age", "sex": "gender",
    }  # fmt: skip
    assert answer["columns_left_out"] == {
        "report": "text, 61 different", "row_number": "numbers, 61 different",
    }  # fmt: skip
    assert (answer["rows"], answer["films"], answer["without_film"]) == (61, 60, 1)
    assert answer["findings"]["Mass"] == {"positive": 30, "labelled": 60, "prevalence": 0.5}
    assert answer["findings_left_out"] == {"Hernia": "no positive film"}
    key = tmp_path / "pseudonym.key"
    assert answer["pseudonym_key_file"] == str(key) and key.stat().st_mode & 0o777 == 0o600
    job = load_job("job.yaml")
    (source,) = job.source
    assert isinstance(source, CsvSource) and source.pseudonymise
    assert job.findings == ["Mass", "Edema"] and job.dataset == "datasets/job"
    capfd.readouterr()
    assert run(["config", "show", "job.yaml"]) == 0
    assert read_key(str(key)).decode() not in Path("job.yaml").read_text() + capfd.readouterr().out
    small = ["shards.image_px=32", "shards.engine=threads"]
    assert run(["prepare", "job.yaml", *small, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["sources"][0]["films"] == 60


def test_the_job_file_says_why(shared_data: Path) -> None:
    _data(shared_data)
    assert run(["init", "--labels", "table.csv", "--images", "films"]) == 0
    text = Path("job.yaml").read_text()
    for comment in (
        "# Written by `ray-cxr init` for 60 films of", "#   ray-cxr prepare job.yaml", "# not read: report (text, 61 different)",
        "- Mass    # 30 / 60 = 50.0%", "# left out: Hernia (no positive film)", "# few films: the first half",
    ):  # fmt: skip
        assert comment in text
    assert "x7.png" not in text and "text, number" not in text


def test_nothing_is_written_over(shared_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _data(shared_data)
    arguments = ["--labels", "table.csv", "--images", "films"]
    _init(capfd, *arguments)
    key = Path("pseudonym.key").read_text()
    Path("job.yaml").write_text("mine")
    assert "is there already" in _init(capfd, *arguments, code=2)["error"]
    assert Path("job.yaml").read_text() == "mine"
    _init(capfd, *arguments, "--force")
    assert Path("job.yaml").read_text() != "mine" and Path("pseudonym.key").read_text() == key


def test_a_key_of_the_environment_is_taken(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _data(shared_data)
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef" * 4)
    assert _init(capfd, "--labels", "table.csv", "--images", "films")["pseudonym_key_file"] is None
    assert not os.path.exists("pseudonym.key")


def test_nih_is_known(shared_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nih = shared_data / "nih"
    answer = _init(capfd, "--labels", str(nih / "Data_Entry_2017_v2020.csv.gz"), "--images", str(nih / "images"), "--out", "nih.yaml")  # fmt: skip
    assert (answer["kind"], answer["rows"], answer["films"], answer["patients"]) == ("nih", 112_120, 796, 622)
    assert answer["findings"]["Hernia"]["positive"] == 7
    job = load_job("nih.yaml")
    assert isinstance(job.source[0], NihSource) and len(job.findings or []) == 14
    assert "train_val_list" in Path("nih.yaml").read_text()
    assert not os.path.exists("pseudonym.key")


def test_labels_added_to_nihs_table_make_it_a_table_like_others(
    shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Four findings by three readers beside NIH's own columns.
    table = shared_data / "readers/nih-4-findings/test_labels.csv"
    films = [line.split(",")[0] for line in table.read_text().splitlines()[1:40]]
    Path("films").mkdir()
    for film in films:
        (Path("films") / film).touch()
    answer = _init(capfd, "--labels", str(table), "--images", "films")
    assert answer["kind"] == "csv" and answer["films"] == 39
    assert answer["columns"]["findings"] == "Fracture, Pneumothorax, Airspace opacity, Nodule or mass"
    assert answer["columns"]["split"] == "Set Id"


def test_a_folder_per_class_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    for film in KERMANY:
        Path(film).parent.mkdir(parents=True, exist_ok=True)
        Path(film).touch()
    answer = _init(capfd, "--images", "chest_xray")
    assert answer["kind"] == "folder" and answer["patients"] == 5
    assert "Kermany" in answer["notes"][0]
    (source,) = load_job("job.yaml").source
    assert isinstance(source, FolderSource) and source.negative == ["NORMAL"]
    assert "# `method: column` takes the split that is there already (train 4, test 2, val 1)" in Path("job.yaml").read_text()  # fmt: skip


@pytest.mark.parametrize(
    ("table", "more", "sentence"),
    [
        ("image,Mass\nx1.png,1\n", [], "does not say who the patient of a film is.*source.columns.patient.*source.patient_regex"),
        ("image,patient,Mass\nx1.png,1,1\n", [], "none of Mass has both positive and negative films among the 1 films"),
        ("image,patient,Mass\na,1,1\nb,2,0\n", [], "no film was found for the 2 rows of the label table; check that source.images"),
        ("image,patient,Mass\nx1.png,1,1\n", ["train.epochs=3"], "got 'train.epochs=3', but it takes settings of the source only"),
        ("image,patient,Mass\nx1.png,1,1\n", ["source.columns.patent=x"], "did you mean source.0.columns.patient"),
        ("image,patient,Mass\nx1.png,1,1\n", ["--patient-regex", "x"], "must stand in a group"),
        (None, [], "the names of the films do not say who the patient is.*--patient-regex"),
        (None, ["source.negative=a"], "without --labels there are no such settings"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_sentence_and_no_file(
    table: str | None, more: list[str], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("films/A").mkdir(parents=True)
    Path("films/A/x1.png").touch()
    labels = []
    if table is not None:
        Path("t.csv").write_text(table)
        labels = ["--labels", "t.csv"]
    error = _init(capfd, *labels, "--images", "films", *more, code=2)["error"]
    assert "\n" not in error
    assert re.search(sentence, error), error
    assert not os.path.exists("job.yaml") and not os.path.exists("pseudonym.key")


def test_what_it_cannot_see_may_be_told(capfd: pytest.CaptureFixture[str]) -> None:
    Path("films").mkdir()
    for n in range(4):
        (Path("films") / f"p{n // 2}-{n}.png").touch()
    Path("t.csv").write_text("image,Mass\np0-0,1\np0-1,0\np1-2,1\np1-3,0\n")
    answer = _init(capfd, "--labels", "t.csv", "--images", "films", "--patient-regex", r"(p\d+)-")
    assert answer["patients"] == 2
    arguments = ["--labels", "t.csv", "--images", "films", "source.columns.patient=image", "--force"]
    assert _init(capfd, *arguments)["patients"] == 4


def test_advice_follows_the_number_of_films() -> None:
    depths = [
        advise(n, pretrained=True).freeze_depth
        for n in (FEW_FILMS - 1, 5_000, SOME_FILMS, MANY_FILMS, 1_000_000)
    ]
    assert depths == [4, 6, 0, 0, 0]
    assert [advise(n, pretrained=True).keep for n in (FEW_FILMS - 1, 5_000)] == ["last", "best"]
    assert "from scratch" in advise(1_000_000, pretrained=True).reason
    assert advise(5_000, pretrained=True).weights == "efficientnet-lite0"
    nothing = advise(5_000, pretrained=False)
    assert (nothing.weights, nothing.freeze_depth) == ("none", 0) and "pip install" in nothing.reason


def test_several_rows_a_film_are_for_people_to_decide(capfd: pytest.CaptureFixture[str]) -> None:
    Path("films").mkdir()
    for n in range(4):
        (Path("films") / f"x{n}.png").touch()
    Path("t.csv").write_text("image,patient,Mass\nx0,1,1\nx0,1,0\nx1,2,0\nx1,2,0\nx2,3,1\nx3,4,0\n")
    arguments = ["init", "--labels", "t.csv", "--images", "films"]
    assert run(arguments) == 0
    said = "2 films stand in several rows, 1 of them with different labels"
    assert said in " ".join(capfd.readouterr().err.split())
    assert f"  # rows_per_film: any    # {said};" in Path("job.yaml").read_text()
    (source,) = load_job("job.yaml").source
    assert isinstance(source, CsvSource) and source.rows_per_film == "one"
    assert run(["prepare", "job.yaml"]) == 2
    assert "2 films stand in more than one row, 1 of them" in " ".join(capfd.readouterr().err.split())
    _init(capfd, *arguments[1:], "source.rows_per_film=any", "--force")
    (source,) = load_job("job.yaml").source
    assert isinstance(source, CsvSource) and source.rows_per_film == "any"
