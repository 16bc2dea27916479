"""How far readers agree: with each other, and with themselves. Pure.

Every figure is a function of sums over films, so a bootstrap draw is another set of sums (`Draws.sums`).
Cohen's kappa: Cohen, Educational and Psychological Measurement 20 (1960) 37. Fleiss' kappa: Fleiss, Psychological
Bulletin 76 (1971) 378. Krippendorff's alpha, nominal: Hayes and Krippendorff, Communication Methods and Measures 1 (2007)
77. Specific agreement: Cicchetti and Feinstein, Journal of Clinical Epidemiology 43 (1990) 551.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Labels
from ray_cxr.bootstrap import Draws, Floats, interval
from ray_cxr.evaluate.consensus import Answers

Figure = dict[str, Any]
"""`value` (None = not measurable), `interval` ([low, high] of 95 %, or None), `films`."""

_MOST_PAIRS_WITH_INTERVAL = 66
"""Pairs of 12 readers: beyond that nobody reads an interval for each pair."""


def agreement(votes: Labels, draws: Draws) -> dict[str, Any]:
    """Agreement on one finding from votes [N, R] (1, 0, NaN = none); intervals by the draws.

    Gives figures `observed` (share of pairs of votes on a film that agree), `positive` (share of agreeing pairs among
    those with a yes, counted from both sides), `fleiss` (over the films with the commonest number of votes: `votes`),
    `krippendorff` (all films with two votes or more), `mean_cohen` (over pairs that have one), and `pairs`.
    """
    yes = (votes == 1).sum(axis=1).astype(np.float64)
    cast = (~np.isnan(votes)).sum(axis=1).astype(np.float64)
    common = _commonest(cast)
    pairs = _pairs(votes, draws)
    kappas = [p["kappa"]["value"] for p in pairs if p["kappa"]["value"] is not None]
    return {
        "observed": _figure(_observed, _pair_sums(yes, cast), draws, int((cast > 1).sum())),
        "positive": _figure(_positive, _pair_sums(yes, cast), draws, int((cast > 1).sum())),
        "fleiss": _figure(_fleiss, _fleiss_sums(yes, cast, common), draws, int((cast == common).sum()) if common else 0)
        | {"votes": common},
        "krippendorff": _figure(_krippendorff, _krippendorff_sums(yes, cast), draws, int((cast > 1).sum())),
        "mean_cohen": {"value": float(np.mean(kappas)) if kappas else None, "pairs": len(kappas)},
        "pairs": pairs,
    }  # fmt: skip


def cohen_kappa(sums: Floats) -> Floats:
    """Cohen's kappa [...] from counts [..., 4] of films (both yes, first only, second only, both no); NaN where chance is all."""
    both, first, second, neither = np.moveaxis(sums, -1, 0)
    films = both + first + second + neither
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (both + neither) / films
        chance = ((both + first) * (both + second) + (neither + second) * (neither + first)) / films**2
        return np.asarray(np.where(chance < 1, (observed - chance) / (1 - chance), np.nan))


def self_agreement(twice: NDArray[np.int64], same: NDArray[np.int64]) -> dict[str, int | float | None]:
    """A finding's repeated readings [R] and those of them with the same answer [R], over all readers."""
    films = int(twice.sum())
    return {
        "read_twice": films,
        "same_answer": int(same.sum()),
        "share": int(same.sum()) / films if films else None,
    }


def _pairs(votes: Labels, draws: Draws) -> list[dict[str, Any]]:
    """Cohen's kappa of every two readers with a film in common; `first` and `second` are numbers of readers."""
    readers = votes.shape[1]
    first, second = np.triu_indices(readers, 1)
    table = _cohen_sums(votes[:, first], votes[:, second])
    counts = table.sum(axis=0)
    values = cohen_kappa(counts)
    with_interval = len(first) <= _MOST_PAIRS_WITH_INTERVAL
    found = []
    for number in np.flatnonzero(counts.sum(axis=1)):
        spread = interval(cohen_kappa(draws.sums(table[:, number]))) if with_interval else None
        figure = _as_figure(values[number], spread, int(counts[number].sum()))
        found.append({"first": int(first[number]), "second": int(second[number]), "kappa": figure})
    return found


def _cohen_sums(first: Answers, second: Answers) -> Floats:
    cells = [(first == a) & (second == b) for a, b in ((1, 1), (1, 0), (0, 1), (0, 0))]
    return np.stack(cells, axis=-1).astype(np.float64)


def _pair_sums(yes: Floats, cast: Floats) -> Floats:
    """[N, 3] per film: ordered pairs of votes that are both yes, one of each, both no."""
    no = cast - yes
    return np.stack([yes * (yes - 1), 2 * yes * no, no * (no - 1)], axis=1)


def _observed(sums: Floats) -> Floats:
    yes, apart, no = np.moveaxis(sums, -1, 0)
    return np.asarray((yes + no) / (yes + apart + no))


def _positive(sums: Floats) -> Floats:
    yes, apart, _ = np.moveaxis(sums, -1, 0)
    return np.asarray(yes / (yes + apart / 2))


def _fleiss_sums(yes: Floats, cast: Floats, common: int) -> Floats:
    """[N, 4]: whether the film has the commonest number of votes; then its agreement, its yes and its votes."""
    used = (cast == common) & (common > 1)
    no = cast - yes
    agree = np.divide(yes * (yes - 1) + no * (no - 1), cast * (cast - 1), out=np.zeros_like(yes), where=used)
    return np.stack([used, agree, np.where(used, yes, 0), np.where(used, cast, 0)], axis=1).astype(np.float64)


def _fleiss(sums: Floats) -> Floats:
    films, agree, yes, cast = np.moveaxis(sums, -1, 0)
    share = yes / cast
    chance = share**2 + (1 - share) ** 2
    return np.asarray(np.where(chance < 1, (agree / films - chance) / (1 - chance), np.nan))


def _krippendorff_sums(yes: Floats, cast: Floats) -> Floats:
    """[N, 3] of films with two votes or more: disagreeing pairs over votes - 1, yes, no."""
    used = cast > 1
    no = cast - yes
    apart = np.divide(yes * no, cast - 1, out=np.zeros_like(yes), where=used)
    return np.stack([apart, np.where(used, yes, 0), np.where(used, no, 0)], axis=1)


def _krippendorff(sums: Floats) -> Floats:
    apart, yes, no = np.moveaxis(sums, -1, 0)
    return np.asarray(1 - (yes + no - 1) * apart / (yes * no))


def _commonest(cast: Floats) -> int:
    """The number of votes that most films have, of those with two or more; 0 where no film has."""
    numbers, films = np.unique(cast[cast > 1], return_counts=True)
    return int(numbers[films.argmax()]) if len(numbers) else 0


def _figure(statistic: Callable[[Floats], Floats], table: Floats, draws: Draws, films: int) -> Figure:
    with np.errstate(invalid="ignore", divide="ignore"):
        value, spread = statistic(table.sum(axis=0)), interval(statistic(draws.sums(table)))
    return _as_figure(value, spread, films)


def _as_figure(value: Floats, spread: tuple[float, float] | None, films: int) -> Figure:
    known = bool(np.isfinite(value))
    return {
        "value": float(value) if known else None,
        "interval": list(spread) if known and spread else None,
        "films": films,
    }
