"""Which trial comes next, what becomes of each, and what a search that was cut goes on with. Nothing is trained here."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from ray_cxr.tune.records import trial_table
from ray_cxr.tune.search import Plan
from tests.tune.conftest import Player

RATE = {"train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
Make = Callable[..., Player]


def by_rate(plan: Plan, epoch: int) -> float:
    """Best at 0.01; each epoch a little better."""
    return 0.9 - abs(plan.recipe.train.learning_rate - 0.01) * 5 + 0.01 * epoch


def table(player: Player) -> pd.DataFrame:
    return pd.read_parquet(Path(player.job.out) / "trials.parquet")


def test_the_number_asked_for_is_reached_and_optuna_knows_the_truth(player: Make) -> None:
    p = player(by_rate, "tune.trials=12", space=RATE)
    search = p.play()
    assert search.done
    states = [t.state for t in search.study.trials]
    assert len(states) == 12
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in search.study.trials:
        rate = trial.params["train.learning_rate"]
        epochs = 3 if trial.state == TrialState.COMPLETE else max(trial.intermediate_values)
        expected = {e: 0.9 - abs(rate - 0.01) * 5 + 0.01 * e for e in range(1, epochs + 1)}
        assert trial.intermediate_values == pytest.approx(expected)
        if trial.state == TrialState.COMPLETE:
            assert trial.values == pytest.approx([expected[3]])
    frame = table(p)
    assert frame["number"].tolist() == list(range(12))
    assert set(frame["state"]) == {"complete", "pruned"}
    assert (frame["train_seconds"] == 3.0 * frame["epochs"]).all()
    assert frame["objective:mean_auroc"].notna().all()


def test_the_table_has_its_columns_before_the_first_trial(player: Make) -> None:
    """A search that is killed before it has drawn a trial leaves a table that is read like any other."""
    p = player(by_rate, "tune.trials=2", space=RATE)
    p.play()
    full = table(p)
    empty = trial_table([], ["mean_auroc"], list(RATE), set(), {}, planned=3)
    assert empty.empty
    assert empty.columns.tolist() == full.columns.tolist()
    numbers = full.select_dtypes("number").columns
    assert empty[numbers].dtypes.tolist() == full[numbers].dtypes.tolist()


def test_the_same_search_twice_is_the_same(player: Make, tmp_path: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        p = player(by_rate, "tune.trials=15", "tune.startup_trials=4", f"out={tmp_path / name}", space=RATE)
        p.play()
        drawn.append([plan.settings for plan in p.played])
    assert drawn[0] == drawn[1]
    other = player(by_rate, "tune.trials=15", "seed=1", f"out={tmp_path / 'c'}", space=RATE)
    other.play()
    assert [plan.settings for plan in other.played] != drawn[0]


def test_no_settings_are_trained_twice_while_others_are_left(player: Make) -> None:
    space = {
        "stream.resampling": {"choices": ["none", "oversample"]},
        "stream.resampling_strength": {"choices": [0.5, 1.0]},  # with none there is none
        "train.weight_decay": {"choices": [0.0, 0.1, 0.2]},
    }
    p = player(by_rate, "tune.trials=11", "tune.startup_trials=2", space=space)
    p.play()
    drawn = [json.dumps(plan.settings, sort_keys=True) for plan in p.played]
    assert len(drawn) == 11
    assert len(set(drawn[:9])) == 9, "all there are"
    assert set(drawn[9:]) <= set(drawn[:9])


def test_the_sampler_learns(player: Make) -> None:
    p = player(by_rate, "tune.trials=40", "tune.scheduler=none", space=RATE)
    p.play()
    rates = [plan.recipe.train.learning_rate for plan in p.played]

    def near(some: list[float]) -> float:
        return sum(0.005 < rate < 0.02 for rate in some) / len(some)

    assert near(rates[20:]) > 2 * near(rates[:10])


@pytest.mark.parametrize(("cut", "storage"), [(1, "null"), (4, "sqlite:///{}/study.db"), (9, "null")])
def test_a_search_that_was_cut_ends_as_if_it_had_not_been(
    player: Make, tmp_path: Path, cut: int, storage: str
) -> None:
    whole = player(by_rate, "tune.trials=10", f"out={tmp_path / 'whole'}", space=RATE)
    whole.play()
    kept = f"tune.storage={storage.format(tmp_path)}"
    first = player(by_rate, "tune.trials=10", f"out={tmp_path / 'cut'}", kept, space=RATE)
    search = first.play(trials=cut)
    # One more begins, reports an epoch, and is never heard of again, if it is not stopped there.
    plan = search.next()
    assert plan is not None
    stopped = next(first.epochs(search, plan), None) is None
    second = player(by_rate, "tune.trials=10", f"out={tmp_path / 'cut'}", kept, space=RATE)
    again = second.open()
    known = {e["number"]: e["state"] for e in second.events if e["kind"] == "trial"}
    assert set(known) >= set(range(cut))
    again = second.play(again)
    assert again.done
    columns = ["number", "state", "param:train.learning_rate", "objective:mean_auroc", "epochs"]
    pd.testing.assert_frame_equal(table(whole)[columns], table(second)[columns])
    numbers = [p.number for p in (*first.played, *([plan] if stopped else []), *second.played)]
    assert sorted(numbers) == list(range(10)), "none twice, none lost"


def test_more_trials_than_before_go_on(player: Make) -> None:
    player(by_rate, "tune.trials=3", space=RATE).play()
    more = player(by_rate, "tune.trials=5", space=RATE)
    more.play()
    assert [p.number for p in more.played] == [3, 4]


def test_what_cannot_be_measured_fails_with_its_reason(player: Make) -> None:
    p = player(lambda plan, epoch: None, "tune.trials=4", "tune.max_failed=9", space=RATE)
    search = p.play()
    assert [t.state for t in search.study.trials] == [TrialState.FAIL] * 4
    assert table(p)["reason"].unique().tolist() == ["mean_auroc cannot be measured: it is None"]


def test_too_many_failures_stop_the_search(player: Make) -> None:
    def fails(plan: Plan, epoch: int) -> float:
        raise RuntimeError("out of memory" if plan.number % 3 else "loss is nan")

    p = player(fails, "tune.trials=50", "tune.max_failed=4", space=RATE)
    search = p.play()
    assert search.aborted
    assert search.done
    assert len(p.played) == 4
    assert search.failures == {"out of memory": 2, "loss is nan": 2}
    again = player(by_rate, "tune.trials=50", "tune.max_failed=5", space=RATE)
    assert not again.open().done, "with more allowed it goes on"


def test_a_process_that_died_is_started_again_and_then_given_up(player: Make) -> None:
    p = player(by_rate, "tune.trials=2", "train.max_failures=1", "tune.concurrency=1", space=RATE)
    search = p.open()
    plan = search.next()
    assert plan is not None
    search.died(plan.number, "its process died")
    again = search.next()
    assert again is not None
    assert (again.number, again.settings) == (plan.number, plan.settings)
    search.died(again.number, "its process died")
    assert table(p).loc[0, ["state", "reason"]].tolist() == ["failed", "its process died, 2 times"]


def test_first_trials_are_the_job_and_the_recipes(player: Make) -> None:
    space = {
        "model.backbone": {"choices": ["test_convnext", "resnet18"]},
        "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    }
    p = player(by_rate, "tune.trials=3", "tune.recipes=true", "train.learning_rate=0.02", space=space)
    p.play()
    frame = table(p)
    assert frame["origin"].tolist() == ["recipe:job", "recipe:resnet18-from-nothing", "sampler"]
    assert json.loads(frame["param:train.learning_rate"][0]) == 0.02
    assert p.played[0].settings == {"model.backbone": "test_convnext", "train.learning_rate": 0.02}
    assert p.played[1].settings == {"model.backbone": "resnet18", "train.learning_rate": 0.001}


def test_a_grid_is_tried_once_and_then_ends(player: Make) -> None:
    space = {"train.learning_rate": {"choices": [0.1, 0.01]}, "loss.kind": {"choices": ["bce", "focal"]}}
    p = player(by_rate, "tune.trials=50", "tune.sampler=grid", space=space)
    search = p.play()
    assert search.done
    tried = [tuple(plan.settings.values()) for plan in p.played]
    assert sorted(tried) == [(0.01, "bce"), (0.01, "focal"), (0.1, "bce"), (0.1, "focal")]


def test_several_objectives_have_a_front(player: Make) -> None:
    space = {"model.backbone": {"choices": ["test_convnext", "test_resnet"]}, **RATE}
    p = player(
        by_rate,
        "tune.trials=10",
        "tune.scheduler=none",
        "tune.objectives=[mean_auroc, parameters]",
        space=space,
    )
    search = p.play()
    frame = table(p)
    values = frame[["objective:mean_auroc", "objective:parameters"]].to_numpy()
    for row, (auroc, size) in enumerate(values):
        beaten = any((a >= auroc and s <= size) and (a, s) != (auroc, size) for a, s in values)
        assert frame["pareto"][row] == (not beaten)
    assert 1 <= frame["pareto"].sum() < 10
    assert [d.name for d in search.study._study.directions] == ["MAXIMIZE", "MINIMIZE"]


def test_a_trial_of_several_folds_counts_by_their_mean(player: Make) -> None:
    def by_fold(plan: Plan, epoch: int) -> float:
        """Fold 1 is the easier one; the second of its three epochs is the best."""
        assert plan.recipe.fold is not None
        return plan.recipe.train.learning_rate + 0.2 * plan.recipe.fold + (0.1 if epoch == 2 else 0.0)

    settings = ("tune.trials=9", "tune.crossval=2", "tune.grace_epochs=2", "tune.reduction_factor=2")
    space = {"train.learning_rate": {"low": 0.1, "high": 0.5}}
    first = player(by_fold, *settings, space=space)
    search = first.play(trials=4)
    plan = search.next()
    assert plan is not None
    assert [(run.fold, run.out[-7:]) for run in plan.runs] == [(0, "/fold-0"), (1, "/fold-1")]
    epochs = first.epochs(search, plan)
    for _ in range(4):  # into the second fold, if it is not stopped before
        next(epochs, None)
    again = player(by_fold, *settings, space=space)
    again.play()
    frame = table(again)
    whole = frame["state"] == "complete"
    assert frame["epochs"][whole].tolist() == [6] * whole.sum()
    assert 0 < (~whole).sum() < 9
    assert set(frame["epochs"][~whole]) <= {2, 4}, "stopped at a rung, which may lie in the second fold"
    rates = frame["param:train.learning_rate"].map(json.loads)
    # Kept: of fold 0 rate + 0.1; of fold 1 rate + 0.2 after its first epoch, rate + 0.3 at last.
    expected = rates + frame["epochs"].map({2: 0.1, 4: 0.15, 6: 0.2})
    assert frame["objective:mean_auroc"].tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_every_sampler_draws_from_a_space_with_conditions(player: Make, sampler: str) -> None:
    space = {
        "stream.resampling": {"choices": ["none", "oversample"]},
        "stream.resampling_strength": {"low": 0.2, "high": 1.0},
        "model.backbone": {"choices": ["test_convnext", "test_resnet"]},
        "model.freeze_depth": {"choices": [0, 2, "head"]},
        **RATE,
    }
    p = player(by_rate, "tune.trials=14", "tune.startup_trials=5", f"tune.sampler={sampler}", space=space)
    p.play()
    for plan in p.played:
        assert ("stream.resampling_strength" in plan.settings) == (
            plan.settings["stream.resampling"] == "oversample"
        )
    assert len(table(p)) == 14
