"""`metrics.json` of a test: what is in it, what is null, and that Ray changes nothing."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ray_cxr.bootstrap import mean_interval
from ray_cxr.errors import InputError
from ray_cxr.evaluate.figures import NOT_PROBABILITIES, Choices, measure, narrower_by
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.misses import MOST, worst_misses

FEW = Choices(draws=120)


def made(
    seed: int = 0, patients: int = 150, findings: tuple[str, ...] = ("Mass", "Edema", "Hernia")
) -> Scored:
    """Three films a patient, of the same labels and alike scores; nobody has a hernia."""
    rng = np.random.default_rng(seed)
    shape = (patients, len(findings))
    labels = (rng.random(shape) < 0.3).astype(np.float32)
    labels[:, [i for i, f in enumerate(findings) if f == "Hernia"]] = 0
    logits = np.repeat(rng.normal(size=shape) + 1.2 * labels - 1, 3, axis=0) + 0.3 * rng.normal(
        size=(3 * patients, len(findings))
    )
    return Scored(
        np.array([f"film {seed} {n}" for n in range(3 * patients)], object),
        np.repeat(np.array([f"patient {seed} {n}" for n in range(patients)], object), 3),
        list(findings), np.repeat(labels, 3, axis=0), 1 / (1 + np.exp(-logits)),
        groups=pd.DataFrame({"sex": np.repeat(rng.choice(["F", "M"], patients), 3)}), protocol="official",
    )  # fmt: skip


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    return measure(made(), made(1), FEW, workers=0).metrics


def test_figures_of_design_are_there(metrics: dict[str, Any]) -> None:
    test = made()
    for number, finding in enumerate(("Mass", "Edema")):
        labels, scores = test.labels[:, number], test.scores[:, number]
        assert metrics["auroc"][finding] == pytest.approx(roc_auc_score(labels, scores))
        assert metrics["average_precision"][finding] == pytest.approx(average_precision_score(labels, scores))
    assert metrics["split"] == "test"
    assert metrics["mean_auroc"] == pytest.approx((metrics["auroc"]["Mass"] + metrics["auroc"]["Edema"]) / 2)
    assert (metrics["films"], metrics["patients"], metrics["protocol"]) == (450, 150, "official")
    json.dumps(metrics, allow_nan=False)


def test_one_class_is_null_everywhere(metrics: dict[str, Any]) -> None:
    intervals = metrics["intervals"]
    for value in (
        metrics["auroc"], metrics["average_precision"], intervals["auroc"], intervals["delong"], intervals["delong_clustered"],
        intervals["image_level"]["auroc"], metrics["operating_points"]["findings"], metrics["calibration"]["findings"],
        metrics["subgroups"]["groupings"]["sex"]["F"]["findings"],
    ):  # fmt: skip
        assert value["Hernia"] is None
        assert value["Mass"] is not None


@pytest.mark.parametrize(("missing", "known"), [(0, True), (30, True), (50, False)])
def test_the_mean_is_of_the_same_findings_in_every_draw(missing: int, known: bool) -> None:
    common = np.linspace(0.70, 0.72, 100)
    rare = np.where(np.arange(100) < missing, np.nan, 0.9)
    ends = mean_interval([common, rare])
    if not known:
        assert ends is None
    else:
        expected = np.quantile((common[missing:] + 0.9) / 2, [0.025, 0.975])
        assert ends == pytest.approx(expected.tolist())


def test_intervals_by_film_are_narrower_where_films_resemble_each_other(metrics: dict[str, Any]) -> None:
    intervals = metrics["intervals"]
    assert intervals["clustered"]
    assert intervals["image_level"]["narrower_by"] > 0.2  # three films alike: 1 - 1/sqrt(3) = 0.42
    for finding in ("Mass", "Edema"):
        low, high = intervals["auroc"][finding]
        assert low < metrics["auroc"][finding] < high
        near = intervals["delong_clustered"][finding]
        assert [low, high] == pytest.approx(near, abs=0.03)
        film = intervals["image_level"]["auroc"][finding]
        assert film == pytest.approx(intervals["delong"][finding], abs=0.03)
    low, high = intervals["mean_auroc"]
    assert low < metrics["mean_auroc"] < high


def test_thresholds_come_from_validation_films(metrics: dict[str, Any]) -> None:
    other = made(1)
    points = metrics["operating_points"]
    assert points["chosen_on"] == {"films": 450, "patients": 150}
    youden = points["findings"]["Mass"]["youden"]
    assert youden["threshold"] in other.scores[:, 0]
    test = made()
    found = (test.scores[:, 0] >= youden["threshold"])[test.labels[:, 0] == 1].mean()
    assert youden["sensitivity"]["value"] == pytest.approx(found)
    assert points["mean"]["youden"]["sensitivity"] is not None
    assert points["cautions"] == []
    assert points["validation_films"]["Hernia"] == {"positives": 0, "negatives": 450}
    assert points["not_chosen"] == {"Hernia": "there is no positive validation film"}


def test_what_has_no_threshold_says_why() -> None:
    lacks = {"scored_without_labels": ["Oedema"]}
    only = replace(made(1, findings=("Mass",)), origin=lacks)
    test = made(findings=("Mass", "Edema", "Fibrosis"))
    assert measure(test, only, FEW, workers=0).metrics["operating_points"]["not_chosen"] == {
        "Edema": "not labelled for the validation films",
        "Fibrosis": "not scored in --validation-predictions",
    }


def test_no_finding_is_measured_but_in_no_mean() -> None:
    test, other = (made(seed, findings=("Mass", "No Finding")) for seed in (0, 1))
    test = replace(test, weights=np.where(test.labels[:, 0] == 1, 1.0, 9.0))
    found = measure(test, other, FEW, workers=0).metrics
    intervals, points, natural = found["intervals"], found["operating_points"], found["natural_prevalence"]
    assert found["not_in_means"] == ["No Finding"]
    assert found["auroc"]["No Finding"] is not None
    for mean, single in (
        (found["mean_auroc"], found["auroc"]),
        (found["mean_average_precision"], found["average_precision"]),
        (intervals["mean_auroc"], intervals["auroc"]),
        (intervals["mean_average_precision"], intervals["average_precision"]),
        (intervals["image_level"]["mean_auroc"], intervals["image_level"]["auroc"]),
        (natural["mean_auroc"], natural["auroc"]),
        (natural["mean_average_precision"], natural["average_precision"]),
    ):
        assert mean == single["Mass"]
    assert points["mean"]["youden"]["ppv"] == points["findings"]["Mass"]["youden"]["ppv"]["value"]
    assert found["calibration"]["mean"]["brier"] == found["calibration"]["findings"]["Mass"]["brier"]
    alone = measure(made(findings=("No Finding",)), "none", FEW, workers=0).metrics
    assert alone["not_in_means"] == []
    assert alone["mean_auroc"] == alone["auroc"]["No Finding"]


def test_without_validation_films_there_are_no_thresholds() -> None:
    metrics = measure(made(), "nobody gave any", FEW, workers=0).metrics
    assert metrics["operating_points"] == {"chosen_on": None, "reason": "nobody gave any", "findings": None}
    with pytest.raises(InputError, match="nobody gave any"):
        measure(made(), "nobody gave any", replace(FEW, points_asked=True), workers=0)


def test_scores_that_are_no_probabilities_rank_all_the_same(metrics: dict[str, Any]) -> None:
    test = made()
    shifted = measure(replace(test, scores=test.scores * 10 - 3), "none", FEW, workers=0).metrics
    assert shifted["auroc"] == pytest.approx(metrics["auroc"])
    assert shifted["calibration"] == {"reason": NOT_PROBABILITIES, "findings": None}


def test_without_patients_intervals_are_image_level() -> None:
    metrics = measure(replace(made(), patient_ids=None), "none", FEW, workers=0).metrics
    intervals = metrics["intervals"]
    assert not intervals["clustered"]
    assert "image-level" in intervals["method"]
    assert intervals["image_level"] is None
    assert intervals["delong_clustered"] is None
    assert metrics["patients"] is None


def test_sampling_weights_restore_the_natural_prevalence() -> None:
    test = made()
    weights = np.where(test.labels[:, 0] == 1, 1.0, 9.0)
    natural = measure(replace(test, weights=weights), made(1), FEW, workers=0).metrics["natural_prevalence"]
    labels, scores = test.labels[:, 0], test.scores[:, 0]
    assert natural["prevalence"]["Mass"] == pytest.approx(np.average(labels, weights=weights))
    assert natural["auroc"]["Mass"] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    expected = average_precision_score(labels, scores, sample_weight=weights)
    assert natural["average_precision"]["Mass"] == pytest.approx(expected)
    low, high = natural["intervals"]["average_precision"]["Mass"]
    assert low < expected < high
    assert natural["auroc"]["Hernia"] is None
    assert natural["operating_points"]["Mass"]["youden"]["ppv"]["value"] < 0.3
    assert measure(test, "none", FEW, workers=0).metrics["natural_prevalence"] is None


def test_figures_name_nobody(metrics: dict[str, Any]) -> None:
    assert "patient 0" not in json.dumps(metrics)
    assert "film 0" not in json.dumps(metrics)


def test_ray_tasks_give_the_same_figures(ray_cluster: None, metrics: dict[str, Any]) -> None:
    seen = []
    assert measure(made(), made(1), FEW, seen.append, workers=2).metrics == metrics
    assert sum(seen) == 3


def test_narrower_by_is_the_median_over_findings() -> None:
    patient = {"a": [0.0, 1.0], "b": [0.0, 1.0], "c": [0.0, 1.0], "d": None}
    film = {"a": [0.0, 0.9], "b": [0.0, 0.8], "c": [0.0, 0.3], "d": [0.0, 1.0]}
    assert narrower_by(patient, film) == pytest.approx(0.2)
    assert narrower_by({"a": None}, {"a": None}) is None


def test_worst_misses_by_hand() -> None:
    labels = np.array([[1], [1], [0], [0], [0], [0]], np.float32)
    scores = np.array([[0.1], [0.8], [0.2], [0.3], [0.4], [0.9]])
    test = Scored(np.arange(6).astype(str).astype(object), None, ["Mass"], labels, scores)
    missed, alarm = worst_misses(test)
    assert (missed.film, missed.kind, missed.score, missed.behind) == (0, "missed", 0.1, 1.0)
    assert (alarm.film, alarm.kind, alarm.score, alarm.behind) == (5, "false alarm", 0.9, 1.0)
    assert len(worst_misses(made())) <= 2 * MOST
