"""The benchmark of the search: its arithmetic, and searches replayed against the recorded grid."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.job import load_job

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[SimpleNamespace]:
    """The benchmark's scripts, which lie beside each other and in no package."""
    sys.path.insert(0, str(BENCHMARKS))
    import tune
    import tune_grid
    import tune_replay

    yield SimpleNamespace(tune=tune, grid=tune_grid, replay=tune_replay)
    sys.path.remove(str(BENCHMARKS))


def _lookup(modules: SimpleNamespace) -> object:
    """Five configurations, three epochs, two seeds."""
    finals = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "e": 0.5}
    entries = {
        name: {
            "parameters": {"stream.resampling": name},
            "scores": [[0.1, 0.2, final - 0.05], [0.3, 0.4, final + 0.05]],
            "final": final,
            "standard_error_to_best": {"d": 0.31, "e": 0.39}.get(name, 0.0),
        }
        for name, final in finals.items()
    }
    return modules.replay.Lookup(3, entries)


def test_good_is_among_the_best_three_or_within_a_standard_error(modules: SimpleNamespace) -> None:
    lookup = _lookup(modules)
    assert [lookup.place(n) for n in "abcde"] == [1, 2, 3, 4, 5]
    assert [lookup.is_good(n) for n in "abcde"] == [True, True, True, True, False]
    assert lookup.name_of({"stream.resampling": "c", "model.weights": "none"}) == "c"
    assert lookup.scores("a", 3) == [0.3, 0.4, pytest.approx(0.95)]
    assert list(modules.tune.budgets(lookup).values()) == [7, 3]


def test_purse_counts_every_epoch_and_chooses_a_finished_trial(modules: SimpleNamespace) -> None:
    purse = modules.replay.Purse(_lookup(modules), 8)
    # A wish to stop at a trial's end comes too late.
    assert purse.train("b", 0, lambda epoch, score: epoch == 3) == pytest.approx(0.75)
    assert purse.train("a", 0, lambda epoch, score: epoch == 2) is None
    assert (purse.spent, purse.trials, purse.holds_another) == (5, 2, True)
    purse.train("c", 0, lambda epoch, score: epoch == 1)
    assert not purse.holds_another
    assert purse.outcome() == modules.replay.Outcome("b", 6, 3)


@pytest.mark.parametrize("seed", [0, 1])
def test_searches_of_the_recorded_grid_keep_to_the_budget_and_their_seed(
    modules: SimpleNamespace, seed: int
) -> None:
    lookup = modules.replay.Lookup.read(modules.grid.LOOKUP)
    epochs = modules.tune.budgets(lookup)["a quarter of one pass over the grid"]
    ways = [
        lambda: modules.replay.replay_search(lookup, load_job(modules.grid.JOB), seed, epochs),
        lambda: modules.replay.replay_optuna(lookup, optuna.pruners.MedianPruner(), seed, epochs),
        lambda: modules.replay.replay_random(lookup, seed, epochs),
    ]
    for way in ways:
        found = way()
        assert epochs - lookup.epochs < found.epochs <= epochs == 81
        assert found == way()
    # Nine whole trainings of random search, without stops.
    assert (found.trials, found.epochs) == (9, 81)


def test_recorded_grid_is_whole_and_holds_no_film(modules: SimpleNamespace) -> None:
    table = json.loads(modules.grid.LOOKUP.read_text("utf-8"))
    entries = table["entries"]
    assert list(entries) == [modules.grid.name_of(c) for c in modules.grid.configurations()]
    assert len(entries) == 36 and all(np.shape(e["scores"]) == (2, 9) for e in entries.values())
    for entry in entries.values():
        assert entry["final"] == pytest.approx(np.mean([s[-1] for s in entry["scores"]]), abs=1e-5)
    assert entries[table["best"]]["standard_error_to_best"] == 0
    assert table["best"] == max(entries, key=lambda name: entries[name]["final"])
    assert ".png" not in modules.grid.LOOKUP.read_text("utf-8")


def test_score_draws_are_mean_aurocs_in_draws_of_patients(modules: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    films = pd.DataFrame({"image_id": [f"{i:03d}" for i in range(120)]})
    films["patient_id"] = [str(i // 2) for i in range(120)]
    for finding in ("Mass", "Edema"):
        films[f"label_{finding}"] = rng.integers(0, 2, 120).astype(float)
        films[f"prob_{finding}"] = rng.random(120)
    found = modules.grid.score_draws(films.sample(frac=1, random_state=1))
    weights = draw_patient_weights(films["patient_id"].tolist(), modules.grid.DRAWS, seed=0)
    for draw in (0, 7):
        weight = weights.counts[draw][weights.unit_of]
        by_hand = [
            roc_auc_score(films[f"label_{f}"], films[f"prob_{f}"], sample_weight=weight)
            for f in ("Mass", "Edema")
        ]
        assert found[draw] == pytest.approx(np.mean(by_hand))


def test_overhead_is_what_the_command_took_beyond_the_training(modules: SimpleNamespace) -> None:
    trials = pd.DataFrame({"train_seconds": [60.0, 80.0, 60.0]})
    row = modules.tune.overhead_rows(trials, wall_s=110.0, at_once=2)[-1]
    assert row == "| 3 | 2 | 60–80 | 100 | 110 | 10.0% |"
