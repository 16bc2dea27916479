"""Refuses a space that has something in it which no trial could run with, before anything starts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_cxr.config import overlaid, setting_names, validated
from ray_cxr.errors import InputError
from ray_cxr.train.run import MAY_DIFFER
from ray_cxr.train.settings import Recipe
from ray_cxr.tune.settings import Values
from ray_cxr.tune.space import (
    Draw,
    Drawn,
    Fits,
    Options,
    Space,
    as_list,
    build_space,
    values_to_try,
    without_effect,
)

_SHARED = {
    "dataset": "all trials of a search train on one data set",
    "out": "each trial has a directory of its own",
    "findings": "scores are means over the same findings",
    "fold": "scores are those of the same films",
}
_PREPARED = ("source", "split", "shards")
_CONTEXTS = 24
"""So many other settings of a trial are tried with a value before it is refused."""


def refuse_names(space: Mapping[str, Any]) -> None:
    """Raises InputError for a name in the space that is no setting of a training."""
    known = set(setting_names(Recipe))
    for name in space:
        if name in MAY_DIFFER - set(_SHARED):
            raise InputError(
                f"tune.space: {name} cannot be searched, since it changes where and how fast a model is trained, never which; set it "
                "in the job."
            )
        top = name.partition(".")[0]
        if name in _SHARED:
            raise InputError(f"tune.space: {name} cannot be searched, since {_SHARED[name]}; leave it out.")
        if top in (*_PREPARED, "tune"):
            why = "is settled when the data set is prepared" if top in _PREPARED else "says how to search"
            raise InputError(f"tune.space: {name} {why}, so trials cannot differ in it; leave it out.")
        if name not in known:
            raise InputError(f"tune.space: {_unknown(name, known)}")
    for name, alternatives in space.items():
        for values in alternatives if isinstance(alternatives, list) else [alternatives]:
            for other in values.when:
                if other not in known:
                    raise InputError(f"tune.space: the `when` of {name}: {_unknown(other, known)}")


def _unknown(name: str, known: set[str]) -> str:
    inside = sorted(k for k in known if k.startswith(f"{name}."))
    if inside:
        return f"{name} is a group of settings; name one of them, as {inside[0]}."
    try:
        validated(Recipe, overlaid({}, {name: None}))
    except InputError as error:
        return error.message.splitlines()[0]
    return f"{name}: unknown setting."


def refuse_values(space: Space, fits: Fits, seed: int) -> None:
    """Raises InputError for a value that no trial could run with, with the settings of a trial that would meet it."""
    misfits = _misfits(space, fits, seed)
    if misfits:
        raise InputError("\n".join(f"tune.space: {misfit.why}" for misfit in misfits))


def without_misfits(
    settings: Mapping[str, Values | list[Values]], base: Mapping[str, Any], fits: Fits, seed: int
) -> tuple[dict[str, Values | list[Values]], list[str]]:
    """A space without the values that no trial could run with, and why each was left out."""
    kept: dict[str, Values | list[Values]] = dict(settings)
    left_out: list[str] = []
    # What waits for a value that is left out is seen by the next look.
    while misfits := _misfits(build_space(kept, base), fits, seed):
        left_out += [misfit.why for misfit in misfits]
        for name, given in settings.items():
            of_it = [m for m in misfits if m.name == name]
            if of_it:
                alternatives = given if isinstance(given, list) else [given]
                fitting = [
                    _fitting(v, [m.value for m in of_it if m.number == n]) for n, v in enumerate(alternatives)
                ]
                kept[name] = [v for v in fitting if v is not None]
        kept = {name: given for name, given in kept.items() if given != []}
        settings = kept
    return kept, left_out


def _fitting(values: Values, misfits: Sequence[Any]) -> Values | None:
    """An alternative without these values; None where nothing is left, or where an end of its range is among them."""
    if not misfits:
        return values
    choices = [v for v in values.choices or [] if v not in misfits]
    return values.model_copy(update={"choices": choices}) if choices else None


@dataclass(frozen=True)
class _Misfit:
    """A value of the `number`-th alternative of a setting that no trial could run with."""

    name: str
    number: int
    value: Any
    why: str


def _misfits(space: Space, fits: Fits, seed: int) -> list[_Misfit]:
    return [
        _Misfit(name, number, value, why)
        for name, alternatives in space.parameters.items()
        for number in range(len(alternatives))
        for value in values_to_try(alternatives[number])
        if (why := _problem(space, fits, name, number, value, seed)) is not None
    ]


def _problem(space: Space, fits: Fits, name: str, number: int, value: Any, seed: int) -> str | None:
    """Why no trial could run with a value of the `number`-th alternative of a setting; None where one could."""
    conditions = _conditions(space, name, number)
    if isinstance(conditions, str):
        return conditions
    first: tuple[str, Drawn] | None = None
    for attempt in range(_CONTEXTS):
        chooser = random.Random(f"{seed} {name} {number} {attempt}")  # noqa: S311  which contexts are tried, no secret
        drawn = _trial(
            space, fits, name, conditions, _chooses(conditions, chooser, first_of_all=attempt == 0)
        )
        why = fits(drawn | {name: value})
        if why is None:
            return None
        first = first or (why, drawn)
    assert first is not None
    why, drawn = first
    met = ", ".join(f"{key}={shown}" for key, shown in drawn.items()) or "the job's own settings"
    return f"no trial could run with {name}={value}: {why.rstrip('.')} (met with {met})."


def _trial(space: Space, fits: Fits, name: str, conditions: Mapping[str, Sequence[Any]], draw: Draw) -> Drawn:
    """What a trial draws before it comes to `name`."""
    drawn: Drawn = {}
    for other in space.parameters:
        if other == name:
            break
        options = space.options(other, drawn, fits)
        if options is not None:
            drawn[other] = draw(options)
    return drawn


def _chooses(conditions: Mapping[str, Sequence[Any]], chooser: random.Random, *, first_of_all: bool) -> Draw:
    def choose(options: Options) -> Any:
        wanted = conditions.get(options.label.partition(" ")[0])
        if not options.choices:
            share = 0.0 if first_of_all else chooser.random()
            return options.low + share * (options.high - options.low)
        fitting = [c for c in options.choices if wanted is None or c in wanted] or list(options.choices)
        return fitting[0] if first_of_all else chooser.choice(fitting)

    return choose


def _conditions(space: Space, name: str, number: int) -> dict[str, list[Any]] | str:
    """What other settings have to be so that this alternative is drawn; a sentence where they never are."""
    wanted: dict[str, list[Any]] = {}
    waiting = [(name, space.parameters[name][number].when)]
    rule = without_effect(name)
    while waiting:
        of, when = waiting.pop()
        for other, values in when.items():
            allowed = [v for v in as_list(values) if other not in wanted or v in wanted[other]]
            found = _sources(space, other, allowed)
            if not found:
                return (
                    f"{of} is to be drawn when {other} is {_words(as_list(values))}, which no trial has; "
                    "mend the `when`, or add that value."
                )
            wanted[other] = [v for v, _ in found]
            waiting += [(other, alternative) for _, alternative in found[:1] if alternative]
    if rule is not None and not _has_effect(space, rule):
        return (
            f"{name} changes nothing where {rule[0]} is {_words(rule[1])}, and no trial has another; leave it out, or "
            f"search {rule[0]} too."
        )
    return wanted


def _sources(space: Space, name: str, values: Sequence[Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Those of the values that a trial can have of a setting, each with what that asks of others."""
    if name not in space.parameters:
        return [(v, {}) for v in values if space.base.get(name) == v]
    return [
        (v, dict(alternative.when))
        for v in values
        for alternative in space.parameters[name]
        if v in values_to_try(alternative) or (alternative.choices is None and _within(v, alternative))
    ]


def _within(value: Any, values: Any) -> bool:
    return isinstance(value, (int, float)) and values.low <= value <= values.high


def _has_effect(space: Space, rule: tuple[str, tuple[Any, ...]]) -> bool:
    other, without = rule
    if other not in space.parameters:
        return space.base.get(other) not in without
    return any(v not in without for values in space.parameters[other] for v in values_to_try(values))


def _words(values: Sequence[Any]) -> str:
    return " or ".join(map(str, values))
