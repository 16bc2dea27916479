"""Which trial is called best, and how sure that is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.tune.search import Plan
from ray_cxr.tune.select import Candidate, rank, score_draws, summarise
from tests.tune.conftest import Player


def predictions(quality: float, patients: int = 200, rare: int = 60, seed: int = 0) -> pd.DataFrame:
    """Two films a patient; half of the patients have a mass, `rare` of them an edema. quality: how far apart the scores are."""
    rng = np.random.default_rng(seed)
    labels = {
        "Mass": np.repeat(np.arange(patients) % 2, 2),
        "Edema": np.repeat(np.arange(patients) < rare, 2),
    }
    noise = {finding: rng.normal(size=2 * patients) for finding in labels}
    frame = pd.DataFrame({"patient_id": [f"p{n // 2}" for n in range(2 * patients)]})
    for finding, present in labels.items():
        frame[f"prob_{finding}"] = 1 / (1 + np.exp(-(noise[finding] + quality * present)))
        frame[f"label_{finding}"] = present.astype(np.float32)
    return frame


def test_draws_are_of_the_mean_over_findings() -> None:
    frame = predictions(1.0)
    draws = draw_patient_weights(frame["patient_id"].tolist(), 3, seed=0)
    found = score_draws(frame, "mean_auroc", draws)
    worst = score_draws(frame, "worst_average_precision", draws)
    for draw in range(3):
        weight = draws.counts[draw][draws.unit_of]
        of = [
            {"y_true": frame[f"label_{f}"], "y_score": frame[f"prob_{f}"], "sample_weight": weight}
            for f in ("Mass", "Edema")
        ]
        assert found[draw] == pytest.approx(np.mean([roc_auc_score(**o) for o in of]))
        assert worst[draw] == pytest.approx(min(average_precision_score(**o) for o in of))


def test_best_and_lower_bound_may_differ() -> None:
    sure = Candidate(0, 0.80, np.linspace(0.78, 0.82, 100))
    unsure = Candidate(1, 0.81, np.linspace(0.61, 0.99, 100))
    unknown = Candidate(2, 0.79)
    assert [c.number for c in rank([sure, unsure, unknown], "best")] == [1, 0, 2]
    assert [c.number for c in rank([sure, unsure, unknown], "lower_bound")] == [0, 1, 2]
    equal = [Candidate(5, 0.8), Candidate(3, 0.8)]
    assert [c.number for c in rank(equal, "best")] == [3, 5]


Make = Callable[..., Player]
SPACE = {"train.learning_rate": {"choices": [0.1, 0.01]}}


def finished(player: Make, frames: dict[float, pd.DataFrame], *overrides: str) -> dict[str, object]:
    """The summary of a grid of two trials with these validation predictions."""
    scores = {
        rate: np.mean([roc_auc_score(f[f"label_{n}"], f[f"prob_{n}"]) for n in ("Mass", "Edema")])
        for rate, f in frames.items()
    }

    def score(plan: Plan, epoch: int) -> float:
        rate = plan.recipe.train.learning_rate
        frames[rate].to_parquet(Path(plan.recipe.out) / "predictions-validation.parquet")
        return float(scores[rate])

    def score_there(plan: Plan, epoch: int) -> float:
        Path(plan.recipe.out).mkdir(parents=True, exist_ok=True)
        return score(plan, epoch)

    p = player(score_there, "tune.sampler=grid", "tune.scheduler=none", *overrides, space=SPACE)
    return summarise(p.play())


def test_the_winner_and_its_lead_have_intervals(player: Make) -> None:
    """The two trials see the same patients, so their difference is surer than each score is."""
    good = predictions(1.0)
    frames = {
        0.1: good,
        0.01: good.assign(prob_Mass=good["prob_Mass"] * 0.999 + 0.001 * predictions(0, seed=9)["prob_Mass"]),
    }
    summary = finished(player, frames)
    winner, runner_up, difference = summary["winner"], summary["runner_up"], summary["difference"]
    assert isinstance(winner, dict)
    assert isinstance(runner_up, dict)
    assert isinstance(difference, dict)
    assert winner["interval"][0] < winner["value"] < winner["interval"][1]
    assert winner["value"] - runner_up["value"] == pytest.approx(difference["value"])
    width = winner["interval"][1] - winner["interval"][0]
    assert difference["interval"][1] - difference["interval"][0] < width / 10
    assert summary["compared"] == 2
    assert summary["patients"] == "drawn"
    assert summary["epochs_spent"] == summary["epochs_full"] == 6
    assert summary["seconds_spent"] == summary["seconds_full"] == 18.0


def test_where_draws_lack_a_rare_finding_patients_are_weighted(player: Make) -> None:
    """One patient with an edema: 37 % of the draws have none of his films; two such findings, and most lack one."""
    frames = {rate: predictions(1.0, rare=1, seed=n) for n, rate in enumerate((0.1, 0.01))}
    for frame in frames.values():
        frame["prob_Nodule"], frame["label_Nodule"] = (
            frame["prob_Edema"],
            np.float32([0, 0, 1, 1] + [0] * 396),
        )
    summary = finished(player, frames)
    assert summary["patients"] == "weighted"
    winner = summary["winner"]
    assert isinstance(winner, dict)
    assert winner["interval"][0] < winner["interval"][1]
