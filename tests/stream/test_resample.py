"""Resampling: exact counts, whatever the labels; every film of a pool in turn; loss totals that come out equal."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError
from ray_cxr.stream.resample import Resampling, exposure, plan_resampling
from ray_cxr.stream.settings import StreamSettings

FINGERPRINT = "0123456789abcdef" * 4
NAN = np.nan
FINDINGS = ["Mass", "Edema", "Hernia"]


def _plan(
    labels: Labels,
    findings: Sequence[str] = FINDINGS,
    patients: Sequence[str] | None = None,
    **settings: object,
) -> Resampling:
    plan = plan_resampling(
        labels, patients or [f"p{n}" for n in range(len(labels))], findings,
        StreamSettings(**settings), 3, FINGERPRINT,  # type: ignore[arg-type]
    )  # fmt: skip
    assert plan is not None
    return plan


def _masses(positives: int, negatives: int, unlabelled: int = 0) -> Labels:
    return np.array([[1.0]] * positives + [[0.0]] * negatives + [[NAN]] * unlabelled, np.float32)


@st.composite
def tables(draw: st.DrawFn) -> Labels:
    films = draw(st.integers(4, 60))
    cells = draw(st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, NAN]), min_size=3 * films, max_size=3 * films))
    labels = np.array(cells, np.float32).reshape(films, 3)
    labels[0], labels[1] = 1.0, 0.0  # each class is there
    return labels


def test_without_resampling_there_is_no_plan() -> None:
    assert (
        plan_resampling(_masses(2, 6), list("abcdefgh"), ["Mass"], StreamSettings(), 0, FINGERPRINT) is None
    )


def test_two_masses_and_six_normals_balanced_are_four_and_four() -> None:
    labels = _masses(2, 6)
    plan = _plan(labels, ["Mass"], resampling="balanced", target="Mass")
    times = plan.multiplicity(1)
    assert times[:2].tolist() == [2, 2]
    assert sorted(times[2:]) == [0, 0, 1, 1, 1, 1]
    # At p = 0.5 every draw costs ln 2, so that plain cross-entropy has equal totals.
    cost = -np.log(0.5) * times
    assert cost[:2].sum() == pytest.approx(cost[2:].sum())


@pytest.mark.parametrize(
    ("kind", "strength", "positives", "negatives"),
    [
        ("oversample", 1.0, 60, 60), ("oversample", 0.5, 35, 60), ("undersample", 1.0, 10, 10),
        ("undersample", 0.5, 10, 35), ("balanced", 1.0, 35, 35),
    ],
)  # fmt: skip
def test_counts_are_those_asked_for(kind: str, strength: float, positives: int, negatives: int) -> None:
    labels = _masses(10, 60, unlabelled=7)
    plan = _plan(labels, ["Mass"], resampling=kind, target="Mass", resampling_strength=strength)
    for epoch in (1, 2, 17):
        times = plan.multiplicity(epoch)
        assert (times[:10].sum(), times[10:70].sum()) == (positives, negatives)
        assert (times[70:] == (0 if kind == "balanced" else 1)).all()


def test_the_commoner_class_may_be_the_positive_one() -> None:
    times = _plan(_masses(60, 10), ["Mass"], resampling="oversample", target="Mass").multiplicity(1)
    assert (times[:60].sum(), times[60:].sum()) == (60, 60)


def test_undersampling_visits_other_negatives_each_epoch_until_all_were_seen() -> None:
    plan = _plan(_masses(10, 60), ["Mass"], resampling="undersample", target="Mass")
    seen = [set(np.flatnonzero(plan.multiplicity(epoch)[10:])) for epoch in range(1, 7)]
    assert all(len(s) == 10 for s in seen)
    assert set().union(*seen) == set(range(60))


def test_class_aware_gives_findings_and_films_without_one_equal_shares() -> None:
    labels = np.array([[1, 0, 0]] * 12 + [[0, 1, 0]] * 5 + [[0, 0, 1]] * 2 + [[0, 0, 0]] * 40, np.float32)
    times = _plan(labels, resampling="class_aware").multiplicity(4)
    shares = [times[:12].sum(), times[12:17].sum(), times[17:19].sum(), times[19:].sum()]
    assert shares == [12, 12, 12, 12]
    half = _plan(labels, resampling="class_aware", resampling_strength=0.5).multiplicity(4)
    assert half[17:19].sum() == round((2 * 12) ** 0.5)


def test_any_tells_films_with_a_finding_from_films_without() -> None:
    labels = np.array([[1, 0, NAN], [0, NAN, 1], [0, 0, 0], [0, 0, NAN], [0, 0, 0], [NAN] * 3], np.float32)
    times = _plan(labels, resampling="oversample").multiplicity(1)
    assert times[:2].sum() == 3
    assert times[2:].tolist() == [1, 1, 1, 1]


@given(tables(), st.sampled_from(["oversample", "undersample", "balanced", "class_aware"]), st.integers(1, 200),
       st.sampled_from([0.25, 0.5, 1.0]))  # fmt: skip
def test_draws_are_as_planned_for_any_labels(labels: Labels, kind: str, epoch: int, strength: float) -> None:
    plan = _plan(labels, resampling=kind, target="any", resampling_strength=strength)
    times = plan.multiplicity(epoch)
    assert times.sum() == sum(p.draws for p in plan.pools)
    assert np.array_equal(times, plan.multiplicity(epoch))
    if kind != "class_aware":
        for pool in plan.pools:
            assert times[pool.films].sum() == pool.draws
            assert np.ptp(times[pool.films]) <= 1
    assert plan.expected().sum() == pytest.approx(times.sum())


def test_expected_is_the_mean_over_epochs() -> None:
    labels = np.array([[1, 1, 0]] * 3 + [[0, 1, 0]] * 7 + [[0, 0, 1]] * 4 + [[0, 0, 0]] * 30, np.float32)
    plan = _plan(labels, resampling="class_aware")
    mean = np.mean([plan.multiplicity(epoch) for epoch in range(1, 2001)], axis=0)
    assert np.abs(mean - plan.expected()).max() < 0.1


@given(tables(), st.integers(1, 8), st.integers(1, 6))
def test_no_patient_comes_more_often_than_allowed(labels: Labels, most: int, patients: int) -> None:
    ids = [f"p{n % patients}" for n in range(len(labels))]
    free = _plan(labels, patients=ids, resampling="oversample").multiplicity(2)
    times = _plan(labels, patients=ids, resampling="oversample", max_per_patient=most).multiplicity(2)
    for patient in range(patients):
        films = np.arange(len(labels)) % patients == patient
        assert times[films].sum() == min(most, free[films].sum())
        if most >= (free[films] > 0).sum():  # second draws are cut before anybody's only one
            assert (times[films] > 0).sum() == (free[films] > 0).sum()
    assert (times <= free).all()


def test_the_cap_leaves_out_another_film_of_a_patient_in_each_epoch() -> None:
    """Patient a: a mass that is repeated, and five films without; patient b: 14 films without."""
    labels, patients = _masses(1, 19), ["a"] * 6 + ["b"] * 14
    plan = _plan(labels, ["Mass"], patients, resampling="oversample", target="Mass", max_per_patient=3)
    epochs = [plan.multiplicity(epoch) for epoch in range(1, 51)]
    assert all(times[:6].sum() == times[6:].sum() == 3 for times in epochs)
    assert (np.sum(epochs, axis=0) > 0).all()
    # Of a's six films three come, each once: the mass in half of the epochs, not in all.
    assert np.allclose(plan.expected(), np.mean(epochs, axis=0))
    assert abs(plan.expected()[0] - 0.5) < 0.2


def test_the_cap_alone_takes_every_film_once_but_of_patients_with_many() -> None:
    """Patient a has five films, b two, c one; two each: 2 + 2 + 1, and in time all of a's."""
    patients = list("aaaaabbc")
    plan = _plan(_masses(2, 6), ["Mass"], patients, max_per_patient=2)
    epochs = [plan.multiplicity(epoch) for epoch in range(1, 31)]
    assert all((times[:5].sum(), *times[5:]) == (2, 1, 1, 1) and times.max() == 1 for times in epochs)
    assert (np.sum(epochs, axis=0) > 0).all()
    assert np.allclose(plan.expected()[5:], 1) and plan.expected()[:5].sum() == pytest.approx(2)


def test_exposure_counts_draws_films_and_patients() -> None:
    labels = np.array([[1, 0], [1, NAN], [0, 1], [0, 0]], np.float32)
    table = exposure(labels, ["a", "a", "b", "c"], ["Mass", "Edema"], np.array([3, 1, 0, 2]))
    assert table["Mass"] == {"positives": 4, "negatives": 2, "films": 2, "patients": 1}
    assert table["Edema"] == {"positives": 0, "negatives": 5, "films": 0, "patients": 0}


@pytest.mark.parametrize(
    ("labels", "settings", "words"),
    [
        (_masses(2, 6), {"resampling": "balanced", "target": "Mess"}, "'Mess'"),
        (_masses(0, 6), {"resampling": "oversample", "target": "Mass"}, "no training film with Mass"),
        (_masses(3, 0), {"resampling": "undersample"}, "no training film without any"),
        (_masses(0, 6), {"resampling": "class_aware"}, "class_aware needs positive"),
    ],
)
def test_a_target_that_cannot_be_resampled_is_refused(
    labels: Labels, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        _plan(labels, ["Mass"], **settings)
