"""Readers beside a model: points by hand, matched sensitivity against scikit-learn's curve, leave-one-out by hand."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_curve

from ray_cxr.bootstrap import Draws, draw_patient_weights
from ray_cxr.errors import RefusedError
from ray_cxr.evaluate.consensus import Rule, consensus
from ray_cxr.evaluate.readers_reference import left_out, readers_behind, references
from ray_cxr.evaluate.readers_study import beside_readers, mean_draws, sensitivity_at, with_margin

NAN = np.nan


@given(st.data())
def test_matched_sensitivity_lies_on_the_curve_of_scikit_learn(data: st.DataObject) -> None:
    films = data.draw(st.integers(4, 25))
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=films, max_size=films)), np.float32)
    scores = np.array(data.draw(st.lists(st.integers(0, 6), min_size=films, max_size=films)), np.float64)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=films, max_size=films)))
    positives, negatives = weights[labels == 1].sum(), weights[labels == 0].sum()
    assume(positives and negatives)
    alarms = data.draw(st.integers(0, int(negatives)))
    x, y, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    here = np.isclose(x * negatives, alarms)
    expected = y[here].max() if here.any() else np.interp(alarms / negatives, x, y)
    draws = Draws(weights[None].astype(np.uint16), np.arange(films))
    assert sensitivity_at(labels, scores, np.array([float(alarms)]), draws)[0] == pytest.approx(expected)


def _films(seed: int = 0, films: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth [N], votes of three readers [N, 3], and the scores of a model that is better than they."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(films) < 0.3).astype(np.float32)
    votes = np.where(rng.random((films, 3)) < 0.25, 1 - truth[:, None], truth[:, None]).astype(np.float32)
    return truth, votes, truth * 3 + rng.normal(size=films)


def test_a_readers_point_and_the_models_beside_it() -> None:
    truth, votes, scores = _films()
    votes[::7, 0] = NAN
    draws = draw_patient_weights(list(range(300)), 300, seed=0)
    study = beside_readers("Mass", votes, scores, [truth] * 3, np.zeros(3, bool), draws)
    reader = study.readers[0]
    read = ~np.isnan(votes[:, 0])
    tn, fp, fn, tp = confusion_matrix(truth[read], votes[read, 0]).ravel()
    assert reader.films == read.sum()
    assert reader.sensitivity.value == pytest.approx(tp / (tp + fn))
    assert reader.specificity.value == pytest.approx(tn / (tn + fp))
    assert reader.precision.value == pytest.approx(tp / (tp + fp))
    x, y, _ = roc_curve(truth[read], scores[read])
    assert reader.model_sensitivity.value == pytest.approx(np.interp(fp / (tn + fp), x, y), abs=1e-6)
    assert study.under_curve == 3
    assert reader.difference.interval is not None
    assert reader.difference.interval[0] > 0
    assert study.mean is not None
    expected = np.mean([r.sensitivity.value for r in study.readers])
    assert study.mean.sensitivity == pytest.approx(expected)
    assert mean_draws(study.readers).shape == (300,)


def test_leaving_a_reader_out_by_hand() -> None:
    answers = np.array(
        [[1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], np.float32
    )[:, :, None]  # fmt: skip
    labels = consensus(answers, ["Mass"], Rule()).labels
    found = references(labels, answers, ["Mass"], Rule(), [0, 1, 2], leave_one_out=True)
    expected = [
        [NAN, NAN, 0, 1, 1, 0],  # of readers 2 and 3
        [NAN, NAN, NAN, NAN, 1, 0],
        [1, 0, NAN, NAN, 1, 0],
    ]
    for reader, reference in enumerate(found):
        assert reference is not None
        np.testing.assert_array_equal(reference[:, 0], expected[reader])
    # Reader 1 on films 3 to 6: positives 4 and 5, of which he says yes to 5; negatives 3 and 6, he says yes to 3.
    study = beside_readers(
        "Mass", answers[:, :, 0], np.arange(6.0), [found[0][:, 0], None, None], left_out([0, 1, 2], 3),
        draw_patient_weights(list(range(6)), 20, seed=0),
    )  # fmt: skip
    assert [(r.films, r.sensitivity.value, r.specificity.value) for r in study.readers] == [(4, 0.5, 0.5)]
    assert study.readers[0].left_out


def test_a_reader_is_not_measured_against_labels_of_his_own() -> None:
    truth, votes, _ = _films()
    answers = votes[:, :, None]
    with pytest.raises(RefusedError, match="2 of the 3 readers made the reference labels"):
        references(truth[:, None], answers, ["Mass"], Rule(), [0, 2], leave_one_out=False)
    free = references(truth[:, None], answers, ["Mass"], Rule(), [], leave_one_out=False)
    assert all(reference is not None and (reference[:, 0] == truth).all() for reference in free)
    one_maker = references(truth[:, None], answers, ["Mass"], Rule(), [1], leave_one_out=True)
    assert one_maker[1] is None


def test_an_outsider_is_held_against_the_whole_consensus() -> None:
    _, votes, _ = _films()
    answers = votes[:, :, None]
    labels = consensus(answers[:, :2], ["Mass"], Rule()).labels
    found = references(labels, answers, ["Mass"], Rule(), [0, 1], leave_one_out=True)
    assert found[2] is labels


def test_who_made_the_labels_is_found_out() -> None:
    truth, votes, _ = _films()
    answers = np.concatenate([votes, _films(1)[1][:, :2]], axis=1)[:, :, None]
    for makers in ([0, 1, 2], [3], [0, 1, 2, 3, 4]):
        labels = consensus(answers[:, makers], ["Mass"], Rule()).labels
        assert readers_behind(labels, answers, ["Mass"], Rule()) == makers
    assert readers_behind(truth[:, None], answers, ["Mass"], Rule()) == []
    many = np.concatenate([answers, answers], axis=1)
    assert readers_behind(consensus(many, ["Mass"], Rule()).labels, many, ["Mass"], Rule()) == list(range(10))


def test_non_inferiority_needs_a_margin_and_depends_on_it() -> None:
    truth, votes, _ = _films(films=600)
    rng = np.random.default_rng(5)
    scores = np.where(rng.random(600) < 0.25, 1 - truth, truth) + 0.3 * rng.normal(size=600)
    draws = draw_patient_weights(list(range(600)), 500, seed=0)
    study = beside_readers("Mass", votes, scores, [truth] * 3, np.zeros(3, bool), draws)
    assert study.mean is not None
    assert study.mean.non_inferior is None
    assert with_margin([study], None) == [study]
    low = study.mean.difference.interval[0]  # type: ignore[index]
    verdicts = [with_margin([study], margin)[0].mean for margin in (-low - 0.02, -low + 0.02)]
    assert [v.non_inferior for v in verdicts if v] == [False, True]


def test_readers_with_few_films_are_not_in_the_mean() -> None:
    truth, votes, scores = _films()
    votes[np.flatnonzero(truth == 1)[4:], 2] = NAN
    draws = draw_patient_weights(list(range(300)), 50, seed=0)
    study = beside_readers("Mass", votes, scores, [truth] * 3, np.zeros(3, bool), draws)
    assert len(study.readers) == 3
    assert study.mean is not None
    assert study.mean.readers == 2


@pytest.mark.parametrize(("patients", "tested"), [(9, False), (10, True)])
def test_non_inferiority_is_not_tested_with_few_patients(patients: int, tested: bool) -> None:
    """Thirty films each: of nine positive patients there is a mean difference and no p, of ten there is one."""
    truth = np.repeat([1, 0], 30).astype(np.float32)
    people = [f"p{n % patients}" for n in range(30)] + [f"n{n}" for n in range(30)]
    votes = np.where(np.arange(60) % 6 == 0, 1 - truth, truth)[:, None].astype(np.float32)
    scores = truth + np.random.default_rng(0).normal(size=60)
    draws = draw_patient_weights(people, 100, seed=0)
    study = beside_readers("Mass", votes, scores, [truth], np.zeros(1, bool), draws)
    (mean,) = (s.mean for s in with_margin([study], 0.2))
    assert mean is not None
    assert mean.difference.interval is not None
    assert (mean.p is not None, mean.non_inferior is not None) == (tested, tested)
