import json
import shutil
from pathlib import Path

import cv2
import pytest

from ray_cxr.cli.main import run
from ray_cxr.errors import InputError
from ray_cxr.films.phantom import draw_phantom
from ray_cxr.splits.audit import NIH_PATIENT, audit, patients_by_name, patients_by_table

by_name = patients_by_name(NIH_PATIENT)


def folder(path: Path, films: dict[str, str]) -> str:
    """Phantom films under the names given: name → locator."""
    path.mkdir()
    for name, locator in films.items():
        cv2.imwrite(str(path / name), draw_phantom(locator, 128))
    return str(path)


def test_a_published_split_of_real_films_leaks(shared_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nih = shared_data / "nih-64"
    sets = ["--train", f"{nih}/train", "--test", f"{nih}/test"]
    assert run(["audit", *sets, "--json"]) == 3
    answer = json.loads(capfd.readouterr().out)
    assert answer["shared_patients"] == 8
    assert run(["audit", *sets, "--validation", f"{nih}/valid", "--json"]) == 3
    pairs = json.loads(capfd.readouterr().out)["pairs"]
    assert {tuple(p["sets"]): len(p["shared_patients"]) for p in pairs} == {
        ("train", "test"): 8,
        ("train", "validation"): 15,
        ("test", "validation"): 9,
    }


def test_the_official_lists_are_clean(shared_data: Path) -> None:
    lists = {"train": "train_val_list.txt.gz", "test": "test_list.txt.gz"}
    result = audit({k: str(shared_data / "nih" / v) for k, v in lists.items()}, by_name)
    assert result.clean
    assert result.films == {"train": 86_524, "test": 25_596}
    assert result.patients["train"] + result.patients["test"] == 30_805


def test_the_same_film_under_another_patient_is_found(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", {"00000001_000.png": "phantom:0/1/0", "00000002_000.png": "phantom:0/2/0"})
    b = folder(tmp_path / "b", {"00000003_000.png": "phantom:0/3/0"})
    assert audit({"train": a, "test": b}, by_name).clean
    shutil.copy(f"{a}/00000001_000.png", f"{b}/00000004_000.png")
    pair = audit({"train": a, "test": b}, by_name).pairs[0]
    assert pair.shared_images == [("00000001_000.png", "00000004_000.png")]
    assert pair.shared_patients == []
    assert pair.near_duplicates == []


def test_a_film_that_was_encoded_again_and_cropped_is_a_near_duplicate(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", {"00000001_000.png": "phantom:0/1/0", "00000002_000.png": "phantom:0/2/0"})
    b = folder(tmp_path / "b", {"00000003_000.png": "phantom:0/3/0"})
    film = draw_phantom("phantom:0/2/0", 512)[4:-4, 4:-4]
    cv2.imwrite(f"{b}/00000005_000.jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 60])
    pair = audit({"train": a, "test": b}, by_name).pairs[0]
    assert [near[:2] for near in pair.near_duplicates] == [("00000002_000.png", "00000005_000.jpg")]
    assert not pair.clean


def test_other_names_need_a_form_or_a_table(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("p1-a.png\np2-a.png\n")
    (tmp_path / "test.txt").write_text("p3-a.png\np1-b.png\n")
    sets = {name: str(tmp_path / f"{name}.txt") for name in ("train", "test")}
    with pytest.raises(InputError, match="--patient-regex"):
        audit(sets, by_name)
    assert audit(sets, patients_by_name("^(p[0-9])-")).pairs[0].shared_patients == ["p1"]
    table = tmp_path / "patients.csv"
    table.write_text("image_id,patient_id\np1-a.png,A\np2-a.png,B\np3-a.png,B\np1-b.png,C\n")
    assert audit(sets, patients_by_table(str(table))).pairs[0].shared_patients == ["B"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--train", "nowhere", "--test", "nowhere"],
            "--train: 'nowhere' is neither a folder nor a readable list",
        ),
        (["--train", "list.txt", "--test", "empty.txt"], "--test: 'empty.txt' names no film"),
        (["--train", "list.txt", "--test", "list.txt", "--patient-regex", "("], "is no regular expression"),
        (["--train", "list.txt", "--test", "list.txt", "--patient-regex", "x"], "needs a group"),
        (["--train", "list.txt", "--test", "list.txt", "--patients", "list.txt"], "needs the columns"),
    ],
)
def test_what_cannot_be_audited_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("00000001_000.png\n")
    Path("empty.txt").write_text("")
    assert run(["audit", *arguments]) == 2
    assert said in capfd.readouterr().err
