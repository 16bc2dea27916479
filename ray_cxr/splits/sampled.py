"""Draws one set of patients: whole ones with equal chances, or with more positives than there are by nature.

Reads: a `Pool` and what is asked for. Gives: who is drawn, and with which probability. Pure: no files, no Ray.

Weights. A film of a set that was asked for positives is drawn with a probability p that is known beforehand. With the
weight 1/p the sum of w·y over the set's films estimates the sum of y over all films without bias (Horvitz & Thompson
1952, J. Am. Stat. Assoc. 47:663), and sum(w·y) / sum(w) the natural mean of y (Hájek's estimator, less noisy). First
patients are drawn, then films within them; the second probability depends on who was drawn, so the product is the
π*-estimator of two-phase sampling, which has no bias either (Särndal, Swensson & Wretman 1992, ch. 9). Only a draw that
misses a count by rounding is drawn again, which bends the probabilities by less than can be seen
(`tests/splits/test_weights.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ray_cxr.errors import InputError
from ray_cxr.splits.balance import balanced_sample, polish
from ray_cxr.splits.inclusion import AT_MOST, ROOM, Need, film_chances, possible, refuse_infeasible
from ray_cxr.splits.pool import Pool

_ATTEMPTS = 40
_ROUNDING_FILMS = 1


@dataclass(frozen=True)
class Draw:
    """One set drawn from a pool.

    patients [U], films [N] bool: films of drawn patients that are not drawn are left over. patient_chance [U],
    film_chance [N]: probabilities of being drawn, the second one given that the patient is; 1 where all are kept.
    """

    patients: NDArray[np.bool_]
    films: NDArray[np.bool_]
    patient_chance: NDArray[np.float64]
    film_chance: NDArray[np.float64]


def draw_patients(pool: Pool, films: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """[U] whole patients with about `films` films, as near as patients allow, and their share of every finding."""
    features = pool.features()
    total = float(features[:, 0].sum())
    order = _large_first(features[:, 0], rng)
    features = features[order]
    drawn = balanced_sample(np.full(len(order), min(films / total, 1.0)), features, rng)
    drawn = polish(drawn, features[:, :-1], features[:, :-1].sum(axis=0) * films / total)
    if not drawn.any():
        drawn[-1] = True
    patients = np.zeros(len(order), bool)
    patients[order[drawn]] = True
    return patients


def draw_films(pool: Pool, name: str, films: int, needs: Sequence[Need], rng: np.random.Generator) -> Draw:
    """Exactly `films` films that meet the needs: patients first, then films within them.

    Raises InputError with a table where that is not possible.
    """
    needs = sorted(needs, key=lambda n: int(n.films.sum()))  # rare ones are the last that rounding may touch
    at_most = max(AT_MOST, films / len(pool.patient))
    refuse_infeasible(name, films, needs, pool.patient, at_most)
    spare = _spare(pool, needs)
    for _ in range(_ATTEMPTS):
        chance = film_chances(
            np.ones(len(pool.patient)), _raised(needs, spare[1:]), films + spare[0], min(at_most * ROOM, 1.0)
        )
        if chance is None:  # there is not so much to spare
            spare = spare // 2
            continue
        draw = _attempt(pool, films, needs, chance, rng)
        if draw is not None:
            return draw
        spare = spare + spare // 2 + 1
    raise InputError(
        f"split.{name}: {films} films with the positives asked for could not be put together from whole patients; ask "
        "for more films or fewer positives.\n" + possible(name, films, needs, pool.patient, at_most)
    )


def _attempt(
    pool: Pool, films: int, needs: Sequence[Need], chance: NDArray[np.float64], rng: np.random.Generator
) -> Draw | None:
    """Patients by the chances [N] of their films, then exactly `films` of these; None where they do not suffice."""
    patient_chance = np.zeros(pool.patients)
    np.maximum.at(patient_chance, pool.patient, chance)
    drawn = _drawn_patients(pool, needs, chance, patient_chance, rng)
    there = np.flatnonzero(drawn[pool.patient])
    wished = [_of(n, there) for n in needs]
    base = (chance / patient_chance[pool.patient])[there]
    # Given who was drawn, the chances within patients are set so that the counts come out, one above for rounding.
    for above in (_ROUNDING_FILMS * (len(needs) > 1), 0):
        within = film_chances(base, _raised(wished, np.full(len(needs), above)), films, 1.0)
        if within is not None:
            break
    else:
        return None
    order = rng.permutation(len(there))
    natural = pool.features_per_film(_named(needs))[there] / patient_chance[pool.patient[there], None]
    features = np.column_stack([within, *(within * n.films for n in wished), natural])[order]
    taken = np.zeros(len(there), bool)
    taken[order] = balanced_sample(within[order], features, rng)
    if taken.sum() != films or any((taken & n.films).sum() < n.count for n in wished):
        return None
    kept, film_chance = np.zeros(len(pool.patient), bool), np.ones(len(pool.patient))
    kept[there], film_chance[there] = taken, within
    return Draw(drawn, kept, patient_chance, film_chance)


def _spare(pool: Pool, needs: Sequence[Need]) -> NDArray[np.int64]:
    """[1 + needs] films and positives that patients are drawn with more than asked for.

    As many as two patients' worth, so that a draw seldom has to be drawn again for having too few, which would favour
    patients with many.
    """
    worth = []
    for films in (np.ones(len(pool.patient), bool), *(n.films for n in needs)):
        each = np.bincount(pool.patient[films])
        worth.append(2 * np.sqrt(np.square(each[each > 0], dtype=np.float64).mean()) if films.any() else 0.0)
    return np.ceil(worth).astype(np.int64)


def _drawn_patients(
    pool: Pool, needs: Sequence[Need], chance: NDArray[np.float64], patient_chance: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:  # fmt: skip
    """[U] patients drawn with their chances, balanced on what each may give and on the natural counts."""
    given = np.column_stack([np.ones(len(chance)), *(n.films for n in needs)]) * chance[:, None]
    features = np.column_stack([pool.sums(given), pool.features(_named(needs))])
    order = _large_first(features[:, 0], rng)
    patients = np.zeros(pool.patients, bool)
    patients[order[balanced_sample(patient_chance[order], features[order], rng)]] = True
    return patients


def _large_first(size: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    shuffled = rng.permutation(len(size))
    return shuffled[np.argsort(-size[shuffled], kind="stable")]


def _raised(needs: Sequence[Need], by: NDArray[np.int64]) -> list[Need]:
    return [replace(n, count=n.count + int(more)) for n, more in zip(needs, by, strict=True)]


def _of(need: Need, films: NDArray[np.int64]) -> Need:
    return replace(need, films=need.films[films])


def _named(needs: Sequence[Need]) -> list[int]:
    """Findings that a need speaks of: balanced by that already."""
    return [n.finding for n in needs if n.finding is not None]
