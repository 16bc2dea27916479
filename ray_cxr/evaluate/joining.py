"""Joins two tables by the names of films or studies, and refuses what does not fit. Pure.

Nothing is joined in silence: ids that are blank, double or without a partner are errors with their number, the rows of the
first few, and the form of the ids on both sides. A row is named by its number in its table, the first row of data (below the
header) being data row 1; an id could be a patient, so none is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError, count_text

_SHOWN = 5
_SUFFIX = re.compile(r"\.(png|jpe?g|dcm|dicom|tiff?|bmp|webp|npy)$", re.IGNORECASE)
_LONGEST_FORM = 60
_DEEPEST = 4


def _parts(text: str) -> list[str]:
    return text.replace("\\", "/").rstrip("/").split("/")


def _file_name(text: str) -> str:
    return _parts(text)[-1]


def _without_suffix(text: str) -> str:
    """Also without the .0 that a whole number gets in a column with blank cells."""
    return re.sub(r"^(\d+)\.0+$", r"\1", _SUFFIX.sub("", text))


def _last_parts(count: int) -> Callable[[str], str]:
    return lambda text: _without_suffix("/".join(_parts(text)[-count:]))


_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("ids as they stand", lambda text: text),
    ("ids without the suffix of a file", _without_suffix),
    *((f"the last {n} parts of paths, without suffix", _last_parts(n)) for n in range(_DEEPEST, 1, -1)),
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
    """The first few rows of a table, counted from 1 below the header."""
    shown = ", ".join(str(int(r) + 1) for r in rows[:_SHOWN])
    return f"data {'row' if len(rows) == 1 else 'rows'} {shown}{', …' if len(rows) > _SHOWN else ''}"


def column_text(column: str) -> str:
    """A column as messages call it; an index that was written without a name has none."""
    return f"column {column!r}" if column else "the column without a name"


def id_form(text: str) -> str:
    """What an id looks like without saying it: 9 for a digit, a for a letter; the suffix of a file stays."""
    suffix = _SUFFIX.search(text)
    stem, end = (text[: suffix.start()], suffix.group()) if suffix else (text, "")
    form = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", stem)) + end
    return form if len(form) <= _LONGEST_FORM else f"{form[:_LONGEST_FORM]}…"


def check_filled(ids: pd.Series, column: str, where: str) -> None:
    """Raises InputError where ids are blank."""
    blank = np.flatnonzero(ids.str.strip() == "")
    if len(blank):
        raise InputError(
            f"{where}: {column_text(column)} has {count_text(len(blank), 'blank cell')} among {len(ids):,} ({rows_text(blank)}); "
            "give each row the id of its film, or take the row out."
        )


def check_ids(ids: pd.Series, column: str, where: str) -> None:
    """Raises InputError where ids are blank or stand more than once."""
    check_filled(ids, column, where)
    again = np.flatnonzero(ids.duplicated())
    if len(again):
        both = np.flatnonzero(ids == ids.iloc[again[0]])
        raise InputError(
            f"{where}: {column_text(column)} repeats the id of an earlier row {count_text(len(again), 'time')} among {len(ids):,} rows "
            f"({rows_text(again)}; {rows_text(both)} are the same); keep one row per film."
        )


def join(
    left: pd.Series, right: pd.Series, left_name: str, right_name: str, same: pd.DataFrame | None = None
) -> Join:
    """For each id of the left its row on the right, by the strictest form of the ids under which all are found.

    An id may stand on the left several times (films of a study). The right table may hold more. same: columns of the right table which, where an id stands there several times, must
    agree (a study's films, with its labels); the first row is taken then. Raises InputError.
    """
    fewest: NDArray[np.int64] | None = None
    alike = 0
    for by, form in _FORMS:
        here, there = left.map(form), right.map(form)
        alike = left.nunique() - here.nunique()
        if alike:
            continue  # films would fall together
        found = _first_rows(here, there)
        missing = np.flatnonzero(found < 0)
        if not len(missing):
            _refuse_several(here, there, right_name, same)
            return Join(found, by)
        if fewest is None or len(missing) < len(fewest):
            fewest = missing
    assert fewest is not None
    lacks = f"{len(fewest):,} of the {len(left):,} films" if len(fewest) < len(left) else "every film"
    folders = f", and without folders {count_text(alike, 'id')} would repeat another" if alike else ""
    raise InputError(
        f"{left_name}: {right_name} lacks {lacks} ({rows_text(fewest)}); "
        f"{_forms_text(left.iloc[fewest], right, left_name, right_name)}, compared with and without folders and suffixes{folders}; "
        "give the table that holds them all, or take these rows out."
    )


def _forms_text(left: pd.Series, right: pd.Series, left_name: str, right_name: str) -> str:
    """The commonest form of the ids on either side."""
    here, there = (str(ids.map(id_form).value_counts().index[0]) for ids in (left, right))
    if here == there:
        return f"ids look like {here!r} on both sides (9 stands for a digit, a for a letter)"
    return f"ids look like {here!r} in {left_name} and {there!r} in {right_name} (9 stands for a digit, a for a letter)"


def shared_films(left: pd.Series, right: pd.Series) -> int:
    """How many films of the left are on the right, too, whatever the suffix; by file name where only one side has folders."""
    folders = [ids.str.contains(r"[/\\]").any() for ids in (left, right)]
    form = _without_suffix if folders[0] == folders[1] else lambda text: _without_suffix(_file_name(text))
    return int(left.map(form).isin(set(right.map(form))).sum())


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
        what = f"{count_text(again.nunique(), 'study has', 'studies have')} several rows that do not agree"
    else:
        what = (
            f"{count_text(again.nunique(), 'film asked for stands', 'films asked for stand')} in several rows"
        )
    raise InputError(f"{name}: {what} ({rows_text(again.index.to_numpy())}); keep one row for each.")
