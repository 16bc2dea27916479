"""Which settings a trial draws, from what values, in what order."""

from typing import Any

import pytest

from ray_cxr.config import validated
from ray_cxr.errors import InputError
from ray_cxr.tune.settings import TuneSettings
from ray_cxr.tune.space import Drawn, Options, Space, build_space, enumerate_space

BASE = {"stream.resampling": "none", "model.backbone": "resnet18", "model.freeze_depth": 0}


def space_of(base: dict[str, Any] | None = None, **space: Any) -> Space:
    """Dots of names are given as two underscores."""
    named = {name.replace("__", "."): values for name, values in space.items()}
    return build_space(validated(TuneSettings, {"space": named}).space, {**BASE, **(base or {})})


def all_fit(drawn: Drawn) -> str | None:
    return None


def drawing(wishes: dict[str, Any], asked: list[Options] | None = None) -> Any:
    """Draws what is wished for, else the first choice or the lower end."""

    def draw(options: Options) -> Any:
        if asked is not None:
            asked.append(options)
        return wishes.get(options.label, options.choices[0] if options.choices else options.low)

    return draw


def test_a_setting_is_drawn_after_those_that_it_depends_on() -> None:
    space = space_of(
        stream__resampling_strength={"low": 0.1, "high": 1.0},
        model__freeze_depth={"choices": [0, "head"]},
        train__learning_rate={"low": 1e-4, "high": 1e-2, "log": True, "when": {"model.freeze_depth": "head"}},
        stream__resampling={"choices": ["none", "oversample"]},
        model__backbone={"choices": ["resnet18", "resnet34"]},
    )
    assert list(space.parameters) == [
        "stream.resampling", "stream.resampling_strength", "model.backbone", "model.freeze_depth", "train.learning_rate",
    ]  # fmt: skip


def test_a_circle_of_conditions_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"train\.epochs → train\.learning_rate → train\.epochs wait for each"
    ):
        space_of(
            train__epochs={"choices": [1, 2], "when": {"train.learning_rate": 0.1}},
            train__learning_rate={"choices": [0.1, 0.2], "when": {"train.epochs": 1}},
        )


@pytest.mark.parametrize(
    ("resampling", "drawn"),
    [
        ("none", {"stream.resampling": "none"}),
        ("balanced", {"stream.resampling": "balanced"}),
        ("oversample", {"stream.resampling": "oversample", "stream.resampling_strength": 0.1}),
    ],
)
def test_a_setting_without_effect_is_not_drawn(resampling: str, drawn: Drawn) -> None:
    space = space_of(
        stream__resampling={"choices": ["none", "oversample", "balanced"]},
        stream__resampling_strength={"low": 0.1, "high": 1.0},
    )
    assert space.draw(drawing({"stream.resampling": resampling}), all_fit) == drawn


def test_a_condition_asks_for_the_jobs_own_setting_where_it_is_not_searched() -> None:
    space = space_of(
        train__learning_rate={"choices": [0.1, 0.2], "when": {"model.backbone": ["resnet18", "resnet50"]}},
        train__weight_decay={"choices": [0.1, 0.2], "when": {"model.backbone": "resnet50"}},
    )
    assert space.draw(drawing({}), all_fit) == {"train.learning_rate": 0.1}


def test_only_values_that_the_job_can_take_are_drawn_and_under_a_name_of_their_own() -> None:
    """The sampler holds one set of values for a name: depths of a shallow backbone are another parameter."""
    space = space_of(
        model__backbone={"choices": ["shallow", "deep"]},
        model__freeze_depth={"choices": [0, 4, 6, "head"]},
    )

    def fits(drawn: Drawn) -> str | None:
        shallow = drawn.get("model.backbone") == "shallow"
        return "no such stage" if shallow and drawn.get("model.freeze_depth") in (4, 6) else None

    asked: list[Options] = []
    space.draw(drawing({"model.backbone": "shallow"}, asked), fits)
    space.draw(drawing({"model.backbone": "deep"}, asked), fits)
    depths = [o for o in asked if o.label.startswith("model.freeze_depth")]
    assert [(o.label, o.choices) for o in depths] == [
        ('model.freeze_depth [0,"head"]', (0, "head")),
        ("model.freeze_depth", (0, 4, 6, "head")),
    ]


def test_the_first_alternative_that_holds_is_drawn() -> None:
    space = space_of(
        model__backbone={"choices": ["resnet18", "resnet34"]},
        train__learning_rate=[
            {"low": 0.1, "high": 0.2, "when": {"model.backbone": "resnet34"}},
            {"choices": [0.5]},
        ],
    )
    asked: list[Options] = []
    assert space.draw(drawing({"model.backbone": "resnet34"}, asked), all_fit)["train.learning_rate"] == 0.1
    assert space.draw(drawing({}, asked), all_fit)["train.learning_rate"] == 0.5
    rates = {o.label for o in asked if o.label.startswith("train")}
    assert rates == {"train.learning_rate 0.1 to 0.2", "train.learning_rate [0.5]"}


def test_a_grid_is_every_combination_that_has_an_effect() -> None:
    space = space_of(
        stream__resampling={"choices": ["none", "oversample"]},
        stream__resampling_strength={"choices": [0.5, 1.0]},
        train__epochs={"low": 2, "high": 3, "int": True},
    )
    assert list(enumerate_space(space, all_fit)) == [
        {"stream.resampling": "none", "train.epochs": 2},
        {"stream.resampling": "none", "train.epochs": 3},
        {"stream.resampling": "oversample", "stream.resampling_strength": 0.5, "train.epochs": 2},
        {"stream.resampling": "oversample", "stream.resampling_strength": 0.5, "train.epochs": 3},
        {"stream.resampling": "oversample", "stream.resampling_strength": 1.0, "train.epochs": 2},
        {"stream.resampling": "oversample", "stream.resampling_strength": 1.0, "train.epochs": 3},
    ]


def test_a_grid_has_no_ranges() -> None:
    with pytest.raises(InputError, match="grid tries every value, but train.learning_rate is a range"):
        list(enumerate_space(space_of(train__learning_rate={"low": 0.1, "high": 0.2}), all_fit))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "give choices, or a range with low and high"),
        ({"low": 1}, "give choices, or a range with low and high"),
        ({"low": 2, "high": 1}, "low is 2 and high is 1, but low must be less than high"),
        ({"low": 0, "high": 1, "log": True}, "a range with log must begin above 0"),
        ({"low": 0.5, "high": 2, "int": True}, "a range with int has whole ends"),
        ({"choices": [1], "low": 1}, "got choices and a range"),
        ({"choices": [1, 2, 1]}, "1 stands twice"),
        ({"choices": []}, "must have 1 or more"),
        ({"choice": [1]}, "did you mean .*choices"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        space_of(train__epochs=values)
