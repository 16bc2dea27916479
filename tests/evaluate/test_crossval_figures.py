"""Figures of a cross-validation, by hand: two folds of four films."""

import numpy as np
import pytest

from ray_cxr.evaluate.crossval_figures import cross_validation_metrics
from ray_cxr.evaluate.figures import Choices
from ray_cxr.evaluate.inputs import Scored

FOLDS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
LABELS = np.array(
    # Edema: in both folds. Mass: no positive film in fold 1. Nodule: labelled in no film of fold 0.
    [[0, 0, np.nan], [0, 0, np.nan], [1, 1, np.nan], [1, 1, np.nan], [0, 0, 0], [1, 0, 1], [0, 0, 0], [1, np.nan, 0]],
    np.float32,
)  # fmt: skip
SCORES = np.array(
    [[.1, .1, .5], [.4, .2, .5], [.35, .3, .5], [.8, .4, .5], [.01, .5, .1], [.03, .5, .9], [.02, .5, .2], [.04, .5, .3]]
)  # fmt: skip


def test_mean_and_spread_are_over_folds_and_means_over_findings_are_of_what_each_fold_can_measure() -> None:
    films = np.array([f"film {n}" for n in range(8)], object)
    patients = np.array([f"patient {n // 2}" for n in range(8)], object)
    scored = Scored(films, patients, ["Edema", "Mass", "Nodule"], LABELS, SCORES)
    found = cross_validation_metrics(scored, FOLDS, Choices(draws=50))

    # Fold 0 ranks three of its four pairs rightly, fold 1 all four.
    assert [e["auroc"] for e in found["by_fold"]] == [
        {"Edema": 0.75, "Mass": 1.0, "Nodule": None},
        {"Edema": 1.0, "Mass": None, "Nodule": 1.0},
    ]
    assert found["auroc"] == {"Edema": 0.875, "Mass": 1.0, "Nodule": 1.0}
    # sqrt(2 * 0.125**2 / (2 - 1))
    assert found["standard_deviation"]["auroc"] == {
        "Edema": pytest.approx(0.1767767), "Mass": None, "Nodule": None,
    }  # fmt: skip
    # Positives at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert found["by_fold"][0]["average_precision"]["Edema"] == pytest.approx(5 / 6)
    assert found["mean_over"] == ["Edema"]
    assert (found["mean_auroc"], found["standard_deviation"]["mean_auroc"]) == (
        0.875, pytest.approx(0.1767767),
    )  # fmt: skip
    assert found["not_measurable"] == {
        "Mass": "no positive film in fold 1", "Nodule": "no labelled film in fold 0",
    }  # fmt: skip
    assert (found["films"], found["patients"], [e["patients"] for e in found["by_fold"]]) == (8, 4, [2, 2])
    assert (found["positives"]["Mass"], found["labelled"]["Mass"]) == (2, 7)
    # In one ranking fold 1's positives lie below all of fold 0: pairs 3 of 4, 2 of 2 x 4 (both folds' own), 4 within
    # fold 1, 4 of fold 0's positives over fold 1's negatives, and none of fold 1's positives over fold 0's negatives.
    assert found["pooled"]["auroc"]["Edema"] == pytest.approx((3 + 4 + 4 + 0) / 16)
