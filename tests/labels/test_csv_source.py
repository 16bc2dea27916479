"""Any table with a row per film: hand-written ones, CheXpert's form, and NIH's own table under other names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.labels.csv_source import csv_table
from ray_cxr.labels.nih import nih_table
from ray_cxr.labels.settings import CsvSource, NihSource
from ray_cxr.labels.source import SourceTable

ROWS = (
    "image_id,patient_id,sex,age,view,Mass,Edema,comment",
    "a.png,p1,F,57,PA,1,0,seen by a doctor",
    "b.png,p1,female,058Y,AP,0,,",
    "c.png,p2,M,abc,pa,0,-1,one more text",
)


def _source(folder: Path, rows: Sequence[str] = ROWS, films: Sequence[str] = ("a.png", "b.png", "c.png"), **more: Any) -> CsvSource:  # fmt: skip
    for film in films:
        (folder / "images" / film).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / film).touch()
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    known = {"images": str(folder / "images"), "labels": str(folder / "table.csv")}
    return CsvSource.model_validate(known | more)


def _table(folder: Path, *rows: str, **more: Any) -> SourceTable:
    return csv_table(_source(folder, rows or ROWS, **more))


def _refused(folder: Path, sentence: str, *rows: str, **more: Any) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        _table(folder, *rows, **more)
    message = caught.value.message
    assert message.endswith((".", "?")) and "\n" not in message and "Error" not in message


def test_usual_names_are_guessed_and_said(tmp_path: Path) -> None:
    table = _table(tmp_path)
    frame = table.frame
    assert frame["image_id"].tolist() == frame["film_name"].tolist() == ["a.png", "b.png", "c.png"]
    assert frame["patient_id"].tolist() == ["p1", "p1", "p2"]
    assert frame["sex"].tolist() == ["F", "F", "M"]
    assert frame["view"].tolist() == ["PA", "AP", "PA"]
    assert frame["age"].tolist() == pytest.approx([57, 58, float("nan")], nan_ok=True)
    assert table.findings == ("Mass", "Edema")
    assert frame["Mass"].tolist() == [1, 0, 0]
    assert frame["Edema"].tolist() == pytest.approx([0, float("nan"), float("nan")], nan_ok=True)
    assert frame[["Mass", "Edema"]].dtypes.tolist() == [np.float32, np.float32]
    assert [Path(p).name for p in frame["locator"]] == ["a.png", "b.png", "c.png"]
    assert table.notes == [
        "columns guessed: image = image_id; patient = patient_id; age = age; sex = sex; view = view; "
        "findings = Mass, Edema",
        "columns left out: 'comment'",
        "1 ages are unreadable or above 120 years and count as unknown",
    ]


def test_columns_that_are_named_are_taken_as_told(tmp_path: Path) -> None:
    rows = ["bild,fall,lunge,herz,teil", "a,1,yes,0,train", "b,2,no,1,test", "c,2,no,0,"]
    columns = {"image": "bild", "patient": "fall", "findings": {"lunge": "Pneumonia"}, "split": "teil"}
    table = _table(tmp_path, *rows, columns=columns)
    assert table.findings == ("Pneumonia",)
    assert table.frame["Pneumonia"].tolist() == [1, 0, 0]
    assert table.frame["film_name"].tolist() == ["a.png", "b.png", "c.png"]
    assert table.frame["given_split"].fillna("none").tolist() == ["train", "test", "none"]
    assert table.notes == []


def test_findings_in_one_column(tmp_path: Path) -> None:
    rows = ["image,patient,labels", "a.png,1,Mass;Edema", "b.png,2,No Finding", "c.png,3,"]
    table = _table(tmp_path, *rows)
    assert table.findings == ("Edema", "Mass")
    assert table.frame["Mass"].tolist() == pytest.approx([1, 0, float("nan")], nan_ok=True)
    assert "column 'labels': findings are told apart by ';'" in table.notes
    named = _table(tmp_path, *rows, columns={"findings": "labels", "separator": "|"})
    assert named.findings == ("Mass;Edema",)


def test_one_column_of_0_and_1_may_be_named_alone(tmp_path: Path) -> None:
    table = _table(tmp_path, columns={"findings": "Mass"})
    assert table.findings == ("Mass",) and table.frame["Mass"].tolist() == [1, 0, 0]


def test_words_that_are_neither_0_nor_1_are_counted(tmp_path: Path) -> None:
    rows = ["image,patient,Mass", "a.png,1,YES", "b.png,2,HEDGE", "c.png,3,NO"]
    table = _table(tmp_path, *rows, columns={"findings": ["Mass"]})
    assert table.frame["Mass"].tolist() == pytest.approx([1, float("nan"), 0], nan_ok=True)
    assert "column 'Mass': 'HEDGE' ×1 count as not labelled" in table.notes


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Pleural Effusion",
    "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,",
    "CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.jpg,Female,87,Frontal,PA,,-1.0,1.0",
    "CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Female,87,Lateral,,,0.0,0.0",
    "CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg,Male,83,Frontal,AP,,1.0,",
)
CHEXPERT_FILMS = tuple(row.split(",")[0].partition("/")[2] for row in CHEXPERT[1:])


def test_chexpert_as_it_is_published(tmp_path: Path) -> None:
    table = _table(tmp_path, *CHEXPERT, films=CHEXPERT_FILMS[:3], patient_regex=r"(patient\d+)")
    frame = table.frame
    assert (table.rows, table.without_file) == (4, 1)
    assert frame["patient_id"].tolist() == ["patient00001", "patient00002", "patient00002"]
    assert frame["view"].tolist() == ["AP", "PA", "LATERAL"]
    assert table.findings == ("Cardiomegaly", "Pleural Effusion")
    nan = float("nan")
    assert frame["Cardiomegaly"].tolist() == pytest.approx([nan, nan, 0], nan_ok=True)
    assert frame["Pleural Effusion"].tolist() == pytest.approx([nan, 1, 0], nan_ok=True)
    # Files of one name repeat over patients, so lists can know a film by its path only.
    assert frame["film_name"].tolist() == frame["image_id"].tolist()
    assert all(
        p.endswith(n.partition("/")[2]) for p, n in zip(frame["locator"], frame["image_id"], strict=True)
    )


def test_views_are_chosen_whatever_their_capitals(tmp_path: Path) -> None:
    table = _table(tmp_path, views="pa")
    assert table.frame["image_id"].tolist() == ["a.png", "c.png"] and table.other_views == 1
    _refused(tmp_path, r"source.views: got 'LL', but the table holds 'PA' ×2, 'AP' ×1\.", views=["LL"])
    _refused(tmp_path, "source.views: .* no column that is known to hold views", "image,patient,Mass", "a.png,1,1", views=["PA"])  # fmt: skip


def test_a_film_without_a_file_is_counted_or_kept(tmp_path: Path) -> None:
    source = _source(tmp_path, films=["a.png"])
    assert csv_table(source).without_file == 2 and len(csv_table(source).frame) == 1
    kept = csv_table(source, keep_missing=True).frame
    assert kept["locator"].notna().tolist() == [True, False, False]
    assert kept["film_name"].tolist() == ["a.png", "b.png", "c.png"]


def test_several_rows_a_film(tmp_path: Path) -> None:
    rows = ["image,patient,Mass,Edema", "a.png,1,0,", "b.png,2,0,0", "a.png,1,1,", "a.png,1,,0"]
    conflict = r"1 films stand in more than one row, 1 of them with different labels \(first again: row 3 of the table\)"
    _refused(tmp_path, conflict, *rows)
    same = [*rows[:2], rows[1]]
    _refused(tmp_path, "1 films stand in more than one row, with the same labels", *same)
    table = _table(tmp_path, *rows, rows_per_film="any")
    assert table.frame["image_id"].tolist() == ["a.png", "b.png"]
    assert table.frame["Mass"].tolist() == [1, 0] and table.frame["Edema"].tolist() == [0, 0]
    other = [*rows, "b.png,3,0,0"]
    _refused(tmp_path, "1 films stand in rows of different patients", *other, rows_per_film="any")


@pytest.mark.parametrize(
    ("sentence", "rows", "more"),
    [
        ("has no column 'Masss'; did you mean 'Mass'", ROWS, {"columns": {"findings": ["Masss"]}}),
        ("has no column 'pid'; it has|has no column 'pid'; did you", ROWS, {"columns": {"patient": "pid"}}),
        ("has no column that names the films", ("x,y,Mass", "1,2,1"), {}),
        ("may name the patient in 'patient_id' or 'subject_id'; set source.columns.patient",
         ("image,patient_id,subject_id,Mass", "a.png,1,2,1"), {}),
        ("has no column that can be told to hold labels", ("image,patient,note", "a.png,1,well"), {}),
        (r"column 'note' holds 1 cells that are no label \(first of all 'well' ×1\); allowed are 1, 0, true",
         ("image,patient,note", "a.png,1,well"), {"columns": {"findings": ["note"]}}),
        ("column 'Mass' holds blank cells only", ("image,patient,Mass", "a.png,1,"), {"columns": {"findings": ["Mass"]}}),
        ("column 'labels' names no finding", ("image,patient,labels", "a.png,1,Normal"), {}),
        ("does not say who the patient of a film is.* source.columns.patient .* source.patient_regex .* to 'image'",
         ("image,Mass", "a.png,1"), {}),
        (r"column 'patient': 2 films have no patient id \(first: row 1 of the table\)",
         ("image,patient,Mass", "a.png,,1", "b.png,2,1", "c.png,nan,0"), {}),
        (r"1 rows name no film in column 'image' \(first: row 2 of the table\)", ("image,patient,Mass", "a.png,1,1", ",2,0"), {}),
        (r"source.patient_regex: '\^\(x\)' finds no patient id in 3 of 3 film names", ROWS, {"patient_regex": "^(x)"}),
        ("has 2 columns 'note'; give each a name", ("image,patient,Mass,note,note", "a.png,1,1,x,y"), {}),
        ("'Mass' is given twice", ROWS, {"columns": {"findings": {"Mass": "Mass", "Edema": "Mass"}}}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(tmp_path: Path, sentence: str, rows: Sequence[str], more: dict[str, Any]) -> None:  # fmt: skip
    _refused(tmp_path, sentence, *rows, **more)


def test_free_text_is_not_taken_for_names_of_findings_nor_shown(tmp_path: Path) -> None:
    rows = ["image,patient,diagnosis", *(f"{n}.png,{n},Mr Smith {n} feels unwell" for n in range(300))]
    _refused(tmp_path, "'diagnosis' holds 300 different texts, so it is free text", *rows)
    with pytest.raises(InputError, match="holds 300 cells that are no label; allowed") as caught:
        _table(tmp_path, *rows, columns={"findings": ["diagnosis"]})
    assert "Smith" not in caught.value.message


def test_the_films_that_are_there_tell_which_column_names_them(tmp_path: Path) -> None:
    rows = ["file,image,patient,Mass", "x1,a.png,1,1", "x2,b.png,2,0", "x3,c.png,3,0"]
    assert _table(tmp_path, *rows).frame["image_id"].tolist() == ["a.png", "b.png", "c.png"]
    unusual = ["nummer,bild,patient,Mass", "1,a.png,1,1", "2,b.png,2,0"]
    assert "image = bild" in _table(tmp_path, *unusual).notes[0]


def test_names_that_fit_two_films_are_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "source.images: 1 names of the label table fit several films", films=["x/a.png", "y/a.png", "b.png"])  # fmt: skip


def test_nih_under_other_names_is_nih(tmp_path: Path, shared_data: Path) -> None:
    nih = shared_data / "nih"
    own = nih_table(NihSource(images=[str(nih / "images")], labels=str(nih / "Data_Entry_2017_v2020.csv.gz")))
    raw = pd.read_csv(nih / "Data_Entry_2017_v2020.csv.gz")
    mine = pd.DataFrame(
        {
            "path": "all/" + raw["Image Index"].str[:-4],
            "subject": raw["Patient ID"],
            "gender": raw["Patient Gender"],
        }
    )
    for finding in own.findings:
        mine[finding] = raw["Finding Labels"].str.contains(finding).map({True: "TRUE", False: "FALSE"})
    mine.to_csv(tmp_path / "mine.tsv.gz", index=False, sep="\t")
    table = csv_table(CsvSource(images=[str(nih / "images")], labels=str(tmp_path / "mine.tsv.gz")))
    assert (table.rows, table.without_file) == (own.rows, own.without_file) == (112_120, 111_324)
    assert table.frame["film_name"].tolist() == own.frame["film_name"].tolist()
    assert table.frame["locator"].tolist() == own.frame["locator"].tolist()
    assert np.array_equal(table.frame[list(own.findings)], own.frame[list(own.findings)])
    assert table.frame["patient_id"].astype(int).tolist() == own.frame["patient_id"].astype(int).tolist()


def test_published_readers_tables_are_read(shared_data: Path) -> None:
    images = str(shared_data / "nih/images")
    majority = shared_data / "readers/nih-14-findings/test_labels.csv"
    table = csv_table(CsvSource(images=[images], labels=str(majority)), keep_missing=True)
    assert len(table.frame) == table.rows == 810
    assert {"Pleural Thickening", "Hernia", "Abnormal", "Other"} <= set(table.findings)
    # The five readers of these films: a finding is present where any of them saw it.
    readers = shared_data / "readers/nih-14-findings/test_individual_readers.csv"
    anyone = csv_table(
        CsvSource(images=[images], labels=str(readers), rows_per_film="any"), keep_missing=True
    )
    assert len(anyone.frame) == 810
    merged = table.frame.merge(anyone.frame, on="image_id", suffixes=("", "_any"))
    assert (merged["Mass_any"] >= merged["Mass"]).all() and merged["Mass_any"].sum() > merged["Mass"].sum()


def test_ids_that_pandas_wrote_as_floats_are_whole_numbers(tmp_path: Path) -> None:
    table = _table(tmp_path, "image,patient,Mass", "a.png,12.0,1", "b.png,12,0", "c.png,007.00,0")
    assert table.frame["patient_id"].tolist() == ["12", "12", "007"]
    assert "2 patient ids end in .0 and are read as whole numbers" in table.notes


def test_a_finding_and_no_finding_at_once(tmp_path: Path) -> None:
    rows = ["image,patient,labels", "a.png,1,Mass", "b.png,2,Mass|No Finding", "c.png,3,normal|Mass"]
    _refused(
        tmp_path, r"2 cells of column 'labels' name a finding and no finding at once \(first: row 2 of", *rows
    )
    columns = ["image,patient,No Finding,Mass", "a.png,1,1,1", "b.png,2,1,0", "c.png,3,0,1"]
    note = "column 'No Finding' is 1 in 1 rows that have a finding; the column is not read"
    assert note in _table(tmp_path, *columns).notes


def test_spellings_of_one_finding_in_one_column_are_one(tmp_path: Path) -> None:
    rows = [
        "image,patient,labels",
        "a.png,1,Mass| mass ",
        "b.png,2,Mass|Pleural Effusion",
        "c.png,3,MASS|effusion",
    ]
    table = _table(tmp_path, *rows)
    assert table.findings == ("Mass", "Pleural Effusion")
    assert table.frame[["Mass", "Pleural Effusion"]].to_numpy().tolist() == [[1, 0], [1, 1], [1, 1]]
    assert (
        "column 'labels': 'MASS' is 'Mass', 'effusion' is 'Pleural Effusion', 'mass' is 'Mass'" in table.notes
    )


def test_two_columns_of_one_finding_are_refused_until_one_is_named(tmp_path: Path) -> None:
    rows = ["image,patient,Effusion,Pleural Effusion", "a.png,1,1,0", "b.png,2,0,1"]
    _refused(tmp_path, "columns 'Effusion' and 'Pleural Effusion' mean the same finding; name", *rows)
    assert _table(tmp_path, *rows, columns={"findings": ["Effusion"]}).findings == ("Effusion",)


def test_accents_may_be_composed_in_the_table_and_not_on_the_disk(tmp_path: Path) -> None:
    rows = ["datei,patient,Mass", "M\u00fcller/a\u0308.png,1,1"]
    table = _table(tmp_path, *rows, films=["Mu\u0308ller/\u00e4.png"])
    assert len(table.frame) == 1 and table.frame["image_id"].tolist() == ["M\u00fcller/a\u0308.png"]
