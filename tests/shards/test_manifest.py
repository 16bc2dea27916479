"""Fingerprints change with what results rest on, and with nothing else."""

import hashlib
import re

import numpy as np
import pandas as pd
import pytest

from ray_cxr.shards.manifest import (
    films_fingerprint,
    fingerprint,
    fold_fingerprint,
    pixel_statistics,
    split_counts,
)

FINDINGS = ["Mass", "Edema"]
NAN = float("nan")


def _index() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d"],
            "patient_id": ["1", "1", "2", "3"],
            "split": ["train", "train", "test", "validation"],
            "Mass": np.array([1, 0, NAN, 1], np.float32),
            "Edema": np.array([0, 0, 1, NAN], np.float32),
            "pixel_sha256": ["p", "q", "r", "s"],
            "shard": ["x", "x", "y", "z"],
            "age": [40.0, 41.0, NAN, 3.0],
        }
    )


def _fingerprint(index: pd.DataFrame, findings: list[str] = FINDINGS, image_px: int = 256) -> str:
    return fingerprint(index, findings, films_fingerprint(index, image_px))


def _changed(column: str, row: int, value: object) -> pd.DataFrame:
    index = _index()
    index.loc[row, column] = value
    return index


def test_fingerprint_is_a_sha256_whatever_the_order_of_rows_and_shards() -> None:
    first = _fingerprint(_index())
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert _fingerprint(_index().iloc[::-1]) == first
    assert _fingerprint(_index().assign(shard="elsewhere", age=1.0)) == first


def test_fingerprint_is_that_of_sorted_lines() -> None:
    """Data sets and runs hold it, so no other version may make another one."""
    lines = [
        "films",
        "Mass",
        "Edema",
        "a\t1\ttrain\t1,0",
        "b\t1\ttrain\t0,0",
        "c\t2\ttest\t,1",
        "d\t3\tvalidation\t1,",
    ]
    expected = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert fingerprint(_index().iloc[::-1], FINDINGS, "films") == expected
    fold = "".join(
        f"{line}\n" for line in ["set", "fold=1", "a\ttrain", "b\ttrain", "c\ttest", "d\tvalidation"]
    )
    assert fold_fingerprint(_index(), "set", 1) == hashlib.sha256(fold.encode()).hexdigest()


def test_fingerprint_sorts_as_python_does_beyond_ascii() -> None:
    index = _index().assign(image_id=["é", "z", "𝕏", "\uffee"])
    lines = sorted(["é\t1\ttrain\t1", "z\t1\ttrain\t0", "𝕏\t2\ttest\t", "\uffee\t3\tvalidation\t1"])
    expected = hashlib.sha256("".join(f"{line}\n" for line in ["films", "Mass", *lines]).encode()).hexdigest()
    assert fingerprint(index, ["Mass"], "films") == expected


@pytest.mark.parametrize(
    ("column", "row", "value"),
    [("Mass", 0, 0.0), ("Mass", 2, 0.0), ("Mass", 3, NAN), ("patient_id", 1, "2"), ("split", 1, "test"),
     ("image_id", 0, "e"), ("pixel_sha256", 3, "t")],
)  # fmt: skip
def test_fingerprint_changes_with_labels_patients_split_and_pixels(
    column: str, row: int, value: object
) -> None:
    assert _fingerprint(_changed(column, row, value)) != _fingerprint(_index())


def test_fingerprint_changes_with_findings_and_their_order_and_with_the_size() -> None:
    known = {
        _fingerprint(_index()), _fingerprint(_index(), ["Mass"]), _fingerprint(_index(), ["Edema", "Mass"]),
        _fingerprint(_index(), image_px=224),
    }  # fmt: skip
    assert len(known) == 4
    # The same labels under another name.
    assert _fingerprint(_index().rename(columns={"Mass": "Nodule"}), ["Nodule", "Edema"]) not in known


def test_fingerprint_of_films_rests_on_pixels_alone() -> None:
    first = films_fingerprint(_index(), 256)
    assert films_fingerprint(_changed("Mass", 0, 0.0), 256) == first
    assert films_fingerprint(_changed("split", 0, "test"), 256) == first
    assert films_fingerprint(_changed("pixel_sha256", 0, "t"), 256) != first
    swapped = _index().assign(pixel_sha256=["q", "p", "r", "s"])
    assert films_fingerprint(swapped, 256) != first


def test_counts_of_each_split() -> None:
    counts = split_counts(_index(), FINDINGS)
    assert counts["train"] == {
        "images": 2, "patients": 1, "positives": {"Mass": 1, "Edema": 0}, "labelled": {"Mass": 2, "Edema": 2},
    }  # fmt: skip
    assert counts["test"]["labelled"] == {"Mass": 0, "Edema": 1}
    assert counts["validation"]["positives"] == {"Mass": 1, "Edema": 0}
    assert counts["unused"]["images"] == counts["unused"]["patients"] == 0


def test_pixel_statistics_are_those_of_all_pixels() -> None:
    films = np.array([[[0, 255], [0, 255]], [[51, 51], [51, 51]]], np.float64)
    facts = pd.DataFrame({"pixel_sum": films.sum((1, 2)), "pixel_square_sum": np.square(films).sum((1, 2))})
    # Two black, two white, four of a fifth: mean 0.35, mean of squares (2 + 4 × 0.04) / 8 = 0.27.
    statistics = pixel_statistics(facts, 2)
    assert statistics == {"mean": pytest.approx(0.35), "std": pytest.approx((0.27 - 0.35**2) ** 0.5)}


def test_pixels_of_one_gray_have_no_spread() -> None:
    facts = pd.DataFrame({"pixel_sum": [4 * 77.0], "pixel_square_sum": [4 * 77.0**2]})
    assert pixel_statistics(facts, 2) == {"mean": pytest.approx(77 / 255), "std": pytest.approx(0, abs=1e-6)}
