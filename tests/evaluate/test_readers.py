"""Reader tables: columns by name, answers in any spelling, readings twice."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from ray_cxr.errors import InputError
from ray_cxr.evaluate.readers import Readings, read_readings

NAN = np.nan


def _read(folder: Path, text: str, known: tuple[str, ...] = (), **options: dict[str, str]) -> Readings:
    (folder / "readers.csv").write_text(text)
    return read_readings([str(folder / "readers.csv")], known, **options)


def test_answers_in_any_spelling_and_columns_in_any_order(tmp_path: Path) -> None:
    readings = _read(
        tmp_path,
        "Mass,Rater_ID,Set ID,Pleural_Thickening,Image Index,Patient ID\n"
        "YES,b,val,1,2.png,7\nhedge,b,val,-1,1.png,7\n,a,val,0.0,1.png,7\nNo,a,val,,2.png,7\n",
    )
    assert readings.image_ids.tolist() == ["2.png", "1.png"]
    assert readings.readers == ["a", "b"]
    assert readings.findings == ["Mass", "Pleural_Thickening"]
    assert readings.extra == ("Set ID",)
    assert readings.patient_ids is not None
    assert readings.patient_ids.tolist() == ["7", "7"]
    np.testing.assert_array_equal(readings.answers[:, :, 0], [[0, 1], [NAN, 0.5]])
    np.testing.assert_array_equal(readings.answers[:, :, 1], [[NAN, 1], [0, 0.5]])


def test_findings_go_by_the_names_that_are_known(tmp_path: Path) -> None:
    text = "image_id,reader,Pleural Effusion,Nodule or mass,Other\n1,a,1,0,1\n"
    readings = _read(tmp_path, text, ("Nodule/Mass", "Effusion", "Hernia"))
    assert readings.findings == ["Nodule/Mass", "Effusion", "Other"]


def test_a_reading_twice(tmp_path: Path) -> None:
    rows = ["1,a,YES", "1,a,YES", "2,a,YES", "2,a,NO", "3,a,NO", "3,a,", "4,a,HEDGE", "4,a,YES", "5,a,NO"]
    readings = _read(tmp_path, "\n".join(["image_id,reader,Mass", *rows]))
    np.testing.assert_array_equal(readings.answers[:, 0, 0], [1, 0.5, 0, 0.5, 0])
    assert readings.read_twice.tolist() == [[3]]
    assert readings.same_again.tolist() == [[1]]


def test_a_file_per_reader(tmp_path: Path) -> None:
    (tmp_path / "anna.csv").write_text("image_id,Pleural_Thickening\n1,1\n2,0\n")
    with gzip.open(tmp_path / "bert.csv.gz", "wt") as file:
        file.write("Pleural Thickening,film\n1,2\n")
    readings = read_readings([str(tmp_path / "anna.csv"), str(tmp_path / "bert.csv.gz")])
    assert readings.readers == ["anna", "bert"]
    assert readings.findings == ["Pleural_Thickening"]
    np.testing.assert_array_equal(readings.answers[:, :, 0], [[1, NAN], [0, 1]])


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame(
        {"image_id": [1, 2], "reader": [11, 11], "Mass": [1.0, None], "Edema": [True, False]}
    ).to_parquet(tmp_path / "r.parquet")
    readings = read_readings([str(tmp_path / "r.parquet")])
    assert readings.readers == ["11"]
    np.testing.assert_array_equal(readings.answers[:, 0], [[1, 1], [NAN, 0]])


def test_a_definitive_test_is_one_result_a_film(tmp_path: Path) -> None:
    text = "image_id,reader,Mass,CT\n1,a,1,0\n1,b,1,\n2,a,1,\n2,b,0,HEDGE\n"
    readings = _read(tmp_path, text, definitive={"Mass": "CT"})
    assert readings.findings == ["Mass"]
    np.testing.assert_array_equal(readings.definitive, [[0], [NAN]])
    with pytest.raises(InputError, match="both yes and no of 1 films"):
        _read(tmp_path, "image_id,reader,Mass,CT\n1,a,1,0\n1,b,1,1\n", definitive={"Mass": "CT"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reader,Mass\na,1\n", "no column for the film"),
        ("image_id,Mass\n1,1\n1,0\n", "several rows for a film and no column for the reader"),
        ("image_id,reader,Mass\n1,a,YES\n2,a,perhaps\n3,a,NO\n4,a,NO\n", "'perhaps' in row 2"),
        ("image_id,reader,Mass\n1,,YES\n", "names no reader in 1 rows, the first is row 1"),
        ("image_id,reader,age\n1,a,51\n", "no column holds answers"),
        ("image_id,patient_id,reader,Mass\n1,7,a,1\n1,8,b,1\n", "different patient ids"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _read(tmp_path, text)


def test_other_mistakes_are_told(tmp_path: Path) -> None:
    text = "image_id,reader,Mass\n1,a,1\n"
    with pytest.raises(InputError, match="none of the findings"):
        _read(tmp_path, text, ("Hernia",))
    with pytest.raises(InputError, match="no column 'CT'"):
        _read(tmp_path, text, definitive={"Mass": "CT"})
    with pytest.raises(InputError, match="'Hernia' is no finding"):
        _read(
            tmp_path, text.replace("Mass", "Mass,CT").replace(",1\n", ",1,1\n"), definitive={"Hernia": "CT"}
        )
    with pytest.raises(InputError, match="--readers: .*does not exist"):
        read_readings([str(tmp_path / "nowhere.csv")])
    (tmp_path / "b").mkdir()
    for place in ("readers.csv", "b/readers.csv"):
        (tmp_path / place).write_text("image_id,Mass\n1,1\n")
    with pytest.raises(InputError, match="several tables are called 'readers'"):
        read_readings([str(tmp_path / "readers.csv"), str(tmp_path / "b/readers.csv")])
    with pytest.raises(InputError, match="several columns 'Mass'"):
        _read(tmp_path, "image_id,reader,Mass,Mass\n1,a,1,0\n")
    with pytest.raises(InputError, match="'c' is no reader; the tables have a"):
        _read(tmp_path, text).reader_numbers(["c"])


def test_an_extra_column_of_numbers_is_no_finding(tmp_path: Path) -> None:
    readings = _read(tmp_path, "image_id,reader,Mass,Follow-up #\n1,a,1,0\n2,a,0,1\n3,a,0,2\n")
    assert readings.findings == ["Mass"]
    assert readings.extra == ("Follow-up #",)


def test_the_real_tables(shared_data: Path) -> None:
    four = read_readings([str(shared_data / "readers/nih-4-findings/individual_readers.csv")])
    assert four.answers.shape == (4376, 22, 4)
    per_film = (~np.isnan(four.answers[:, :, 0])).sum(axis=1)
    assert dict(zip(*np.unique(per_film, return_counts=True), strict=True)) == {1: 2, 2: 47, 3: 4327}
    assert four.read_twice.sum(axis=0).tolist() == [4, 4, 4, 4]
    # The four pairs of rows differ in airspace opacity and in nothing else.
    assert four.same_again.sum(axis=0).tolist() == [4, 4, 0, 4]
    uncertain = (four.answers == 0.5).sum(axis=(0, 1))
    # The one doubled HEDGE is of one reader and film; the four contradictions became uncertain.
    assert uncertain.tolist() == [0, 164, 4, 261]
