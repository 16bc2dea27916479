"""What single cells mean."""

import math

import numpy as np
import pandas as pd
import pytest

from ray_cxr.labels.cells import (
    binary,
    counted,
    is_binary,
    label_value,
    named_findings,
    parse_sexes,
    parse_views,
    unknown_ages,
)


def _cells(*texts: str) -> pd.Series:
    return pd.Series(texts, dtype=str)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (("1", "1.0", "1.00", " 1 ", "true", "TRUE", "True", "yes", "YES", "Positive"), 1),
        (("0", "0.0", "-0", "false", "False", "no", "NO", "negative"), 0),
        (("", " ", "-1", "-1.0", "nan", "NA", "None"), math.nan),
    ],
)
def test_words_for_0_1_and_not_labelled(texts: tuple[str, ...], value: float) -> None:
    read = binary(_cells(*texts))
    assert read.values.dtype == np.float32
    assert read.values.tolist() == pytest.approx([value] * len(texts), nan_ok=True)
    assert read.unreadable == {}


def test_other_words_are_not_labelled_and_counted() -> None:
    read = binary(_cells("1", "HEDGE", "0", "HEDGE", "2", "0.5"))
    assert read.values.tolist() == pytest.approx([1, math.nan, 0] + [math.nan] * 3, nan_ok=True)
    assert read.unreadable == {"HEDGE": 2, "2": 1, "0.5": 1}
    assert read.readable == 2


@pytest.mark.parametrize(
    ("texts", "answer"),
    [(["1", "0", ""], True), (["0", "0"], True), (["", "-1"], False), (["1", "2"], False), (["yes", "maybe"], False)],
)  # fmt: skip
def test_columns_of_labels_are_known(texts: list[str], answer: bool) -> None:
    assert is_binary(_cells(*texts)) is answer


def test_uncertain_words_are_labels_only_where_they_are_asked_for() -> None:
    assert [label_value("1.0"), label_value(" No "), label_value("HEDGE"), label_value("2")] == [
        1,
        0,
        None,
        None,
    ]
    assert math.isnan(label_value(" Hedge ", uncertain_words=True) or 0)
    assert label_value("maybe", uncertain_words=True) is None
    assert is_binary(_cells("1", "HEDGE"), uncertain_words=True)
    assert not is_binary(_cells("1", "HEDGE"))
    assert not is_binary(_cells("", "HEDGE"), uncertain_words=True)


def test_findings_named_in_one_cell() -> None:
    labels = named_findings(_cells("Mass|Edema", " Edema ", "No Finding", "", "NORMAL", "Mass | Mass"), "|")
    assert labels.columns.tolist() == ["Edema", "Mass"]
    nan = math.nan
    assert labels["Edema"].tolist() == pytest.approx([1, 1, 0, nan, 0, 0], nan_ok=True)
    assert labels["Mass"].tolist() == pytest.approx([1, 0, 0, nan, 0, 1], nan_ok=True)


def test_ages_that_are_none_are_counted() -> None:
    cells = _cells("58", "", "abc", "0410", "nan")
    assert unknown_ages(cells, pd.Series([58, math.nan, math.nan, math.nan, math.nan])) == 2


def test_sexes_and_views() -> None:
    sexes = parse_sexes(_cells("M", "female", "Male ", "", "other")).fillna("missing")
    assert sexes.tolist() == ["M", "F", "M", "missing", "missing"]
    views = parse_views(_cells("PA", "ap", "Lateral", "L", "", "Frontal", "posteroanterior")).fillna(
        "missing"
    )
    assert views.tolist() == ["PA", "AP", "LATERAL", "LATERAL", "missing", "FRONTAL", "PA"]


def test_counts_for_a_message_are_cut_short() -> None:
    values = {"a": 1, "b" * 50: 7, "c": 3, "d": 2}
    assert counted(values.items()) == f"'{'b' * 20}' ×7, 'c' ×3, 'd' ×2 and 1 more"
