"""A folder per class."""

from pathlib import Path
from typing import Any

import pytest

from ray_cxr.errors import InputError
from ray_cxr.labels.folder_source import folder_table
from ray_cxr.labels.settings import FolderSource
from ray_cxr.labels.source import SourceTable

KERMANY = (
    "chest_xray/train/NORMAL/IM-0115-0001.jpeg",
    "chest_xray/train/NORMAL/NORMAL2-IM-1427-0001.jpeg",
    "chest_xray/train/PNEUMONIA/person1_bacteria_1.jpeg",
    "chest_xray/train/PNEUMONIA/person1_bacteria_2.jpeg",
    "chest_xray/val/PNEUMONIA/person1946_bacteria_4874.jpeg",
    "chest_xray/test/NORMAL/IM-0001-0001.jpeg",
    "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg",
    "__MACOSX/chest_xray/train/NORMAL/._IM-0115-0001.jpeg",
)
"""File names of the paediatric pneumonia set (Kermany et al. 2018), as its archive unpacks."""
PATTERN = r"(person\d+|IM-\d+)"


def _table(folder: Path, *films: str, roots: tuple[str, ...] = ("",), **more: Any) -> SourceTable:
    for film in films:
        (folder / film).parent.mkdir(parents=True, exist_ok=True)
        (folder / film).touch()
    known: dict[str, Any] = {"images": [str(folder / root) for root in roots]}
    if "patients" not in more:
        known["patient_regex"] = PATTERN
    return folder_table(FolderSource.model_validate(known | more))


def test_the_paediatric_pneumonia_set(tmp_path: Path) -> None:
    table = _table(tmp_path, *KERMANY)
    frame = table.frame.set_index("film_name")
    assert table.findings == ("PNEUMONIA",) and len(frame) == 7
    assert frame["PNEUMONIA"].sum() == 4 and frame.loc["IM-0001-0001.jpeg", "PNEUMONIA"] == 0
    assert frame.loc["person1_bacteria_1.jpeg", "patient_id"] == "person1"
    assert frame.loc["person1_virus_6.jpeg", "patient_id"] == "person1"
    assert frame.loc["NORMAL2-IM-1427-0001.jpeg", "patient_id"] == "IM-1427"
    assert frame["given_split"].value_counts().to_dict() == {"train": 4, "test": 2, "val": 1}
    assert table.notes == [
        "a folder per class: NORMAL 3 films, PNEUMONIA 4 films; no finding in NORMAL; a film has the finding of its folder "
        "and no other"
    ]


def test_folders_of_the_sets_may_be_given_one_by_one(tmp_path: Path) -> None:
    table = _table(tmp_path, *KERMANY, roots=("chest_xray/train", "chest_xray/test"))
    assert table.frame["given_split"].value_counts().to_dict() == {"train": 4, "test": 2}
    assert table.frame["image_id"].is_unique and table.findings == ("PNEUMONIA",)


def test_several_classes_without_a_negative(tmp_path: Path) -> None:
    films = ["TB/IM-1.png", "Covid/IM-2.png", "Covid/deeper/IM-3.png"]
    table = _table(tmp_path, *films)
    assert table.findings == ("Covid", "TB")
    assert table.frame.set_index("patient_id")[["Covid", "TB"]].sum().to_dict() == {"Covid": 2, "TB": 1}
    negative = _table(tmp_path, negative="tb")
    assert negative.findings == ("Covid",)


def test_patients_may_come_from_a_table(tmp_path: Path) -> None:
    films = ["NORMAL/1.png", "TB/2.png", "TB/3.png"]
    (tmp_path / "patients.csv").write_text("image,patient_id\nNORMAL/1.png,A\n2.png,B\n3.png,B\n")
    table = _table(tmp_path, *films, patients=str(tmp_path / "patients.csv"))
    assert table.frame["patient_id"].tolist() == ["A", "B", "B"]
    (tmp_path / "patients.csv").write_text("image,patient_id\n2.png,B\n3.png,B\n")
    with pytest.raises(InputError, match="names no patient for 1 of 3 films"):
        _table(tmp_path, patients=str(tmp_path / "patients.csv"))


@pytest.mark.parametrize(
    ("films", "more", "sentence"),
    [
        (["IM-1.png", "NORMAL/IM-2.png"], {}, "1 films lie in no class folder"),
        (["x.txt"], {}, "no film lies below the folders given"),
        (["TB/IM-1.png"], {}, "all films lie in the class folders 'TB', so there is nothing to tell apart"),
        (["NORMAL/IM-1.png", "Healthy/IM-2.png"], {}, "all films lie in the class folders 'Healthy', 'NORMAL'"),
        (["NORMAL/IM-1.png", "TB/IM-2.png"], {"negative": ["NORMALL"]}, "source.negative: got 'NORMALL'.*did you mean 'NORMAL'"),
        (["NORMAL/1.png", "TB/IM-2.png"], {}, "source.patient_regex: .* finds no patient id in 1 of 2 film names"),
        ([f"p{n}/IM-1.png" for n in range(101)], {}, "films lie in 101 folders, too many for classes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, films: list[str], more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        _table(tmp_path, *films, **more)


def test_patients_must_be_known_in_one_way(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got neither of patient_regex and patients"):
        FolderSource(images=["x"])
    with pytest.raises(ValueError, match="got both of patient_regex and patients"):
        FolderSource(images=["x"], patient_regex="(.)", patients="t.csv")
    with pytest.raises(ValueError, match="must stand in a group in round brackets"):
        FolderSource(images=["x"], patient_regex="person")


def test_ids_of_a_table_of_patients_are_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("image,patient\na.png,12.0\nb.png,12\n")
    table = _table(
        tmp_path, "films/NORMAL/a.png", "films/MASS/b.png", roots=("films",), patients=str(tmp_path / "p.csv")
    )
    assert table.frame["patient_id"].tolist() == ["12", "12"]
    assert "1 patient ids end in .0 and are read as whole numbers" in table.notes
