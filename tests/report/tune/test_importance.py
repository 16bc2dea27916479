"""What mattered in a search."""

import optuna
import pytest

from ray_cxr.report.tune.importance import FEWEST, Seen, common_epoch, distribution, importance

SPACE = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}


def _seen(count: int, epochs: int = 3) -> list[Seen]:
    """The score is x alone; y and kind go their own ways."""
    return [
        Seen(
            {"x": i / count, "y": (7 * i % count) / count, "kind": "ab"[i % 2]},
            {e: i / count + e / 100 for e in range(1, epochs + 1)},
        )
        for i in range(count)
    ]


def test_what_alone_matters_has_the_largest_share() -> None:
    found = importance(_seen(40), SPACE)
    assert found is not None
    assert next(iter(found.shares)) == "x"
    assert found.shares["x"] > 0.7
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.epoch, found.trials, found.top) == (3, 40, 5)


def test_of_a_loss_the_lowest_are_good() -> None:
    low, high = importance(_seen(40), SPACE, maximize=False), importance(_seen(40), SPACE)
    assert low is not None
    assert high is not None
    assert next(iter(low.shares)) == "x"
    assert low.shares != high.shares


def test_trials_are_compared_where_enough_of_them_came() -> None:
    far, near = _seen(FEWEST - 1, epochs=9), _seen(5, epochs=2)
    assert common_epoch([t.scores for t in far + near]) == 2
    assert common_epoch([t.scores for t in far]) is None
    assert importance(far, SPACE) is None


def test_settings_that_apply_to_some_trials_only_are_looked_at() -> None:
    trials = [
        Seen(
            {**t.parameters, **({"strength": t.parameters["x"]} if t.parameters["kind"] == "a" else {})},
            t.scores,
        )
        for t in _seen(40)
    ]
    found = importance(trials, SPACE)
    assert found is not None
    assert set(found.shares) == {"x", "y", "kind", "strength"}


def test_nothing_to_say_where_nothing_differs() -> None:
    same = [Seen({"kind": "a"}, {1: i / 20}) for i in range(20)]
    assert importance(same, SPACE) is None


def test_where_values_came_from() -> None:
    assert distribution(
        [0.1, 0.2], {"low": 0.01, "high": 1.0, "log": True}
    ) == optuna.distributions.FloatDistribution(0.01, 1.0, log=True)
    assert distribution([3, 4], {"low": 1, "high": 9}) == optuna.distributions.IntDistribution(1, 9)
    # What a recipe of known worth brought from outside the bounds is within them.
    assert distribution([0.1, 2.0], {"low": 0.01, "high": 1.0}) == optuna.distributions.FloatDistribution(
        0.01, 2.0
    )
    assert distribution([0, "head", 0], None) == optuna.distributions.CategoricalDistribution(['"head"', "0"])


def test_optuna_stays_quiet_and_as_loud_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    importance(_seen(20), SPACE)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""
