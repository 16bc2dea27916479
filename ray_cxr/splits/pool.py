"""The films that may still be drawn, as numbers: which patient each belongs to, and its findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ray_cxr.axes import Labels


@dataclass(frozen=True)
class Pool:
    """Films in a fixed order. patient [N]: number 0..U-1. labels [N, F] float32: 0, 1, NaN = not labelled."""

    patient: NDArray[np.int64]
    labels: Labels

    @property
    def patients(self) -> int:
        return int(self.patient.max(initial=-1)) + 1

    @property
    def positive(self) -> NDArray[np.bool_]:
        """[N, F]."""
        found: NDArray[np.bool_] = self.labels == 1
        return found

    def films_of(self) -> NDArray[np.int64]:
        """[U] number of films."""
        return np.bincount(self.patient, minlength=self.patients)

    def chosen(self, films: NDArray[np.bool_]) -> Pool:
        """The pool of some films ([N] bool), its patients numbered anew."""
        patient = np.unique(self.patient[films], return_inverse=True)[1]
        return Pool(patient.astype(np.int64), self.labels[films])

    def sums(self, per_film: NDArray[np.float64]) -> NDArray[np.float64]:
        """[U, K] sums over each patient's films of [N, K]."""
        columns = [np.bincount(self.patient, column, self.patients) for column in per_film.T]
        return np.stack(columns, axis=1)

    def features_per_film(self, without: Sequence[int] = ()) -> NDArray[np.float64]:
        """[N, P] what a drawn set shall have its share of, by importance: films, positives (rare ones first), labelled.

        Labelled films count only for findings that not every film is labelled for. without: findings left out.
        """
        kept = [f for f in range(self.labels.shape[1]) if f not in without]
        positive = self.positive[:, kept]
        positive = positive[:, np.argsort(positive.sum(axis=0), kind="stable")]
        labelled = ~np.isnan(self.labels)
        partly = {column.tobytes(): column for column in labelled.T if not column.all()}
        columns = [np.ones(len(self.patient)), *positive.T, *partly.values()]
        return np.stack(columns, axis=1).astype(np.float64)

    def features(self, without: Sequence[int] = ()) -> NDArray[np.float64]:
        """[U, P + 1] the same, summed over each patient; the last column is 1 and stands for the patients."""
        return np.column_stack([self.sums(self.features_per_film(without)), np.ones(self.patients)])


def patient_numbers(patient_ids: pd.Series, pixel_hashes: pd.Series | None) -> tuple[NDArray[np.int64], int]:
    """[N] number of each film's patient, and how many patients share a film with another one.

    Patients with pixel-identical films are the same person, or one film stands under a wrong name: they count as one,
    so that no set drawn here holds a film of another set. pixel_hashes None: films are not known yet.
    """
    ids, own = np.unique(patient_ids.to_numpy(object).astype(str), return_inverse=True)
    if pixel_hashes is None:
        return own.astype(np.int64), 0
    film = pd.factorize(pixel_hashes)[0]
    size = len(ids) + int(film.max()) + 1
    links = coo_matrix((np.ones(len(own)), (own, film + len(ids))), shape=(size, size))
    parts = connected_components(links, directed=False)[1][: len(ids)]
    together = np.bincount(parts)[parts] > 1
    return np.unique(parts, return_inverse=True)[1][own].astype(np.int64), int(together.sum())
