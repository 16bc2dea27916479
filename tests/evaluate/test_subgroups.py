"""Subgroups: bands of age, small groups, and gaps that are there or not."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.evaluate.figures import Choices, measure
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.subgroups import MOST_GROUPS, age_bands, groupings, subgroup_figures
from ray_cxr.evaluate.testable import FEWEST_PATIENTS

NAN = float("nan")


def test_age_bands() -> None:
    ages = pd.Series([0.1, 17.9, 18, 39, 40, 59, 60, 79, 80, 101, NAN])
    assert [b if isinstance(b, str) else None for b in age_bands(ages)] == [
        "0-17", "0-17", "18-39", "18-39", "40-59", "40-59", "60-79", "60-79", "80+", "80+", None,
    ]  # fmt: skip


def test_groupings_leave_out_what_tells_nothing() -> None:
    found = groupings(pd.DataFrame({"sex": ["F", "M", None], "view": ["PA"] * 3, "age": [10.0, 50.0, NAN]}))
    assert {name: values.tolist() for name, values in found.items()} == {
        "sex": ["F", "M", None], "age band": ["0-17", "40-59", None],
    }  # fmt: skip


def test_rare_values_are_put_together() -> None:
    values = [f"scanner {n}" for n in range(30)] + [f"scanner {n}" for n in range(5)]
    (found,) = groupings(pd.DataFrame({"scanner": values})).values()
    assert len(set(found)) == MOST_GROUPS
    assert "other" in found


def made(gap: float, patients: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Two films a patient; in group "b" positives score higher by `gap` less."""
    rng = np.random.default_rng(6)
    names = np.repeat(np.arange(patients), 2)
    group = np.where(names % 2 == 0, "a", "b").astype(object)
    labels = (rng.random(len(names)) < 0.3).astype(np.float32)
    scores = rng.normal(size=len(names)) + labels * np.where(group == "a", 1.5, 1.5 - gap)
    return labels, scores, group, names.tolist()


def test_a_gap_is_measured_and_tested_once() -> None:
    labels, scores, group, names = made(gap=1.2)
    figures = subgroup_figures(labels, scores, draw_patient_weights(names, 400, 0), {"site": group})["site"]
    areas = {g: roc_auc_score(labels[group == g], scores[group == g]) for g in "ab"}
    assert figures["a"].auroc == pytest.approx(areas["a"])
    assert figures["a"].gap == pytest.approx(areas["a"] - areas["b"])
    assert figures["a"].p is not None
    assert figures["a"].p < 1e-4
    low, high = figures["a"].gap_interval  # type: ignore[misc]
    assert 0 < low < areas["a"] - areas["b"] < high
    assert (figures["b"].gap, figures["b"].p) == (None, None)
    assert figures["b"].interval is not None


def test_no_gap_is_found_where_there_is_none() -> None:
    labels, scores, group, names = made(gap=0.0)
    figures = subgroup_figures(labels, scores, draw_patient_weights(names, 400, 0), {"site": group})["site"]
    assert figures["a"].p is not None
    assert figures["a"].p > 0.05


def test_many_films_of_few_patients_are_a_small_group() -> None:
    labels, scores, _, names = made(gap=0.0)
    few = np.where(np.array(names) < FEWEST_PATIENTS, "few", "many").astype(object)
    figures = subgroup_figures(labels, scores, draw_patient_weights(names, 100, 0), {"site": few})["site"]
    assert figures["few"].small
    assert figures["few"].auroc is not None
    # A gap is of two sides: that of the many against the few is not tested either.
    assert [(figures[g].gap, figures[g].gap_interval, figures[g].p) for g in ("few", "many")] == [
        (None,) * 3
    ] * 2
    assert not figures["many"].small


def test_a_group_of_one_class_is_not_measurable() -> None:
    labels, scores, group, names = made(gap=0.0)
    labels[group == "b"] = 0
    figures = subgroup_figures(labels, scores, draw_patient_weights(names, 100, 0), {"site": group})["site"]
    assert figures["b"].auroc is None
    assert figures["a"].p is None


def test_a_group_whose_score_is_constant_has_neither_interval_nor_width() -> None:
    labels, scores, group, names = made(gap=0.0)
    scores[group == "b"] = 0.5
    figures = subgroup_figures(labels, scores, draw_patient_weights(names, 100, 0), {"site": group})["site"]
    assert (figures["b"].auroc, figures["b"].interval) == (0.5, None)
    assert figures["a"].p is not None


def test_what_is_small_is_no_part_of_the_adjustment() -> None:
    """Three groups: the small one has no p, so Holm's factor for the smallest of the others is 2, not 3."""
    labels, scores, group, names = made(gap=1.2)
    few = np.where(np.array(names) < FEWEST_PATIENTS, "c", group).astype(object)
    people = np.array([f"p{n}" for n in names], object)
    films = np.array([f"f{n}" for n in range(len(names))], object)
    scored = Scored(
        films, people, ["Mass"], labels[:, None], scores[:, None], groups=pd.DataFrame({"sex": few})
    )
    found = measure(scored, "none", Choices(draws=200), workers=0).metrics["subgroups"]["groupings"]["sex"]
    p, adjusted = ({g: found[g]["findings"]["Mass"][k] for g in "abc"} for k in ("p", "p_holm"))
    assert (p["c"], adjusted["c"]) == (None, None)
    assert min(adjusted["a"], adjusted["b"]) == pytest.approx(2 * min(p["a"], p["b"]))
