"""Resampling against imbalance: how often each training film comes in an epoch. Pure: no files, no Ray.

Decided from the index before anything is decoded, so that the counts are exact and the length of an epoch is known.
A pool of films gets a number of draws an epoch, spread evenly: each of its films the same number of times, and what
is left over to films that change from epoch to epoch. Class-aware sampling is Shen, Lin and Huang's (Relay
backpropagation, ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.axes import Labels, Rows
from ray_cxr.errors import InputError
from ray_cxr.stream.settings import ANY, StreamSettings

Counts = NDArray[np.int64]
_MEAN_EPOCHS = 50


@dataclass(frozen=True)
class Pool:
    """Films that share `draws` draws an epoch; `films` are positions in the split's layout."""

    films: Rows
    draws: int


@dataclass(frozen=True)
class Resampling:
    """How often each of N films comes, epoch by epoch: a function of (seed, fingerprint, epoch) alone.

    patient [N]: number of each film's patient. max_per_patient: no patient's films come more often than this in an
    epoch; what that cuts off is not made up by others.
    """

    pools: list[Pool]
    patient: Rows
    max_per_patient: int | None
    seed: int
    fingerprint: str

    def multiplicity(self, epoch: int) -> Counts:
        """[N] int64: times that each film comes in this epoch (from 1)."""
        counts = np.zeros(len(self.patient), np.int64)
        for number, pool in enumerate(self.pools):
            key = [self.seed, int(self.fingerprint[:16], 16), number]
            counts[pool.films] += _spread(len(pool.films), pool.draws, key, epoch)
        if self.max_per_patient is None:
            return counts
        key = [self.seed, int(self.fingerprint[:16], 16), len(self.pools), epoch]
        turn = np.random.default_rng(key).permutation(len(counts))
        return _capped(counts, self.patient, self.max_per_patient, turn)

    def expected(self) -> NDArray[np.float64]:
        """[N] float64: the mean of `multiplicity` over epochs, by which the loss is weighted.

        Under `max_per_patient` over the first 50 epochs: what a cap takes from whom has no formula.
        """
        if self.max_per_patient is not None:
            epochs = range(1, _MEAN_EPOCHS + 1)
            return np.asarray(np.mean([self.multiplicity(epoch) for epoch in epochs], axis=0))
        mean = np.zeros(len(self.patient))
        for pool in self.pools:
            mean[pool.films] += pool.draws / len(pool.films)
        return mean


def plan_resampling(
    labels: Labels,
    patient_ids: Sequence[str] | pd.Series[str],
    findings: Sequence[str],
    settings: StreamSettings,
    seed: int,
    fingerprint: str,
) -> Resampling | None:
    """The resampling of a split from its labels [N, F] and patients [N]; None where every film comes once.

    With `max_per_patient` alone every film comes once, but for those of a patient that has more of them.

    InputError where the target is unknown or has films of one class only.
    """  # fmt: skip
    if settings.resampling == "none":
        if settings.max_per_patient is None:
            return None
        pools = [Pool(np.arange(len(labels)), len(labels))]
    elif settings.resampling == "class_aware":
        pools = _class_aware(labels, settings.resampling_strength)
    else:
        present, absent, unlabelled = _by_target(labels, findings, settings.target)
        make = {"oversample": _oversample, "undersample": _undersample, "balanced": _balanced}
        pools = make[settings.resampling](present, absent, unlabelled, settings.resampling_strength)
    patient = pd.factorize(pd.Series(patient_ids))[0].astype(np.int64)
    return Resampling(
        [p for p in pools if len(p.films)], patient, settings.max_per_patient, seed, fingerprint
    )


def exposure(
    labels: Labels, patient_ids: Sequence[str] | pd.Series[str], findings: Sequence[str], multiplicity: Counts
) -> dict[str, dict[str, Any]]:
    """What an epoch shows of each finding: positives and negatives seen, and how many distinct films and patients.

    `films` and `patients` count those with the finding; a film seen three times is three positives and one film.
    """
    patient, patients = pd.factorize(pd.Series(patient_ids))
    table = {}
    for i, finding in enumerate(findings):
        positive, negative = labels[:, i] == 1, labels[:, i] == 0
        seen = positive & (multiplicity > 0)
        table[finding] = {
            "positives": int(multiplicity[positive].sum()),
            "negatives": int(multiplicity[negative].sum()),
            "films": int(seen.sum()),
            "patients": int((np.bincount(patient[seen], minlength=len(patients)) > 0).sum()),
        }
    return table


def _by_target(labels: Labels, findings: Sequence[str], target: str) -> tuple[Rows, Rows, Rows]:
    """Positions of films with the target, without it, and not labelled for it."""
    if target == ANY:
        present = (labels == 1).any(1)
        known = ~np.isnan(labels).all(1)
    elif target in findings:
        column = labels[:, list(findings).index(target)]
        present, known = column == 1, ~np.isnan(column)
    else:
        raise InputError(
            f"stream.target: got {target!r}, which is not among the findings ({', '.join(findings)}); use one of "
            f"them, or {ANY}."
        )
    absent = known & ~present
    for what, films in (("with", present), ("without", absent)):
        if not films.any():
            raise InputError(
                f"stream.target: no training film {what} {target} is there to resample; use another target, or "
                "stream.resampling=none."
            )
    return np.flatnonzero(present), np.flatnonzero(absent), np.flatnonzero(~known)


def _oversample(present: Rows, absent: Rows, unlabelled: Rows, strength: float) -> list[Pool]:
    few, many = sorted((present, absent), key=len)
    draws = len(few) + round(strength * (len(many) - len(few)))
    return [Pool(few, draws), Pool(many, len(many)), Pool(unlabelled, len(unlabelled))]


def _undersample(present: Rows, absent: Rows, unlabelled: Rows, strength: float) -> list[Pool]:
    few, many = sorted((present, absent), key=len)
    draws = len(many) - round(strength * (len(many) - len(few)))
    return [Pool(few, len(few)), Pool(many, draws), Pool(unlabelled, len(unlabelled))]


def _balanced(present: Rows, absent: Rows, unlabelled: Rows, strength: float) -> list[Pool]:
    """Half and half, as many draws as films are labelled; the others cannot belong to a half and stay out."""
    films = len(present) + len(absent)
    return [Pool(present, films // 2), Pool(absent, films // 2)]


def _class_aware(labels: Labels, strength: float) -> list[Pool]:
    """A pool per finding, and one of films with no known finding, else no healthy film would ever be seen.

    At strength 1 each gets as many draws as the most frequent finding has films, at 0 as many as it has itself.
    """
    known = ~np.isnan(labels).all(1)
    pools = [np.flatnonzero(labels[:, i] == 1) for i in range(labels.shape[1])]
    most = max(map(len, pools))
    if most == 0:
        raise InputError("stream.resampling: class_aware needs positive training films; use none.")
    pools.append(np.flatnonzero(known & ~(labels == 1).any(1)))
    return [Pool(p, round(len(p) ** (1 - strength) * most**strength)) for p in pools if len(p)]


def _spread(films: int, draws: int, key: list[int], epoch: int) -> Counts:
    """[films] counts that sum to `draws` and differ by at most one.

    Films with one draw more than others change with the epoch: within a cycle of epochs nobody is chosen twice.
    """
    each, left = divmod(draws, films)
    counts = np.full(films, each, np.int64)
    if left:
        cycle, turn = divmod(epoch - 1, films // left)
        order = np.random.default_rng([*key, cycle]).permutation(films)
        counts[order[turn * left : (turn + 1) * left]] += 1
    return counts


def _capped(counts: Counts, patient: Rows, most: int, turn: Rows) -> Counts:
    """The draws of each patient cut to `most`, taken evenly: second draws of a film go before first ones of another.

    turn [N]: which film of a patient comes first; another in each epoch, or some would never be seen.
    """
    film = np.repeat(np.arange(len(counts)), counts)
    copy = np.arange(len(film)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.lexsort((turn[film], copy, patient[film]))
    of_patient = patient[film][order]
    first = np.searchsorted(of_patient, of_patient, side="left")
    kept = film[order][np.arange(len(order)) - first < most]
    return np.bincount(kept, minlength=len(counts)).astype(np.int64)
