"""Several sources in one job: findings by name, patients and films by id."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.labels.join import join_patients
from ray_cxr.labels.pseudonym import KEY_VARIABLE, pseudonyms
from ray_cxr.labels.settings import CsvSource, NihSource, PhantomSource
from ray_cxr.labels.table import build_label_table

KEY = "0123456789abcdef" * 4


def _csv(folder: Path, header: str, *rows: str, **more: Any) -> CsvSource:
    folder.mkdir()
    for row in rows:
        (folder / row.split(",")[0]).touch()
    (folder / "t.csv").write_text("\n".join([header, *rows]))
    known = {"images": str(folder), "labels": str(folder / "t.csv"), "pseudonymise": False}
    return CsvSource.model_validate(known | more)


@pytest.fixture
def two(tmp_path: Path) -> list[CsvSource]:
    return [
        _csv(tmp_path / "a", "image,patient,Mass,Pleural Effusion", "a1.png,1,1,0", "a2.png,2,0,1"),
        _csv(tmp_path / "b", "image,patient,effusion,Covid", "b1.png,02,1,1", "b2.png,3,,0"),
    ]


def test_findings_are_joined_by_what_their_names_mean(two: list[CsvSource]) -> None:
    table = build_label_table(two, None)
    assert table.findings == ["Mass", "Pleural Effusion", "Covid"]
    frame = table.frame.set_index("image_id")
    nan = float("nan")
    order = ["a1.png", "a2.png", "b1.png", "b2.png"]
    assert frame.loc[order, "Pleural Effusion"].tolist() == pytest.approx([0, 1, 1, nan], nan_ok=True)
    assert frame.loc[order, "Mass"].tolist() == pytest.approx([1, 0, nan, nan], nan_ok=True)
    assert "source 1:csv: 'effusion' is 'Pleural Effusion'" in table.notes


def test_a_table_shows_who_labels_what(two: list[CsvSource]) -> None:
    table = build_label_table(two, None)
    assert table.counts[0].labelled == {"Mass": 2, "Pleural Effusion": 2, "Covid": 0}
    assert table.counts[1].positives == {"Mass": 0, "Pleural Effusion": 1, "Covid": 1}
    cells = [line.split("  ") for line in table.lines()[-4:]]
    shown = [[c.strip() for c in line if c.strip(" ─")] for line in cells]
    assert shown[-3:] == [
        ["Mass", "1 / 2", "–"],
        ["Pleural Effusion", "1 / 2", "1 / 1"],
        ["Covid", "–", "1 / 2"],
    ]


def test_wanted_findings_have_the_wanted_names(two: list[CsvSource]) -> None:
    table = build_label_table(two, ["Effusion", "COVID-19"])
    assert table.findings == ["Effusion", "COVID-19"]
    assert table.frame["Effusion"].notna().sum() == 3
    with pytest.raises(InputError, match="findings: 'Covit' is labelled by no source; did you mean 'Covid'"):
        build_label_table(two, ["Covit"])


def test_equal_ids_of_two_sources_are_one_patient(two: list[CsvSource]) -> None:
    table = build_label_table(two, None)
    patients = table.frame.set_index("image_id")["patient_id"]
    assert patients["a2.png"] == patients["b1.png"]
    assert patients.nunique() == 3
    assert (
        "1 patient ids stand in more than one source; they count as the same people and stay in one split"
        in table.notes
    )


def test_numbers_are_equal_whatever_zeros_they_begin_with() -> None:
    ids = pd.Series(["007", "8", "0", "P01", "7", "P1", "00"])
    joined, shared = join_patients(ids, pd.Series(["a", "a", "a", "a", "b", "b", "b"]))
    assert joined.tolist() == ["007", "8", "0", "P01", "007", "P1", "0"] and shared == 2
    assert join_patients(ids, pd.Series(["a"] * 7))[0].tolist() == ids.tolist()


def test_a_patient_keeps_one_pseudonym_over_sources(
    two: list[CsvSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    one = two[1].model_copy(update={"pseudonymise": True})
    frame = build_label_table([two[0], one], None).frame.set_index("film_name")
    made = pseudonyms(["2", "3"], "patient", KEY.encode())
    # Patient 2 is also in the source that asks for pseudonyms, so he has one in both.
    assert frame["patient_id"].to_dict() == {
        "a1.png": "1",
        "a2.png": made["2"],
        "b1.png": made["2"],
        "b2.png": made["3"],
    }
    assert frame.loc["a1.png", "image_id"] == "a1.png"
    assert frame.loc["b1.png", "image_id"] == pseudonyms(["b1.png"], "image", KEY.encode())["b1.png"]


def test_two_keys_and_a_shared_patient(two: list[CsvSource], tmp_path: Path) -> None:
    files = [tmp_path / "1.key", tmp_path / "2.key"]
    for file, key in zip(files, (KEY, KEY[::-1]), strict=True):
        file.write_text(key)
    sources = [
        s.model_copy(update={"pseudonymise": True, "pseudonym_key_file": str(f)})
        for s, f in zip(two, files, strict=True)
    ]
    table = build_label_table(sources, None)
    patients = table.frame.set_index("film_name")["patient_id"]
    assert patients["a2.png"] == patients["b1.png"] == pseudonyms(["2"], "patient", KEY.encode())["2"]
    assert patients["b2.png"] == pseudonyms(["3"], "patient", KEY[::-1].encode())["3"]
    assert any("other users of this machine may read the key" in note for note in table.notes)


def test_different_films_of_one_name_are_told_apart(tmp_path: Path) -> None:
    sources = [
        _csv(tmp_path / name, "image,patient,Mass", f"1.png,{name},1", f"2.png,{name},0") for name in "ab"
    ]
    table = build_label_table(sources, None)
    assert sorted(table.frame["image_id"]) == ["1.png", "1:1.png", "1:2.png", "2.png"]
    assert any("2 film names stand in more than one source with different files" in n for n in table.notes)


def test_the_same_file_in_two_sources_is_refused(tmp_path: Path) -> None:
    source = _csv(tmp_path / "a", "image,patient,Mass", "1.png,1,1", "2.png,2,0")
    (tmp_path / "t.csv").write_text("image,patient,Edema\n1,1,1\n2,2,0\n")
    other = source.model_copy(update={"labels": str(tmp_path / "t.csv")})
    with pytest.raises(InputError, match="2 films are labelled by several sources"):
        build_label_table([source, other], None)


def test_a_source_without_any_film_is_refused_by_name(tmp_path: Path) -> None:
    source = _csv(tmp_path / "a", "image,patient,Mass", "1.png,1,1")
    (tmp_path / "a/1.png").unlink()
    with pytest.raises(
        InputError, match="source 1:csv: no film was found for the 1 rows of the label table; check"
    ):
        build_label_table([PhantomSource(patients=20), source], None)


def test_real_films_and_drawn_ones(shared_data: Path) -> None:
    nih = NihSource(images=[str(shared_data / "nih/images")], labels=str(shared_data / "nih/Data_Entry_2017_v2020.csv.gz"), views=["PA"])  # fmt: skip
    table = build_label_table([nih, PhantomSource(patients=20)], ["Cardiomegaly", "Hernia"])
    frame = table.frame
    assert frame.loc[frame["source"] == "0:nih", "view"].unique().tolist() == ["PA"]
    assert (
        table.counts[1].labelled["Hernia"] == 0
        and table.counts[0].labelled["Hernia"] == table.counts[0].films == 447
    )
    assert np.isnan(frame.loc[frame["source"] == "1:phantom", "Hernia"]).all()
    assert frame["given_split"].isna().all()


def test_ids_that_nearly_are_one_another_are_counted(tmp_path: Path) -> None:
    rows = ["a.png,P1,1", "b.png,p01,0", "c.png,7,0", "d.png,007,0", "e.png,8,1", "f.png,P10,0"]
    notes = build_label_table([_csv(tmp_path / "t", "image,patient,Mass", *rows)], None).notes
    assert [n.partition(";")[0] for n in notes] == [
        "4 patient ids differ only by capitals or leading zeros and count as different people"
    ]
