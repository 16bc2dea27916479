"""The space of a search: which settings a trial draws, from what values, in what order. Pure: knows no Optuna and no Ray.

Gives: a trial's settings, by a function that draws one value. A setting is drawn only where it applies (`when`, and where
it has any effect), and only from values that the job can take with what is drawn before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray_cxr.errors import InputError
from ray_cxr.tune.settings import Values

Drawn = dict[str, Any]
"""Dotted setting → value."""
Fits = Callable[[Drawn], str | None]
"""Why the job cannot run with these settings on top, or None where it can."""

_WITHOUT_EFFECT: dict[str, tuple[str, tuple[Any, ...]]] = {
    "stream.resampling_strength": ("stream.resampling", ("none", "balanced")),
    "stream.target": ("stream.resampling", ("none", "class_aware")),
    "stream.max_per_patient": ("stream.resampling", ("none",)),
    "stream.augmentation_strength": ("stream.augmentation", ("none",)),
    "train.head_learning_rate": ("model.freeze_depth", ("head",)),
    "train.layer_decay": ("model.freeze_depth", ("head",)),
}
"""Setting → the other setting, and its values with which the first changes nothing."""
_BEFORE = {
    "model.freeze_depth": ("model.backbone", "model.weights"),
    "model.weights": ("model.backbone",),
    "model.unfreeze": ("model.backbone", "model.weights", "model.freeze_depth", "train.epochs"),
    "stream.image_px": ("model.backbone",),
    "train.accumulate": ("stream.batch_size",),
    "train.warmup_epochs": ("train.epochs",),
}
"""Setting → those that say what it may be, so they are drawn first, unless they wait for it by a `when`."""
_LISTED_INTEGERS = 64
"""A range of no more whole numbers is looked at one by one."""


@dataclass(frozen=True)
class Options:
    """What a setting may be in one trial. label: its name for the sampler, which has one set of values for a name."""

    label: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False


Draw = Callable[[Options], Any]


@dataclass(frozen=True)
class Space:
    """The settings that are searched, each with its alternatives, in the order in which they are drawn."""

    parameters: Mapping[str, tuple[Values, ...]]
    base: Mapping[str, Any] = field(default_factory=dict)
    """The job's own settings, dotted."""

    def draw(self, draw: Draw, fits: Fits) -> Drawn:
        """A trial's settings. Those that do not apply are not in it."""
        drawn: Drawn = {}
        for name in self.parameters:
            options = self.options(name, drawn, fits)
            if options is not None:
                drawn[name] = draw(options)
        return drawn

    def options(self, name: str, drawn: Drawn, fits: Fits) -> Options | None:
        """What a setting may be after these; None where it does not apply, or the job could take none of its values."""
        values = self._alternative(name, drawn)
        if values is None:
            return None
        listed = _listed(values)
        if listed is None:
            ends = (values.low, values.high)
            fitting = all(fits(drawn | {name: _number(end, values)}) is None for end in ends)
            return self._range(name, values) if fitting else None
        possible = tuple(v for v in listed if fits(drawn | {name: v}) is None)
        if not possible:
            return None
        if len(possible) == len(listed):
            return (
                self._range(name, values) if values.choices is None else self._choice(name, possible, values)
            )
        return Options(f"{name} {_compact(possible)}", possible)

    def _alternative(self, name: str, drawn: Drawn) -> Values | None:
        context = {**self.base, **drawn}
        other, without = _WITHOUT_EFFECT.get(name, ("", ()))
        if context.get(other) in without:
            return None
        for values in self.parameters[name]:
            if all(context.get(key) in as_list(wanted) for key, wanted in values.when.items()):
                return values
        return None

    def _choice(self, name: str, possible: tuple[Any, ...], values: Values) -> Options:
        alone = len(self.parameters[name]) == 1
        return Options(name if alone else f"{name} {_compact(possible)}", possible)

    def _range(self, name: str, values: Values) -> Options:
        assert values.low is not None
        assert values.high is not None
        alone = len(self.parameters[name]) == 1
        label = name if alone else f"{name} {values.low:g} to {values.high:g}"
        return Options(label, (), values.low, values.high, values.log, values.int)


def build_space(settings: Mapping[str, Values | list[Values]], base: Mapping[str, Any]) -> Space:
    """The space of `tune.space`, ordered so that what a setting depends on is drawn before it.

    base: the job's own settings, dotted. Raises InputError where settings depend on each other in a circle.
    """
    alternatives = {
        name: tuple(values) if isinstance(values, list) else (values,) for name, values in settings.items()
    }
    ordered: dict[str, tuple[Values, ...]] = {}

    def place(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " → ".join([*path[path.index(name) :], name])
            raise InputError(
                f"tune.space: {circle} wait for each other by their `when`; leave one of them out."
            )
        if name not in ordered:
            for other in _waits_for(name, alternatives):
                place(other, (*path, name))
            for other in _better_after(name, alternatives):
                if not _comes_after(other, name, alternatives):
                    place(other, (*path, name))
            ordered[name] = alternatives[name]

    for name in alternatives:
        place(name, ())
    return Space(ordered, base)


Alternatives = Mapping[str, Sequence[Values]]


def _waits_for(name: str, space: Alternatives) -> list[str]:
    """The settings of the space that say whether this one is drawn."""
    asked = [key for values in space[name] for key in values.when]
    rule = [_WITHOUT_EFFECT[name][0]] if name in _WITHOUT_EFFECT else []
    return [other for other in [*asked, *rule] if other in space]


def _better_after(name: str, space: Alternatives) -> list[str]:
    """The settings of the space that say which values this one may have."""
    kind = ["loss.kind"] if name.startswith("loss.") and name != "loss.kind" else []
    return [other for other in [*_BEFORE.get(name, ()), *kind] if other in space]


def _comes_after(name: str, other: str, space: Alternatives) -> bool:
    """Whether a setting waits for another one, itself or by those that it waits for."""
    seen, waiting = set[str](), [name]
    while waiting:
        for found in _waits_for(waiting.pop(), space):
            if found == other:
                return True
            if found not in seen:
                seen.add(found)
                waiting.append(found)
    return False


def without_effect(name: str) -> tuple[str, tuple[Any, ...]] | None:
    """The other setting, and those of its values with which this one changes nothing."""
    return _WITHOUT_EFFECT.get(name)


def enumerate_space(space: Space, fits: Fits) -> Iterator[Drawn]:
    """Every combination, the last settings changing first. Raises InputError for a range, which has no end."""

    def extend(names: Sequence[str], drawn: Drawn) -> Iterator[Drawn]:
        if not names:
            yield drawn
            return
        options = space.options(names[0], drawn, fits)
        if options is None:
            yield from extend(names[1:], drawn)
            return
        for value in _all_values(options):
            yield from extend(names[1:], drawn | {names[0]: value})

    yield from extend(list(space.parameters), {})


def _all_values(options: Options) -> Sequence[Any]:
    if options.choices:
        return options.choices
    if options.integer and options.high - options.low < _LISTED_INTEGERS:
        return range(int(options.low), int(options.high) + 1)
    raise InputError(
        f"tune.sampler: grid tries every value, but {options.label} is a range; give its values as choices, or use tpe."
    )


def values_to_try(values: Values) -> list[Any]:
    """The values to look at before a search: all choices, or both ends of a range."""
    return list(_listed(values) or [_number(values.low, values), _number(values.high, values)])


def as_list(wanted: Any) -> list[Any]:
    """The values of a `when`."""
    return wanted if isinstance(wanted, list) else [wanted]


def _listed(values: Values) -> list[Any] | None:
    if values.choices is not None:
        return list(values.choices)
    assert values.low is not None
    assert values.high is not None
    if values.int and values.high - values.low < _LISTED_INTEGERS and not values.log:
        return list(range(int(values.low), int(values.high) + 1))
    return None


def _number(end: float | None, values: Values) -> Any:
    assert end is not None
    return int(end) if values.int else end


def _compact(choices: Sequence[Any]) -> str:
    return json.dumps(list(choices), separators=(",", ":"))
