"""Deals films out to test, validation and training, and to folds, whatever the method.

Reads: the label table (with film hashes, once they are known), settings, lists. Gives: `Dealt`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError
from ray_cxr.splits.folds import deal_folds
from ray_cxr.splits.given import by_column, by_lists
from ray_cxr.splits.inclusion import Need
from ray_cxr.splits.lists import Lists
from ray_cxr.splits.pool import Pool, patient_numbers
from ray_cxr.splits.sampled import draw_films, draw_patients
from ray_cxr.splits.settings import SplitSettings

PROTOCOLS = {"sampled": "sampled", "official": "official", "lists": "custom", "column": "custom"}
_STREAMS = {"test": 0, "validation": 1, "folds": 2}
"""Each drawing has random numbers of its own, so that none depends on the size of another."""
_TO_DRAW = "to draw"


@dataclass
class Dealt:
    """Per film [N]: split ("train", "validation", "test", "unused"), fold (0.., -1 = none), weight (float64).

    weight: the inverse of the probability with which the film came into its set; 1 where all had the same chance or
    the set was given, NaN for unused films. notes: what a person should know, as sentences.
    """

    split: NDArray[np.object_]
    fold: NDArray[np.int64]
    weight: NDArray[np.float64]
    notes: list[str] = field(default_factory=list)


def deal(
    films: pd.DataFrame, findings: Sequence[str], settings: SplitSettings, seed: int, lists: Lists
) -> Dealt:
    """Deals out films (`image_id`, `patient_id`, the findings; `film_name`, `given_split`, `pixel_sha256` where needed).

    A pure function of its arguments, whatever the order of the rows. Raises InputError and RefusedError.
    """
    order = np.argsort(films["image_id"].to_numpy(str), kind="stable")
    ordered = films.iloc[order]
    hashes = ordered.get("pixel_sha256")
    patient, linked = patient_numbers(ordered["patient_id"], hashes)
    pool = Pool(patient, ordered[list(findings)].to_numpy(np.float32))
    dealt = Dealt(_given(ordered, settings, lists), np.full(len(films), -1), np.ones(len(films)))
    unused = int((dealt.split == "unused").sum())
    if unused:
        dealt.notes.append(f"{unused:,} of {len(films):,} films are in no set of the given split: unused")
    if linked:
        dealt.notes.append(
            f"{linked:,} patients share pixel-identical films with another one; what is drawn here keeps them together"
        )
    if settings.target not in ("any", *findings):
        raise InputError(
            f"split.target: got {settings.target!r}, but allowed are any, {', '.join(findings)}."
        )
    _draw(dealt, pool, findings, settings, seed)
    dealt.weight[dealt.split == "unused"] = np.nan
    if settings.folds is not None:
        inside = np.isin(dealt.split, ("train", "validation"))
        rng = np.random.default_rng([seed, _STREAMS["folds"]])
        dealt.fold[inside] = deal_folds(pool.chosen(inside), settings.folds, rng)
    back = np.argsort(order, kind="stable")
    return Dealt(dealt.split[back], dealt.fold[back], dealt.weight[back], dealt.notes)


def _given(films: pd.DataFrame, settings: SplitSettings, lists: Lists) -> NDArray[np.object_]:
    """[N] the sets that are given; _TO_DRAW for films whose set is drawn here."""
    if settings.method == "sampled":
        return np.full(len(films), _TO_DRAW, dtype=object)
    if settings.method == "column":
        given = by_column(films["given_split"], settings.words)
    else:
        given = by_lists(films["film_name"], lists)
    if "train_validation" in given:
        given[given == "train_validation"] = _TO_DRAW
    elif "validation" not in given:
        given[given == "train"] = _TO_DRAW
    return given


def _draw(dealt: Dealt, pool: Pool, findings: Sequence[str], settings: SplitSettings, seed: int) -> None:
    """Draws test, then validation, from the films to be drawn; the patients that remain are for training."""
    names = [n for n in ("test", "validation") if n not in dealt.split]
    used = int((dealt.split != "unused").sum())
    still_there = np.ones(len(pool.patient))
    """Probability that a film had not been drawn yet."""
    for name in names:
        left = np.flatnonzero(dealt.split == _TO_DRAW)
        size = getattr(settings, name)
        wanted = _films_asked_for(name, size, used)
        rest = pool.chosen(dealt.split == _TO_DRAW)
        rng = np.random.default_rng([seed, _STREAMS[name]])
        if wanted >= len(left):
            raise _nobody_left(name, size, pool)
        if settings.weighted:
            draw = draw_films(rest, name, wanted, _needs(wanted, rest, findings, settings), rng)
            patients, films, chance = draw.patients, draw.films, draw.patient_chance[rest.patient]
            dealt.weight[left[films]] = 1 / (still_there[left] * chance * draw.film_chance)[films]
            still_there[left] *= 1 - chance
        else:
            patients = draw_patients(rest, wanted, rng)
            films = patients[rest.patient]
        if patients.all():
            raise _nobody_left(name, size, pool)
        dealt.split[left[patients[rest.patient]]] = "unused"
        dealt.split[left[films]] = name
    rest_films = dealt.split == _TO_DRAW
    dealt.split[rest_films] = "train"
    dealt.weight[rest_films] = 1 / still_there[rest_films]


def _films_asked_for(name: str, size: float, films: int) -> int:
    """A size as a number of films: fractions are of all films in use."""
    wanted = round(size * films) if size < 1 else round(size)
    if wanted >= films:
        raise InputError(f"split.{name}: got {size:g} films, but there are only {films}; ask for less.")
    return max(wanted, 1)


def _nobody_left(name: str, size: float, pool: Pool) -> InputError:
    return InputError(
        f"split.{name}: {size:g} takes every patient that is left; there are {len(pool.patient)} films of "
        f"{pool.patients} patients, so ask for less."
    )


def _needs(size: int, pool: Pool, findings: Sequence[str], settings: SplitSettings) -> list[Need]:
    """What a set of `size` films is asked for: the floor of the target, and the least positives of each finding."""
    columns = dict(zip(findings, pool.positive.T, strict=True))
    needs: list[Need] = []
    if settings.min_positives is not None:
        for number, (finding, films) in enumerate(columns.items()):
            needs.append(Need(finding, films, settings.min_positives, "split.min_positives", number))
    if settings.minority_floor is not None:
        count = int(np.ceil(settings.minority_floor * size - 1e-9))
        if settings.target == "any":
            needs.append(Need("any finding", pool.positive.max(axis=1), count, "split.minority_floor"))
        else:
            number = list(findings).index(settings.target)
            needs.append(
                Need(settings.target, columns[settings.target], count, "split.minority_floor", number)
            )
    return needs
