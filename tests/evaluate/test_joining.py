"""Joins by id: what is found, by what of the ids, and what is refused."""

import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.evaluate.joining import check_ids, id_form, join, rows_text


def ids(*values: str) -> pd.Series:
    return pd.Series(list(values))


@pytest.mark.parametrize(
    ("left", "right", "rows", "by"),
    [
        (["b.png", "a.png"], ["a.png", "x.png", "b.png"], [2, 0], "as they stand"),
        (["b", "a"], ["a.png", "b.PNG"], [1, 0], "without the suffix"),
        (["images/b.png", "images/a.png"], ["a.png", "b.png"], [1, 0], "without their folders"),
        ([r"C:\films\b.png"], ["a.dcm", "x/b.dcm"], [1], "without folders and suffix"),
        (
            ["root/p1/view1.jpg", "root/p2/view1.jpg"],
            ["p2/view1.jpg", "p1/view1.jpg"],
            [1, 0],
            "the last 2 parts",
        ),
        (["v1/a/s1/x.jpg", "v1/b/s1/x.jpg"], ["b/s1/x.png", "a/s1/x.png"], [1, 0], "the last 3 parts"),
        (["12.0", "7"], ["7.0", "12"], [1, 0], "without the suffix"),
        (["s7", "s7", "s8"], ["s8", "s7"], [1, 1, 0], "as they stand"),
        (["p1/view1.jpg", "p2/view1.jpg"], ["p2/view1.jpg", "p1/view1.jpg"], [1, 0], "as they stand"),
    ],
)
def test_ids_are_found_by_their_strictest_form(
    left: list[str], right: list[str], rows: list[int], by: str
) -> None:
    found = join(ids(*left), ids(*right), "--predictions", "--labels")
    assert found.rows.tolist() == rows
    assert by in found.by


def test_missing_films_are_counted_and_named_by_row() -> None:
    with pytest.raises(InputError, match=r"--labels lacks 2 of the 3 films \(data rows 1, 3\)"):
        join(ids("secret-1", "a", "secret-2"), ids("a", "b"), "--predictions", "--labels")
    with pytest.raises(InputError, match=r"--labels lacks every film \(data rows 1, 2\)"):
        join(ids("x", "y"), ids("a", "b"), "--predictions", "--labels")


def test_no_message_holds_an_id() -> None:
    for call in (
        lambda: join(ids("secret-1"), ids("a"), "P", "L"),
        lambda: join(ids("secret-1"), ids("secret-1", "secret-1"), "P", "L"),
        lambda: check_ids(ids("secret-1", "secret-1"), "image", "P"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "secret" not in caught.value.message


def test_films_of_the_same_name_in_other_folders_are_not_taken_for_one() -> None:
    """Without their folders both would be view1.jpg, and one patient's film would get the other's label."""
    with pytest.raises(InputError, match="L lacks every film .* without folders 1 id would repeat another"):
        join(ids("a/p1/view1.jpg", "a/p2/view1.jpg"), ids("p3/view1.jpg", "p4/view1.jpg"), "P", "L")


def test_ids_that_do_not_fit_are_shown_by_their_form() -> None:
    with pytest.raises(InputError) as caught:
        join(ids("CXR12_7-é", "CXR13_8-b", "00012_7.png"), ids("00000012_007.png"), "P", "L")
    assert (
        "ids look like 'aaa99_9-a' in P and '99999999_999.png' in L (9 stands for a digit"
        in caught.value.message
    )
    assert id_form("x" * 100) == "a" * 60 + "…"


def test_ids_that_stand_twice_are_refused_only_where_they_are_asked_for() -> None:
    assert join(ids("a"), ids("b", "b", "a"), "P", "L").rows.tolist() == [2]
    with pytest.raises(InputError, match=r"1 film asked for stands in several rows \(data rows 1, 2\)"):
        join(ids("b"), ids("b", "b", "a"), "P", "L")


def test_rows_of_a_study_must_agree() -> None:
    right, labels = ids("s1", "s1", "s2"), pd.DataFrame({"Mass": ["1", "1", "0"]})
    assert join(ids("s2", "s1"), right, "P", "L", labels).rows.tolist() == [2, 0]
    labels.loc[1, "Mass"] = "0"
    with pytest.raises(InputError, match="1 study has several rows that do not agree"):
        join(ids("s2", "s1"), right, "P", "L", labels)


def test_blank_and_repeated_ids_are_refused() -> None:
    with pytest.raises(InputError, match=r"column 'image' has 2 blank cells among 3 \(data rows 1, 3\)"):
        check_ids(ids("", "a", "  "), "image", "--predictions")
    with pytest.raises(
        InputError,
        match=r"repeats the id of an earlier row 2 times among 4 rows \(data rows 3, 4; data rows 1, 3, 4 are",
    ):
        check_ids(ids("a", "b", "a", "a"), "image", "--predictions")


def test_rows_are_counted_from_one_and_cut_short() -> None:
    assert rows_text([0]) == "data row 1"
    assert rows_text(list(range(7))) == "data rows 1, 2, 3, 4, 5, …"
