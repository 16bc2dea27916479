"""Sets that share patients or films, under whatever names."""

import pandas as pd

from ray_cxr.report.explore.overlap import overlap


def test_shared_patients_and_films_are_counted_by_pair() -> None:
    frame = pd.DataFrame({
        "patient_id": ["a", "a", "b", "b", "c", "d", "e"],
        "split": ["test", "train", "train", "validation", "test", "unused", "train"],
        "pixel_sha256": ["1", "2", "3", "4", "2", "2", "5"],
    })  # fmt: skip
    held = overlap(frame, "split")
    assert held is not None
    assert list(held.sets) == ["train", "validation", "test"]
    assert held.pairs == {"train and validation": 1, "train and test": 1, "validation and test": 0}
    assert (held.patients, held.shared_patients, held.same_films) == (4, 2, 2)
    assert not held.clean
    assert held.as_dict()["clean"] is False


def test_sets_of_any_name() -> None:
    frame = pd.DataFrame({"patient_id": ["a", "b", "a"], "given_split": ["Fold 1", "Fold 2", None]})
    held = overlap(frame, "given_split")
    assert held is not None
    assert held.clean
    assert held.same_films is None


def test_what_names_no_two_sets_is_not_checked() -> None:
    frame = pd.DataFrame({"patient_id": ["a", "b"], "split": ["", "train"], "fold": [pd.NA, pd.NA]})
    assert overlap(frame, "split") is None
    assert overlap(frame, "fold") is None
    assert overlap(frame, "given_split") is None
