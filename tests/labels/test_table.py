"""The label table: sources joined by finding name, in a film order that no split depends on."""

from pathlib import Path

import numpy as np
import pytest

from ray_cxr.errors import InputError
from ray_cxr.labels.nih import FINDINGS as NIH_FINDINGS
from ray_cxr.labels.phantom import FINDINGS as PHANTOM_FINDINGS
from ray_cxr.labels.settings import NihSource, PhantomSource
from ray_cxr.labels.table import DESCRIPTION_COLUMNS, build_label_table

PHANTOM = PhantomSource(patients=20)


def _nih(folder: Path, *rows: tuple[str, str]) -> NihSource:
    """A source of these (image id, labels)."""
    (folder / "images").mkdir(parents=True)
    lines = ["Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position"]
    for image_id, labels in rows:
        (folder / "images" / image_id).touch()
        lines.append(f"{image_id},{labels},{int(image_id[:8])},57,F,PA")
    (folder / "entry.csv").write_text("\n".join([*lines, "00009999_000.png,Mass,9999,1,F,PA"]))
    return NihSource(images=[str(folder / "images")], labels=str(folder / "entry.csv"))


@pytest.fixture
def nih(tmp_path: Path) -> NihSource:
    return _nih(tmp_path, ("00000001_000.png", "Mass"), ("00000002_000.png", "No Finding"))


def test_one_source_gives_its_findings_in_its_order(nih: NihSource) -> None:
    table = build_label_table([nih], None)
    assert table.findings == list(NIH_FINDINGS)
    assert table.frame.columns.tolist() == [*DESCRIPTION_COLUMNS, *NIH_FINDINGS]
    assert (table.frame[table.findings].dtypes == np.float32).all()
    assert set(table.frame["source"]) == {"nih"}


def test_counts_say_why_rows_are_not_films(nih: NihSource) -> None:
    (count,) = build_label_table([nih], None).counts
    assert (count.source, count.rows, count.films, count.without_file, count.other_views) == (
        "nih",
        3,
        2,
        1,
        0,
    )


def test_findings_are_taken_in_the_order_asked_for(nih: NihSource) -> None:
    table = build_label_table([nih], ["Mass", "Atelectasis"])
    assert table.findings == ["Mass", "Atelectasis"]
    assert table.frame.columns.tolist()[-2:] == ["Mass", "Atelectasis"]
    assert "Edema" not in table.frame
    labels = table.frame.set_index("image_id")["Mass"]
    assert (labels["00000001_000.png"], labels["00000002_000.png"]) == (1, 0)


def test_finding_that_no_source_labels_is_refused(nih: NihSource) -> None:
    with pytest.raises(
        InputError, match=r"findings: 'Covid' is labelled by no source; labelled are Atelectasis, "
    ):
        build_label_table([nih], ["Mass", "Covid"])


def test_what_a_source_does_not_label_is_nan_rather_than_absent(nih: NihSource) -> None:
    only_nih = next(f for f in NIH_FINDINGS if f not in PHANTOM_FINDINGS)
    table = build_label_table([PHANTOM, nih], None)
    frame = table.frame
    assert table.findings == [*PHANTOM_FINDINGS, *(f for f in NIH_FINDINGS if f not in PHANTOM_FINDINGS)]
    assert set(frame["source"]) == {"0:phantom", "1:nih"}
    assert frame.loc[frame["source"] == "0:phantom", only_nih].isna().all()
    assert frame.loc[frame["source"] == "1:nih", only_nih].notna().all()
    assert [c.source for c in table.counts] == ["0:phantom", "1:nih"]
    assert sum(c.films for c in table.counts) == len(frame)


def test_film_order_does_not_depend_on_the_order_of_rows_or_sources(tmp_path: Path) -> None:
    rows = [(f"{n:08d}_000.png", "Mass") for n in range(50)]
    straight = build_label_table([_nih(tmp_path / "a", *rows)], None).frame["image_id"].tolist()
    turned = build_label_table([_nih(tmp_path / "b", *rows[::-1])], None).frame["image_id"].tolist()
    assert straight == turned
    assert sorted(straight) == [r[0] for r in rows] and straight != sorted(straight)


def test_film_order_of_some_films_is_that_of_all(tmp_path: Path) -> None:
    rows = [(f"{n:08d}_000.png", "Mass") for n in range(50)]
    everything = build_label_table([_nih(tmp_path / "a", *rows)], None).frame["image_id"].tolist()
    some = build_label_table([_nih(tmp_path / "b", *rows[::3])], None).frame["image_id"].tolist()
    assert some == [i for i in everything if i in set(some)]


def test_image_id_of_two_rows_is_refused(tmp_path: Path) -> None:
    source = _nih(tmp_path, ("00000001_000.png", "Mass"), ("00000001_000.png", "Edema"))
    with pytest.raises(InputError, match="1 image ids stand more than once"):
        build_label_table([source], None)


def test_image_id_of_two_sources_is_refused(tmp_path: Path) -> None:
    sources = [_nih(tmp_path / name, ("00000001_000.png", "Mass")) for name in "ab"]
    with pytest.raises(InputError, match="1 image ids stand more than once"):
        build_label_table(sources, None)


def test_table_without_any_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no film was found for the 1 rows of the label table; check that source.images"
    ):
        build_label_table([_nih(tmp_path)], None)


def test_drawn_films_are_labelled_whole() -> None:
    table = build_label_table([PHANTOM], None)
    assert table.findings == list(PHANTOM_FINDINGS)
    assert table.frame[table.findings].isin([0, 1]).all(axis=None)
    assert table.frame["patient_id"].nunique() == 20


def test_finding_asked_for_twice_is_refused(nih: NihSource) -> None:
    with pytest.raises(InputError, match="findings: got Mass, Edema, Mass; give each finding once"):
        build_label_table([nih], ["Mass", "Edema", "Mass"])
