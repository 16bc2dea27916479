"""Why the search has a searcher of its own: what Ray's Optuna searcher tells Optuna. Should one of these fail, look again."""

import warnings

import pytest
from optuna.trial import TrialState

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ray.tune.search.optuna import OptunaSearch

import ray.tune


@pytest.fixture
def searcher() -> OptunaSearch:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return OptunaSearch({"rate": ray.tune.uniform(0, 1)}, metric="auroc", mode="max", seed=0)


def test_a_stopped_trial_counts_as_complete_with_its_early_score(searcher: OptunaSearch) -> None:
    searcher.suggest("a")
    searcher.on_trial_result("a", {"auroc": 0.6, "training_iteration": 1})
    # The scheduler stops it: Tune hands over the last result, and says nothing of why.
    searcher.on_trial_complete("a", {"auroc": 0.6, "training_iteration": 1})
    trial = searcher._ot_study.trials[0]
    assert trial.state == TrialState.COMPLETE
    assert trial.value == 0.6


def test_intermediate_values_are_told_for_one_metric_only(searcher: OptunaSearch) -> None:
    searcher.suggest("a")
    searcher.on_trial_result("a", {"auroc": 0.6, "training_iteration": 1})
    assert searcher._ot_study.trials[0].intermediate_values == {1: 0.6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        two = OptunaSearch(
            {"rate": ray.tune.uniform(0, 1)}, metric=["auroc", "macs"], mode=["max", "min"], seed=0
        )
    two.suggest("a")
    two.on_trial_result("a", {"auroc": 0.6, "macs": 5.0, "training_iteration": 1})
    assert two._ot_study.trials[0].intermediate_values == {}


def test_a_trial_without_a_number_runs_for_ever(searcher: OptunaSearch) -> None:
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"auroc": float("nan"), "training_iteration": 1})
    assert searcher._ot_study.trials[0].state == TrialState.RUNNING
