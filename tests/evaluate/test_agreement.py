"""Kappas against scikit-learn, statsmodels and krippendorff."""

import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.evaluate.agreement import agreement, cohen_kappa, self_agreement

VOTES = arrays(np.float32, (14, 4), elements=st.sampled_from([0.0, 1.0, np.nan]))
DRAWS = draw_patient_weights(list(range(14)), 20, seed=0)


@given(VOTES)
def test_krippendorff_as_by_his_library(votes: np.ndarray) -> None:
    used = (~np.isnan(votes)).sum(axis=1) > 1
    assume(len(np.unique(votes[used][~np.isnan(votes[used])])) == 2)
    expected = krippendorff.alpha(votes.T.astype(float), level_of_measurement="nominal")
    figure = agreement(votes, DRAWS)["krippendorff"]
    assert figure["value"] == pytest.approx(expected)
    assert figure["films"] == used.sum()


@given(VOTES)
def test_fleiss_as_by_statsmodels_over_films_with_the_commonest_number_of_votes(votes: np.ndarray) -> None:
    figure = agreement(votes, DRAWS)["fleiss"]
    cast = (~np.isnan(votes)).sum(axis=1)
    assume((cast > 1).any())
    _, films = np.unique(cast[cast > 1], return_counts=True)
    assert figure["films"] == films.max()
    yes = np.nansum(votes[cast == figure["votes"]], axis=1).astype(float)
    assume(0 < yes.sum() < figure["films"] * figure["votes"])
    expected = fleiss_kappa(np.stack([yes, figure["votes"] - yes], axis=1))
    assert figure["value"] == pytest.approx(expected, abs=1e-9)


@given(VOTES)
def test_cohen_as_by_scikit_learn(votes: np.ndarray) -> None:
    pairs = {(p["first"], p["second"]): p["kappa"] for p in agreement(votes, DRAWS)["pairs"]}
    for (first, second), kappa in pairs.items():
        both = ~np.isnan(votes[:, first]) & ~np.isnan(votes[:, second])
        assert kappa["films"] == both.sum()
        if len(np.unique(votes[both][:, [first, second]])) == 2:
            expected = cohen_kappa_score(votes[both, first], votes[both, second])
            assert kappa["value"] == pytest.approx(expected, abs=1e-9)
        else:
            assert kappa["value"] is None


def test_cohen_by_hand() -> None:
    # Cohen's kappa of 20, 5, 10, 15: observed 0.7, chance 0.5 × 0.6 + 0.5 × 0.4 = 0.5 → 0.4.
    assert cohen_kappa(np.array([20.0, 5, 10, 15])) == pytest.approx(0.4)


def test_shares_of_agreeing_pairs_by_hand() -> None:
    votes = np.array([[1, 1, 0], [0, 0, 0], [1, np.nan, np.nan]], np.float32)
    found = agreement(votes, draw_patient_weights([1, 2, 3], 50, seed=0))
    # Pairs: film 1 one yes-yes and two that differ, film 2 three no-no, film 3 none.
    assert found["observed"]["value"] == pytest.approx(4 / 6)
    assert found["positive"]["value"] == pytest.approx(2 * 1 / (2 * 1 + 2))
    assert found["observed"]["films"] == 2


def test_an_interval_holds_the_figure_and_is_wider_by_patient() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat(rng.random(120) < 0.4, 5)
    flip = np.repeat(rng.random((120, 3)) < 0.2, 5, axis=0)
    votes = (truth[:, None] ^ flip).astype(np.float32)
    by_patient = agreement(votes, draw_patient_weights(np.repeat(np.arange(120), 5).tolist(), 400, seed=1))
    by_film = agreement(votes, draw_patient_weights(list(range(600)), 400, seed=1))
    low, high = by_patient["fleiss"]["interval"]
    assert low < by_patient["fleiss"]["value"] < high
    assert high - low > 1.7 * (by_film["fleiss"]["interval"][1] - by_film["fleiss"]["interval"][0])


def test_what_cannot_be_measured_is_none() -> None:
    found = agreement(np.zeros((5, 2), np.float32), draw_patient_weights(list(range(5)), 10, seed=0))
    assert found["observed"]["value"] == 1
    for name in ("positive", "fleiss", "krippendorff", "mean_cohen"):
        assert found[name]["value"] is None


def test_self_agreement() -> None:
    assert self_agreement(np.array([3, 1]), np.array([2, 1])) == {
        "read_twice": 4, "same_answer": 3, "share": 0.75,
    }  # fmt: skip
    assert self_agreement(np.array([0]), np.array([0]))["share"] is None
