"""Patients, age, sex and view: by hand, by drawing, and against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ray_cxr.report.explore.people import (
    NOT_GIVEN,
    age_bands,
    age_histogram,
    count_patients,
    giveaways,
    given,
)


def test_films_per_patient_by_hand() -> None:
    p = count_patients(pd.Series(["a"] * 3 + ["b"] + ["c"] + ["d"] * 12))
    assert (p.patients, p.films, p.several, p.films_of_several) == (4, 17, 2, 15)
    assert (p.median, p.most) == (2.0, 12)
    assert p.bands == {"1": 2, "2": 0, "3": 1, "4": 0, "5": 0, "6–10": 0, "11–20": 1}
    # Films of a patient with 3: 1 - 0.2²; with 12: nearly certain; of a patient with one: never.
    assert p.met_again == pytest.approx((3 * 0.96 + 12) / 17, abs=1e-6)


def test_share_of_test_films_met_again_is_what_a_random_deal_gives() -> None:
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(400), rng.integers(1, 6, 400))
    met = []
    for _ in range(60):
        test = rng.random(len(patients)) < 0.2
        met.append(np.isin(patients[test], patients[~test]).mean())
    assert count_patients(pd.Series(patients).astype(str)).met_again == pytest.approx(np.mean(met), abs=0.01)


def test_missing_columns_and_cells_are_not_given() -> None:
    frame = pd.DataFrame({"view": ["PA", None, "", np.nan]})
    assert given(frame, "view").tolist() == ["PA", NOT_GIVEN, NOT_GIVEN, NOT_GIVEN]
    assert given(frame, "sex").tolist() == [NOT_GIVEN] * 4


def test_age_bands_and_decades() -> None:
    ages = pd.Series([0, 17.9, 18, 59, 60, 80, 104, np.nan])
    assert age_bands(ages).astype(object).tolist()[:7] == [
        "under 18", "under 18", "18–39", "40–59", "60–79", "80+", "80+",
    ]  # fmt: skip
    assert age_bands(ages).isna().tolist() == [False] * 7 + [True]
    decades = age_histogram(pd.Series([21, 29, 41, np.nan]), pd.Series(["F", "M", "F", "F"]))
    assert decades == {"F": {"20–29": 1, "30–39": 0, "40–49": 1}, "M": {"20–29": 1, "30–39": 0, "40–49": 0}}
    assert age_histogram(pd.Series([np.nan]), pd.Series(["F"])) == {}


@pytest.fixture(scope="module")
def films() -> pd.DataFrame:
    """A finding that is frequent on bedside films, one that has nothing to do with them, one that is too rare."""
    rng = np.random.default_rng(3)
    ap = rng.random(4000) < 0.4
    return pd.DataFrame({
        "view": np.where(ap, "AP", "PA"), "sex": "F", "age": rng.integers(20, 90, 4000).astype(float),
        "Edema": (rng.random(4000) < np.where(ap, 0.12, 0.01)).astype(np.float32),
        "Mass": (rng.random(4000) < 0.05).astype(np.float32),
        "Hernia": np.r_[np.ones(3), np.zeros(3997)].astype(np.float32),
    })  # fmt: skip


def test_a_view_that_gives_a_finding_away(films: pd.DataFrame) -> None:
    found = giveaways(films, ["Edema", "Mass", "Hernia"])
    known = roc_auc_score(films["Edema"], films["view"] == "AP")
    assert found["Edema"]["view"].auroc == pytest.approx(known)
    assert known > 0.7
    assert found["Edema"]["view"].clear
    assert not found["Mass"]["view"].clear
    assert found["Hernia"]["view"].auroc is None
    assert "sex" not in found["Mass"], "one value gives nothing away"


def test_age_is_read_the_way_round_that_separates(films: pd.DataFrame) -> None:
    young = films.assign(Mass=(films["age"] < 40).astype(np.float32))
    assert giveaways(young, ["Mass"])["Mass"]["age"].auroc == pytest.approx(1.0)
    unknown = young.assign(age=young["age"].where(young["age"] > 39.5))
    assert giveaways(unknown, ["Mass"])["Mass"]["age"].auroc is None, "a film without age is left out"


def test_a_few_films_are_no_evidence() -> None:
    rng = np.random.default_rng(0)
    chance = []
    for _ in range(80):
        labels = np.r_[np.ones(12), np.zeros(60)].astype(np.float32)
        frame = pd.DataFrame(
            {"view": rng.choice(["AP", "PA"], 72), "age": rng.random(72) * 90, "Mass": labels}
        )
        chance += [g.clear for g in giveaways(frame, ["Mass"])["Mass"].values()]
    assert np.mean(chance) < 0.02
