"""Lists of films: files and folders, plain or packed, and what they say about each film."""

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.splits.given import by_column, by_lists
from ray_cxr.splits.lists import Lists, read_lists
from ray_cxr.splits.settings import SplitSettings


def _settings(**wishes: Any) -> SplitSettings:
    return SplitSettings.model_validate(wishes)


def test_lists_are_files_or_folders_one_or_several(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufefffolder/a1.png\r\na2.png\n\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text('"b1.png",Mass\nb2,Edema\n')
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"c1.png\n"))
    (tmp_path / "films/deep").mkdir(parents=True)
    (tmp_path / "films/deep/d1.PNG").touch()
    (tmp_path / "films/notes.txt").touch()
    lists = {
        "train": [str(tmp_path / "a.txt"), str(tmp_path / "b.csv")], "validation": str(tmp_path / "c.txt.gz"),
        "test": str(tmp_path / "films"),
    }  # fmt: skip
    read = read_lists(_settings(method="lists", lists=lists), [])
    assert read == {
        "train": {"folder/a1.png", "a1.png", "a2.png", "b1.png", "b2"}, "validation": {"c1.png"}, "test": {"d1.PNG"},
    }  # fmt: skip
    films = pd.Series(["a1.png", "b1.png", "b2.png", "c1.png", "d1.PNG", "else.png"])
    assert by_lists(films, read).tolist() == ["train", "train", "train", "validation", "test", "unused"]


def test_official_lists_lie_beside_the_labels_or_are_given(tmp_path: Path, shared_data: Path) -> None:
    labels = str(shared_data / "nih/Data_Entry_2017_v2020.csv.gz")
    lists = read_lists(_settings(method="official"), [labels])
    assert {name: len(films) for name, films in lists.items()} == {"train_validation": 86_524, "test": 25_596}
    with pytest.raises(
        InputError, match=r"train_val_list.txt \(or .gz\) was not found beside .*split.lists.train_validation"
    ):
        read_lists(_settings(method="official"), [str(tmp_path / "labels.csv")])
    with pytest.raises(InputError, match="no source has a label file"):
        read_lists(_settings(method="official"), [])
    given = {
        "train_validation": str(shared_data / "nih/train_val_list.txt.gz"), "test": str(shared_data / "nih/test_list.txt.gz"),
    }  # fmt: skip
    assert read_lists(_settings(method="official", lists=given), [str(tmp_path / "labels.csv")]) == lists


def test_official_takes_no_lists_of_its_own_making() -> None:
    with pytest.raises(
        ValueError, match="method official takes split.lists.train_validation and split.lists.test only"
    ):
        _settings(method="official", lists={"train": "a.txt", "test": "b.txt"})


def test_a_list_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "films.png").write_bytes(b"\xff\xfe\x00\x80")
    for place in ("nowhere.txt", "empty.txt", "films.png"):
        with pytest.raises(InputError, match=r"split.lists.(train|test): .*" + place):
            read_lists(
                _settings(method="lists", lists={"train": str(tmp_path / place), "test": "nowhere.txt"}), []
            )


def test_films_in_two_lists_are_refused() -> None:
    films = pd.Series(["a.png", "b.png", "c.png"])
    lists: Lists = {"train": {"a.png", "b.png"}, "test": {"b.png", "c.png"}}
    with pytest.raises(
        RefusedError, match="film leak: 1 films stand both in the list of train and in that of test"
    ) as refusal:
        by_lists(films, lists)
    assert refusal.value.exit_code == 3
    assert "b.png" not in str(refusal.value)


def test_lists_that_fit_no_film_and_names_that_repeat_are_told() -> None:
    lists: Lists = {"train": {"a.png"}, "test": {"elsewhere.png"}}
    with pytest.raises(InputError, match="split.lists.test: no film named there is among the 2 films found"):
        by_lists(pd.Series(["a.png", "b.png"]), lists)
    with pytest.raises(InputError, match="1 film names stand more than once"):
        by_lists(pd.Series(["a.png", "a.png"]), lists)


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"lists": {"test": "a"}}, "lists have no effect with method sampled"),
        (
            {"method": "lists", "lists": {"test": "a"}},
            "method lists needs split.lists.test and split.lists.train",
        ),
        ({"method": "official", "words": {"a": "test"}}, "words have no effect with method official"),
        (
            {"method": "column", "words": {"a": "exam"}},
            "Input should be 'train', 'validation', 'test' or 'unused'",
        ),
        ({"minority_floor": 1.0}, "less than 1"),
        ({"folds": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wishes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        _settings(**wishes)


def test_words_of_a_column() -> None:
    column = pd.Series(
        ["Train", " training ", "val", "TUNE", "dev", "validation", "test", "Testing", "", None]
    )
    assert (
        by_column(column, {}).tolist() == ["train"] * 2 + ["validation"] * 4 + ["test"] * 2 + ["unused"] * 2
    )
    column = pd.Series(["1", "1", "2", "3"])
    with pytest.raises(
        InputError, match=r"words of unknown meaning: '1' \(2 films\), '2' \(1 films\), '3' \(1 films\)"
    ):
        by_column(column, {})
    assert by_column(column, {"1": "train", "2": "test", "3": "unused"}).tolist() == [
        "train",
        "train",
        "test",
        "unused",
    ]


def test_words_that_may_be_names_are_not_shown() -> None:
    with pytest.raises(InputError, match="unknown meaning: 20 of them on 20 films") as refusal:
        by_column(pd.Series([f"patient-{n}" for n in range(20)]), {})
    assert "patient-" not in str(refusal.value)


def test_a_column_without_training_or_test_films_is_told() -> None:
    with pytest.raises(InputError, match="the split column has no test films"):
        by_column(pd.Series(["train", "val"]), {})
    with pytest.raises(InputError, match="no source has one"):
        by_column(pd.Series([None, ""]), {})
