"""Consensus by hand, and a published majority that must come out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ray_cxr.evaluate.consensus import Rule, consensus, differences, votes_of
from ray_cxr.evaluate.readers import read_readings

NAN = np.nan
HEDGE = 0.5
FILMS = [
    [1, 1, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, NAN], [1, NAN, NAN], [NAN, NAN, NAN],
    [HEDGE, NAN, NAN], [HEDGE, 1, 0], [HEDGE, 1, 1], [HEDGE, HEDGE, 0],
]  # fmt: skip


def _labels(rule: Rule, films: list[list[float]] = FILMS) -> list[float]:
    answers = np.array(films, np.float32)[:, :, None]
    return consensus(answers, ["Mass"], rule).labels[:, 0].tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(), [1, 0, 1, 0, NAN, 1, NAN, NAN, NAN, 1, 0]),
        (Rule(ties="positive"), [1, 0, 1, 0, 1, 1, NAN, NAN, 1, 1, 0]),
        (Rule(ties="negative"), [1, 0, 1, 0, 0, 1, NAN, NAN, 0, 1, 0]),
        (Rule(uncertain="positive"), [1, 0, 1, 0, NAN, 1, NAN, 1, 1, 1, 1]),
        (Rule(uncertain="negative"), [1, 0, 1, 0, NAN, 1, NAN, 0, 0, 1, 0]),
        (Rule("unanimous"), [1, 0, NAN, NAN, NAN, 1, NAN, NAN, NAN, 1, 0]),
        (Rule("unanimous", ties="positive"), [1, 0, 1, 1, 1, 1, NAN, NAN, 1, 1, 0]),
        (Rule("unanimous", uncertain="negative"), [1, 0, NAN, NAN, NAN, 1, NAN, 0, NAN, NAN, 0]),
    ],
)
def test_by_hand(rule: Rule, expected: list[float]) -> None:
    np.testing.assert_array_equal(_labels(rule), expected)


def test_counts_say_what_a_label_rests_on() -> None:
    counts = consensus(np.array(FILMS, np.float32)[:, :, None], ["Mass"], Rule()).counts["Mass"]
    assert counts == {
        "unanimous": 3, "split": 2, "tie": 2, "single": 2, "uncertain": 1, "unread": 1, "definitive": 0,
    }  # fmt: skip
    assert sum(counts.values()) == len(FILMS)


def test_a_definitive_test_overrides_where_it_is_there() -> None:
    answers = np.array([[[1], [1]], [[1], [1]], [[1], [0]]], np.float32)
    found = consensus(
        answers, ["Mass"], Rule(definitive={"Mass": "CT"}), np.array([[0], [NAN], [1]], np.float32)
    )
    assert found.labels[:, 0].tolist() == [0, 1, 1]
    assert found.counts["Mass"]["definitive"] == 2
    assert found.counts["Mass"]["unanimous"] == 1
    assert "CT for Mass" in Rule(definitive={"Mass": "CT"}).sentence()


def test_the_remainder_is_present_where_its_cause_is_and_nothing_else() -> None:
    findings = ["Abnormal", "Mass", "Other"]
    answers = np.array([[[1, 0, 0]], [[1, 1, 0]], [[0, 0, 0]], [[1, 1, 1]]], np.float32)
    found = consensus(answers, findings, Rule(remainder=("Other", "Abnormal"))).labels
    assert found[:, 2].tolist() == [1, 0, 0, 1]


@given(arrays(np.float32, (12, 4, 2), elements=st.sampled_from([0.0, 0.5, 1.0])))
def test_order_of_readers_does_not_matter_and_yes_mirrors_no(answers: np.ndarray) -> None:
    found = consensus(answers, ["a", "b"], Rule()).labels
    np.testing.assert_array_equal(found, consensus(answers[:, ::-1], ["a", "b"], Rule()).labels)
    np.testing.assert_array_equal(1 - found, consensus(1 - answers, ["a", "b"], Rule()).labels)


def test_uncertain_answers_as_votes() -> None:
    answers = np.array([0, 0.5, 1, NAN], np.float32)
    np.testing.assert_array_equal(votes_of(answers, "positive"), [0, 1, 1, NAN])
    np.testing.assert_array_equal(votes_of(answers, "exclude"), [0, NAN, 1, NAN])


def test_differences_count_both_directions() -> None:
    ours = np.array([[1], [0], [1], [0], [0], [NAN], [NAN], [1]], np.float32)
    theirs = np.array([[1], [0], [0], [1], [1], [1], [0], [NAN]], np.float32)
    assert differences(ours, theirs, ["Mass"]) == {
        "Mass": {
            "both_positive": 1, "both_negative": 1, "only_ours": 1, "only_theirs": 2,
            "undecided_positive": 1, "undecided_negative": 1, "unlabelled": 1,
        }
    }  # fmt: skip


def test_the_published_majority_of_three_readers_comes_out(shared_data: Path) -> None:
    """Nabulsi et al. 2021: 14 findings and Abnormal, and Other where a film is abnormal without any of the 14."""
    folder = shared_data / "readers/nih-14-findings"
    readings = read_readings([str(folder / "test_individual_readers.csv")])
    three = readings.reader_numbers(["4343882785", "4343883593", "4343883996"])
    published = pd.read_csv(folder / "test_labels.csv").set_index("Image ID").loc[readings.image_ids]
    expected = (published[readings.findings] == "YES").to_numpy()
    answers = readings.answers[:, three]
    plain = consensus(answers, readings.findings, Rule()).labels
    but_other = [i for i, f in enumerate(readings.findings) if f != "Other"]
    assert expected[:, but_other].size == 12_150
    np.testing.assert_array_equal(plain[:, but_other], expected[:, but_other])
    whole = consensus(answers, readings.findings, Rule(remainder=("Other", "Abnormal"))).labels
    np.testing.assert_array_equal(whole, expected)


def test_majority_and_adjudicated_label_differ_in_both_directions(shared_data: Path) -> None:
    """Majkowska et al. 2020; counted beside this code with pandas: 1,962 films, 1 to 3 readers each, some twice."""
    folder = shared_data / "readers/nih-4-findings"
    published = pd.read_csv(folder / "test_labels.csv").set_index("Image Index")
    readings = read_readings([str(folder / "individual_readers.csv")])
    readings = readings.only(np.flatnonzero(pd.Index(readings.image_ids).isin(published.index)))
    names = ["Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass"]
    adjudicated = (published.loc[readings.image_ids, names] == "YES").to_numpy(np.float32)
    found = consensus(readings.answers, readings.findings, Rule()).labels
    table = differences(found, adjudicated, readings.findings)
    assert [(c["only_ours"], c["only_theirs"]) for c in table.values()] == [
        (0, 51),
        (10, 32),
        (25, 89),
        (30, 84),
    ]
