"""Joins two tables by the names of films or studies, and refuses what does not fit. Pure.

Nothing is joined in silence: ids that are blank, double or without a partner are errors with their number and the rows
of the first few. A row is named by its number in its table, the first row of data being row 1; an id could be a patient.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError

_SHOWN = 5
_SUFFIX = re.compile(r"\.(png|jpe?g|dcm|dicom|tiff?|bmp)$", re.IGNORECASE)


def _file_name(text: str) -> str:
    return text.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _without_suffix(text: str) -> str:
    return _SUFFIX.sub("", text)


_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("ids as they stand", lambda text: text),
    ("ids without the suffix of a file", _without_suffix),
    ("file names without their folders", _file_name),
    ("file names without folders and suffix", lambda text: _without_suffix(_file_name(text))),
)
"""What of an id is compared, strictest first."""


@dataclass(frozen=True)
class Join:
    """rows: [N] for each left row its row in the right table. by: what of the ids was compared, in words."""

    rows: NDArray[np.int64]
    by: str


def rows_text(rows: Sequence[int] | NDArray[np.int64]) -> str:
    """The first few rows of a table, counted from 1."""
    shown = ", ".join(str(int(r) + 1) for r in rows[:_SHOWN])
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}{', …' if len(rows) > _SHOWN else ''}"


def check_ids(ids: pd.Series, column: str, where: str) -> None:
    """Raises InputError where ids are blank or stand more than once."""
    blank = np.flatnonzero(ids.str.strip() == "")
    if len(blank):
        raise InputError(
            f"{where}: {len(blank)} of {len(ids)} cells of column {column!r} are blank ({rows_text(blank)}); give each row "
            "the id of its film, or take the row out."
        )
    again = np.flatnonzero(ids.duplicated())
    if len(again):
        both = np.flatnonzero(ids == ids.iloc[again[0]])
        raise InputError(
            f"{where}: {len(again)} of {len(ids)} ids in column {column!r} repeat an earlier row ({rows_text(again)}; "
            f"{rows_text(both)} are the same); keep one row per film."
        )


def join(
    left: pd.Series, right: pd.Series, left_name: str, right_name: str, same: pd.DataFrame | None = None
) -> Join:
    """For each id of the left its row on the right, by the strictest form of the ids under which all are found.

    The right table may hold more. same: columns of the right table which, where an id stands there several times, must
    agree (a study's films, with its labels); the first row is taken then. Raises InputError.
    """
    fewest: NDArray[np.int64] | None = None
    for by, form in _FORMS:
        here, there = left.map(form), right.map(form)
        if here.duplicated().any():
            continue  # films would fall together
        found = _first_rows(here, there)
        missing = np.flatnonzero(found < 0)
        if not len(missing):
            _refuse_several(here, there, right_name, same)
            return Join(found, by)
        if fewest is None or len(missing) < len(fewest):
            fewest = missing
    assert fewest is not None
    none = " (none is)" if len(fewest) == len(left) else ""
    raise InputError(
        f"{left_name}: {len(fewest)} of {len(left)} films are not in {right_name}{none} ({rows_text(fewest)}); give the table "
        "that holds them all, or take these rows out. Ids are compared with and without folders and suffixes."
    )


def overlap(left: pd.Series, right: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of two tables with the same id: of the left, and of the right. By the strictest form under which most are found.

    For tables that are samples of each other, such as readers' of a test's films; the caller says how many are left out.
    """
    best = np.empty(0, np.int64), np.empty(0, np.int64)
    for _, form in _FORMS:
        here, there = left.map(form), right.map(form)
        if here.duplicated().any() or there.duplicated().any():
            continue  # films would fall together
        found = _first_rows(here, there)
        rows = np.flatnonzero(found >= 0)
        if len(rows) > len(best[0]):
            best = rows, found[rows]
    return best


def _first_rows(here: pd.Series, there: pd.Series) -> NDArray[np.int64]:
    """[N] the first row with each id; -1 where there is none."""
    first = pd.Series(np.arange(len(there)), index=there.to_numpy(object))
    first = first[~first.index.duplicated()]
    return first.reindex(here.to_numpy(object)).fillna(-1).to_numpy(np.int64)


def _refuse_several(here: pd.Series, there: pd.Series, name: str, same: pd.DataFrame | None) -> None:
    wanted = there[there.isin(set(here))]
    again = wanted[wanted.duplicated(keep=False)]
    if not len(again):
        return
    if same is not None:
        groups = same.loc[again.index].assign(_id=again)
        if len(groups.drop_duplicates()) == again.nunique():
            return
        what = f"{again.nunique()} studies have several rows which do not agree"
    else:
        what = f"{again.nunique()} of the ids asked for stand more than once"
    raise InputError(f"{name}: {what} ({rows_text(again.index.to_numpy())}); keep one row for each.")
