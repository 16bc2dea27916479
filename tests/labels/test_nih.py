"""The NIH table in both published vintages, on the published file itself and on hand-written ones."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.labels.cells import parse_ages
from ray_cxr.labels.locate import find_films
from ray_cxr.labels.nih import FINDINGS, nih_table
from ray_cxr.labels.settings import NihSource
from ray_cxr.labels.source import SourceTable

HEADER_2017 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
"""As published: a comma inside two names, so they are four columns, and one at the end."""
HEADER_2020 = HEADER_2017.rstrip(",")
ROWS_2017 = [
    "00000001_000.png,Cardiomegaly|Effusion,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
    "00000001_001.png,No Finding,1,1,059Y,M,AP,2894,2729,0.143,0.143,",
    "00000002_000.png,Pleural_Thickening,0,2,010M,F,PA,2500,2048,0.168,0.168,",
    "00000013_026.png,Hernia,26,13,411Y,F,PA,2500,2048,0.168,0.168,",
]


def _films(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"a film")


def _row(name: str = "00000005_000.png", labels: str = "Mass", patient: str = "5", view: str = "PA") -> str:
    return f"{name},{labels},0,{patient},57,M,{view},2682,2749,0.143,0.143"


def _table(
    tmp_path: Path, *rows: str, header: str = HEADER_2020, views: list[str] | None = None
) -> SourceTable:
    """The table of these rows, with a film for each."""
    csv = tmp_path / "Data_Entry.csv"
    csv.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    _films(tmp_path / "images", *(r.split(",")[0] for r in rows))
    return nih_table(NihSource(images=[str(tmp_path / "images")], labels=str(csv), views=views))


@pytest.fixture(scope="module")
def published(shared_data: Path) -> SourceTable:
    nih = shared_data / "nih"
    source = NihSource(images=[str(nih / "images")], labels=str(nih / "Data_Entry_2017_v2020.csv.gz"))
    return nih_table(source)


def test_published_table_is_joined_with_the_films_of_a_partial_download(published: SourceTable) -> None:
    # 112,120 rows (Wang et al. 2017); here are 796 films of 622 patients, 87 of them with more than one.
    assert published.rows == 112_120
    assert len(published.frame) == 796 and published.without_file == 112_120 - 796
    assert published.other_views == 0
    films_per_patient = published.frame["patient_id"].value_counts()
    assert len(films_per_patient) == 622 and (films_per_patient > 1).sum() == 87
    assert published.frame["image_id"].is_unique


def test_published_labels_say_what_the_text_says(published: SourceTable, shared_data: Path) -> None:
    with gzip.open(shared_data / "nih" / "Data_Entry_2017_v2020.csv.gz", "rt", encoding="utf-8") as file:
        texts = {line.split(",")[0]: set(line.split(",")[1].split("|")) for line in file}
    assert published.findings == FINDINGS and len(FINDINGS) == 14
    for film in published.frame.itertuples(index=False):
        present = {f for f in FINDINGS if getattr(film, f) == 1}
        assert present == texts[film.image_id] - {"No Finding"}
    values = published.frame[list(FINDINGS)].to_numpy()
    assert values.dtype == np.float32 and set(np.unique(values)) == {0, 1}
    assert published.frame["Hernia"].sum() == 7


def test_published_ages_and_views_are_plausible(published: SourceTable) -> None:
    frame = published.frame
    assert frame["age"].dtype == np.float32 and frame["age"].between(0, 120).all()
    assert set(frame["view"]) == {"PA", "AP"} and set(frame["sex"]) == {"M", "F"}
    assert (frame["patient_id"] == frame["image_id"].str[:8]).all()
    assert all(
        Path(p).is_absolute() and Path(p).name == i
        for p, i in zip(frame["locator"], frame["image_id"], strict=True)
    )


def test_table_of_2017_is_read_by_name_although_its_header_has_stray_commas(tmp_path: Path) -> None:
    frame = _table(tmp_path, *ROWS_2017, header=HEADER_2017).frame
    assert frame["image_id"].tolist() == [r.split(",")[0] for r in ROWS_2017]
    assert frame["patient_id"].tolist() == ["00000001", "00000001", "00000002", "00000013"]
    assert frame["view"].tolist() == ["PA", "AP", "PA", "PA"]
    assert frame["sex"].tolist() == ["M", "M", "F", "F"]
    # 010M is ten months; 411 years is a slip of the table.
    assert frame["age"].tolist() == pytest.approx([58, 59, 10 / 12, float("nan")], nan_ok=True)
    present = [{f for f in FINDINGS if row[f] == 1} for _, row in frame.iterrows()]
    assert present == [{"Cardiomegaly", "Effusion"}, set(), {"Pleural_Thickening"}, {"Hernia"}]


@pytest.mark.parametrize(("header", "tail"), [(HEADER_2017, ""), (HEADER_2020, ",")], ids=["header", "rows"])
def test_comma_at_the_end_of_header_or_rows_alone_shifts_no_column(
    tmp_path: Path, header: str, tail: str
) -> None:
    table = _table(tmp_path, *(r.rstrip(",") + tail for r in ROWS_2017), header=header)
    assert table.frame["image_id"].tolist() == [r.split(",")[0] for r in ROWS_2017]
    assert table.frame["sex"].tolist() == ["M", "M", "F", "F"]


def test_rows_without_a_film_are_counted_and_left_out(tmp_path: Path) -> None:
    _table(tmp_path, _row(), _row("00000006_000.png", patient="6"), _row("00000007_000.png", patient="7"))
    (tmp_path / "images" / "00000006_000.png").unlink()
    source = NihSource(images=[str(tmp_path / "images")], labels=str(tmp_path / "Data_Entry.csv"))
    table = nih_table(source)
    assert (table.rows, len(table.frame), table.without_file) == (3, 2, 1)


def test_no_film_at_all_is_an_empty_table(tmp_path: Path) -> None:
    _table(tmp_path, _row())
    (tmp_path / "empty").mkdir()
    source = NihSource(images=[str(tmp_path / "empty")], labels=str(tmp_path / "Data_Entry.csv"))
    table = nih_table(source)
    assert (len(table.frame), table.without_file) == (0, 1)
    assert set(FINDINGS) <= set(table.frame.columns)


def test_views_are_chosen_and_the_others_counted(tmp_path: Path) -> None:
    rows = [_row(f"0000000{n}_000.png", patient=str(n), view=v) for n, v in enumerate(["PA", "AP", "PA"])]
    table = _table(tmp_path, *rows, views=["PA"])
    assert table.frame["view"].tolist() == ["PA", "PA"]
    assert (table.rows, table.other_views, table.without_file) == (3, 1, 0)


def test_films_are_found_below_several_folders(tmp_path: Path) -> None:
    _films(tmp_path / "images_001" / "images", "a.png")
    _films(tmp_path / "images_002" / "images", "b.PNG", "c.jpg")
    found = find_films([str(tmp_path / "images_001"), str(tmp_path / "images_002")])
    assert sorted(found) == ["a.png", "b.PNG", "c.jpg"]
    assert found["a.png"] == str(tmp_path / "images_001" / "images" / "a.png")


def test_folder_given_twice_holds_no_duplicates(tmp_path: Path) -> None:
    _films(tmp_path / "images", "a.png")
    assert len(find_films([str(tmp_path), str(tmp_path / "images"), f"{tmp_path}/"])) == 1


def test_two_films_of_one_name_are_refused(tmp_path: Path) -> None:
    _films(tmp_path / "images_001", "a.png", "b.png")
    _films(tmp_path / "images_002", "a.png")
    with pytest.raises(InputError, match=r"source.images: 1 file names stand in more than one place"):
        find_films([str(tmp_path)])


def test_other_files_of_one_name_do_not_matter(tmp_path: Path) -> None:
    for folder in ("images_001", "images_002"):
        _films(tmp_path / folder, ".DS_Store", "Thumbs.db", "README.txt", f"{folder}.png")
    assert sorted(find_films([str(tmp_path)])) == ["images_001.png", "images_002.png"]


def test_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source.images: .*nowhere' is not a folder"):
        find_films([str(tmp_path / "nowhere")])


def test_unknown_finding_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        _table(tmp_path, _row(labels="Mass|Masss"))
    message = str(caught.value)
    assert "holds 'Masss', which is no finding of this data set" in message and "\n" not in message


@pytest.mark.parametrize("column", ["Image Index", "Finding Labels", "Patient ID", "Patient Age"])
def test_missing_column_is_refused_by_name(tmp_path: Path, column: str) -> None:
    with pytest.raises(InputError, match=f"has no column '{column}'"):
        _table(tmp_path, _row(), header=HEADER_2020.replace(column, "Other"))


@pytest.mark.parametrize("patient", ["6", "", "50", "P5"])
def test_patient_id_that_is_not_the_file_names_is_refused(tmp_path: Path, patient: str) -> None:
    with pytest.raises(InputError) as caught:
        _table(tmp_path, _row("00000004_000.png", patient="4"), _row(patient=patient))
    message = str(caught.value)
    assert "in 1 rows 'Patient ID' is not the number that the file name begins with" in message
    assert "film 2 of those found" in message and "\n" not in message
    assert "00000005" not in message


def test_labels_may_have_spaces_around_them(tmp_path: Path) -> None:
    frame = _table(
        tmp_path, _row("00000005_000.png", "Mass | Edema"), _row("00000005_001.png", "Edema|Mass "),
        _row("00000005_002.png", " No Finding"),
    ).frame  # fmt: skip
    assert frame["Mass"].tolist() == frame["Edema"].tolist() == [1, 1, 0]
    assert frame[list(FINDINGS)].to_numpy().sum() == 4


def test_blank_label_cell_is_not_labelled_rather_than_healthy(tmp_path: Path) -> None:
    frame = _table(tmp_path, _row("00000005_000.png", ""), _row("00000005_001.png", "No Finding")).frame
    values = frame[list(FINDINGS)].to_numpy()
    assert np.isnan(values[0]).all() and not values[1].any()


def test_table_may_be_compressed_and_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    _films(tmp_path / "images", "00000005_000.png")
    csv = tmp_path / "Data_Entry.csv.gz"
    csv.write_bytes(gzip.compress(f"{HEADER_2020}\n{_row()}\n".encode("utf-8-sig")))
    table = nih_table(NihSource(images=[str(tmp_path / "images")], labels=str(csv)))
    assert table.frame["Mass"].tolist() == [1]


def _compressed() -> bytes:
    rows = [_row(f"{n:08d}_000.png", patient=str(n)) for n in range(2000)]
    return gzip.compress("\n".join([HEADER_2020, *rows]).encode())


def _refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "Data_Entry.csv.gz").write_bytes(data)
    with pytest.raises(InputError, match=r"source.labels: .* cannot be read as a CSV table: .+\.$"):
        nih_table(NihSource(images=[str(tmp_path)], labels=str(tmp_path / "Data_Entry.csv.gz")))


def test_truncated_compressed_table_is_refused_in_a_sentence(tmp_path: Path) -> None:
    data = _compressed()
    _refused(tmp_path, data[: len(data) // 2])


def test_table_that_is_not_compressed_under_a_compressed_name_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, gzip.decompress(_compressed()))


def test_compressed_table_with_a_flipped_bit_is_refused_in_a_sentence(tmp_path: Path) -> None:
    data = _compressed()
    for place in range(20, len(data) - 8, len(data) // 30):
        _refused(tmp_path, data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe\x00\x00binary\x81", b'"an open quote,\n1,2\n', b"\x89PNG\r\n\x1a\n\x00\x00"]
)
def test_file_that_is_no_table_is_refused(tmp_path: Path, data: bytes) -> None:
    csv = tmp_path / "Data_Entry.csv"
    csv.write_bytes(data)
    with pytest.raises(InputError, match=r"source.labels: "):
        nih_table(NihSource(images=[str(tmp_path)], labels=str(csv)))


def test_table_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source.labels: .*nowhere.csv' does not exist"):
        nih_table(NihSource(images=[str(tmp_path)], labels=str(tmp_path / "nowhere.csv")))


@pytest.mark.parametrize(
    ("text", "years"),
    [("58", 58), ("058Y", 58), ("010M", 10 / 12), ("012D", 12 / 365.25), ("3W", 21 / 365.25), (" 7 ", 7),
     ("000Y", 0), ("120", 120), ("121", None), ("414Y", None), ("", None), ("abc", None), ("-5", None)],
)  # fmt: skip
def test_ages(text: str, years: float | None) -> None:
    age = parse_ages(pd.Series([text]))
    assert age.dtype == np.float32
    assert age.tolist() == pytest.approx([float("nan") if years is None else years], nan_ok=True, rel=1e-6)


def test_a_link_back_up_ends_the_search(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "00000001_000.png").write_bytes(b"x")
    (tmp_path / "below" / "up").symlink_to(tmp_path)
    assert list(find_films([str(tmp_path)])) == ["00000001_000.png"]


def test_a_finding_and_no_finding_at_once_is_refused(tmp_path: Path) -> None:
    sentence = r"1 cells of column 'Finding Labels' name a finding and no finding at once \(first: row 2 of the table\)"
    with pytest.raises(InputError, match=sentence):
        _table(tmp_path, _row("00000006_000.png", patient="6"), _row(labels="No Finding|Mass"))
