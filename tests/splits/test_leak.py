"""The leak check can fail, and says by how much and where."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.errors import RefusedError
from ray_cxr.splits.leak import check_leaks, refuse_leak


def _index(*films: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(films, columns=["patient_id", "split", "pixel_sha256"])


CLEAN = [("a", "train", "1"), ("a", "train", "2"), ("b", "validation", "3"), ("c", "test", "4")]


def test_disjoint_splits_are_clean() -> None:
    check = check_leaks(_index(*CLEAN))
    refuse_leak(check)
    assert check.clean and check.as_dict()["clean"] is True
    assert check.sentence() == "leak check: 0 of 3 patients are in more than one split"
    assert check.pairs == {"train-validation": 0, "train-test": 0, "validation-test": 0}


@pytest.mark.parametrize(
    ("film", "pair"),
    [(("a", "test", "9"), "train and test"), (("a", "validation", "9"), "train and validation"),
     (("b", "test", "9"), "validation and test")],
)  # fmt: skip
def test_one_shared_patient_is_refused(film: tuple[str, str, str], pair: str) -> None:
    check = check_leaks(_index(*CLEAN, film))
    assert (check.clean, check.shared_patients, check.patients) == (False, 1, 3)
    with pytest.raises(RefusedError, match=rf"patient leak: 1 patients .*\(1 in {pair}\)") as caught:
        refuse_leak(check)
    assert caught.value.exit_code == 3


def test_pairs_are_counted_by_patient_not_by_film() -> None:
    # Two patients in train and test (one with three films there), one of them also in validation.
    films = [
        ("a", "test", "5"),
        ("a", "test", "6"),
        ("a", "test", "7"),
        ("b", "train", "8"),
        ("b", "test", "9"),
    ]
    check = check_leaks(_index(*CLEAN, *films))
    assert check.pairs == {"train-validation": 1, "train-test": 2, "validation-test": 1}
    assert check.shared_patients == 2


def test_message_and_counts_name_no_patient() -> None:
    check = check_leaks(_index(*CLEAN, ("a", "test", "9")).replace({"patient_id": {"a": "00012345"}}))
    with pytest.raises(RefusedError) as caught:
        refuse_leak(check)
    assert "00012345" not in str(caught.value) + str(check.as_dict()) + check.sentence()


def test_films_left_out_of_all_splits_leak_nothing() -> None:
    assert check_leaks(_index(*CLEAN, ("a", "unused", "9"), ("c", "unused", "1"))).clean


def test_identical_films_of_several_splits_are_counted() -> None:
    check = check_leaks(_index(*CLEAN, ("d", "test", "1"), ("e", "train", "2")))
    assert check.shared_films == 1 and check.clean
    assert "1 pixel-identical films stand in several splits" in check.sentence()


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["train", "validation", "test", "unused"])), min_size=1)
)  # fmt: skip
def test_count_is_that_of_patients_with_several_splits(films: list[tuple[str, str]]) -> None:
    used = [f for f in films if f[1] != "unused"]
    splits = {p: {s for q, s in used if q == p} for p, _ in used}
    check = check_leaks(_index(*((p, s, str(n)) for n, (p, s) in enumerate(films))))
    assert check.patients == len(splits)
    assert check.shared_patients == sum(len(s) > 1 for s in splits.values())
