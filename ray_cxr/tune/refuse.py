"""Refuses a space that has something in it which no trial could run with, before anything starts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
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
"""So many other settings of a trial, drawn at random, are tried with a value before each value of theirs is."""
_WAYS = 64
"""Of the ways in which a `when` can be met so many are tried."""
_BETWEEN = 0.381966
"""A place in a range that no round ends make a whole number."""
_Wanted = dict[str, list[Any]]
"""Setting → the values that it is to have."""


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
        raise InputError("\n".join(dict.fromkeys(f"tune.space: {misfit.why}" for misfit in misfits)))


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
    found: list[_Misfit] = []
    for name, alternatives in space.parameters.items():
        for number, values in enumerate(alternatives):
            problems = [(v, _problem(space, fits, name, number, v, seed)) for v in values_to_try(values)]
            misfits = [_Misfit(name, number, value, why) for value, why in problems if why is not None]
            if not misfits and values.choices is None and not values.int:
                misfits = _inside(space, fits, name, number, seed)
            found += misfits
    return found


def _inside(space: Space, fits: Fits, name: str, number: int, seed: int) -> list[_Misfit]:
    """What is wrong with a range whose ends a trial could run with, and a number between them none could."""
    values = space.parameters[name][number]
    assert values.low is not None
    assert values.high is not None
    between = values.low + _BETWEEN * (values.high - values.low)
    why = _problem(space, fits, name, number, between, seed)
    if why is not None and "integer" in why:
        why = f"{name} has whole numbers only; add int: true to its range from {values.low:g} to {values.high:g}."
    return [] if why is None else [_Misfit(name, number, between, why)]


def _problem(space: Space, fits: Fits, name: str, number: int, value: Any, seed: int) -> str | None:
    """Why no trial could run with a value of the `number`-th alternative of a setting; None where one could."""
    conditions = _conditions(space, name, number)
    if isinstance(conditions, str):
        return conditions
    first: tuple[str, Drawn] | None = None
    for attempt, wanted in enumerate(_contexts(space, name, conditions)):
        chooser = random.Random(f"{seed} {name} {number} {attempt}")  # noqa: S311  which contexts are tried, no secret
        drawn = _trial(space, fits, name, _chooses(wanted, chooser, first_of_all=attempt == 0))
        if not _met(space, drawn, wanted):
            continue
        why = fits(drawn | {name: value})
        if why is None:
            return None
        first = first or (why, drawn)
    if first is None:
        return f"no trial comes to {name}={value}, since what its `when` asks for cannot be together; mend the `when`."
    why, drawn = first
    met = ", ".join(f"{key}={shown}" for key, shown in drawn.items()) or "the job's own settings"
    return f"no trial could run with {name}={value}: {why.rstrip('.')} (met with {met})."


def _contexts(space: Space, name: str, conditions: Sequence[_Wanted]) -> Iterator[_Wanted]:
    """What other settings are to be, each time a value is tried: as chance has it, then each value of each once."""
    for attempt in range(max(_CONTEXTS, len(conditions))):
        yield conditions[attempt % len(conditions)]
    before = list(space.parameters)[: list(space.parameters).index(name)]
    for other in before:
        for value in (v for values in space.parameters[other] for v in values_to_try(values)):
            for wanted in conditions:
                if value in wanted.get(other, [value]):
                    yield wanted | {other: [value]}
                    break


def _met(space: Space, drawn: Drawn, wanted: _Wanted) -> bool:
    """Whether a trial has drawn what it was to; a range is not looked at, since what it gives is no choice."""
    return all(
        drawn[name] in values
        for name, values in wanted.items()
        if name in drawn and all(v.choices is not None for v in space.parameters[name])
    )


def _trial(space: Space, fits: Fits, name: str, draw: Draw) -> Drawn:
    """What a trial draws before it comes to `name`."""
    drawn: Drawn = {}
    for other in space.parameters:
        if other == name:
            break
        options = space.options(other, drawn, fits)
        if options is not None:
            drawn[other] = draw(options)
    return drawn


def _chooses(conditions: _Wanted, chooser: random.Random, *, first_of_all: bool) -> Draw:
    def choose(options: Options) -> Any:
        wanted = conditions.get(options.label.partition(" ")[0])
        if not options.choices:
            share = 0.0 if first_of_all else chooser.random()
            return options.low + share * (options.high - options.low)
        fitting = [c for c in options.choices if wanted is None or c in wanted] or list(options.choices)
        return fitting[0] if first_of_all else chooser.choice(fitting)

    return choose


def _conditions(space: Space, name: str, number: int) -> list[_Wanted] | str:
    """What other settings have to be so that this alternative is drawn, each way once; a sentence where they never are."""
    rule = without_effect(name)
    if rule is not None and not _has_effect(space, rule):
        return (
            f"{name} changes nothing where {rule[0]} is {_words(rule[1])}, and no trial has another; leave it out, or "
            f"search {rule[0]} too."
        )
    never: list[str] = []
    asked = [(name, other, as_list(values)) for other, values in space.parameters[name][number].when.items()]
    return list(islice(_ways(space, asked, {}, never), _WAYS)) or never[0]


def _ways(
    space: Space, asked: Sequence[tuple[str, str, list[Any]]], wanted: _Wanted, never: list[str]
) -> Iterator[_Wanted]:
    """What others have to be for all that is asked for (by whom, of whom, which values). never: takes sentences of what cannot be."""
    if not asked:
        yield wanted
        return
    of, other, values = asked[0]
    found = _sources(space, other, [v for v in values if other not in wanted or v in wanted[other]])
    if not found:
        never.append(
            f"{of} is to be drawn when {other} is {_words(values)}, which no trial has; mend the `when`, or add that value."
        )
    for value, when in found:
        more = [(other, further, as_list(those)) for further, those in when.items()]
        yield from _ways(space, [*more, *asked[1:]], wanted | {other: [value]}, never)


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
