"""Patients and films that several sets share, whatever the sets are called. Pure.

The check of `splits/leak.py` is for the splits of a data set, and refuses; here anybody's division is looked at.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Overlap:
    """Sets held against each other. patients: of all sets together; pairs: "a and b" → shared patients.

    same_films: films whose pixels are those of a film in another set; None = not known before `prepare`.
    """

    sets: dict[str, int]
    patients: int
    shared_patients: int
    pairs: dict[str, int]
    same_films: int | None

    @property
    def clean(self) -> bool:
        return self.shared_patients == 0

    def as_dict(self) -> dict[str, Any]:
        """For explore.json."""
        return asdict(self) | {"clean": self.clean}


def overlap(frame: pd.DataFrame, column: str, leave_out: tuple[str, ...] = ("", "unused")) -> Overlap | None:
    """Holds the sets that a column names against each other; None where it names fewer than two."""
    if column not in frame:
        return None
    there = frame[frame[column].notna() & ~frame[column].isin(leave_out)]
    names = list(dict.fromkeys(there[column]))
    if len(names) < 2:
        return None
    patients = {str(n): set(there.loc[there[column] == n, "patient_id"]) for n in sorted(names, key=_order)}
    sets_per_patient = there.groupby("patient_id")[column].nunique()
    return Overlap(
        sets={name: len(ids) for name, ids in patients.items()},
        patients=len(sets_per_patient),
        shared_patients=int((sets_per_patient > 1).sum()),
        pairs={f"{a} and {b}": len(patients[a] & patients[b]) for a, b in combinations(patients, 2)},
        same_films=_same_films(there, column),
    )


def _order(name: object) -> tuple[int, str]:
    known = ("train", "validation", "test")
    return (known.index(name) if name in known else len(known), str(name))


def _same_films(there: pd.DataFrame, column: str) -> int | None:
    if "pixel_sha256" not in there:
        return None
    sets = there.groupby("pixel_sha256")[column].transform("nunique")
    return int((sets > 1).sum())
