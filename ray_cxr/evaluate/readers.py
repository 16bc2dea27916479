"""Reader tables: what people said about films, a row per reader and film, in one table or a file per reader.

Reads: CSV or Parquet, also .gz. Gives: `Readings`. Columns go by their names, in any order.

A reader who read a film twice counts once: equal answers collapse, contradictory ones become uncertain, an answer
beats none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError
from ray_cxr.evaluate.consensus import UNCERTAIN, Answers
from ray_cxr.labels.names import canonical, match_findings, spelling
from ray_cxr.labels.text_table import read_text_table

READER_COLUMNS = (
    "reader",
    "reader id",
    "rater",
    "rater id",
    "radiologist",
    "radiologist id",
    "annotator",
    "annotator id",
)
IMAGE_COLUMNS = ("image id", "image index", "image", "image name", "film", "film id", "file", "filename", "file name",
                 "dicom id", "sop instance uid", "study id", "study", "study instance uid")  # fmt: skip
PATIENT_COLUMNS = ("patient id", "patient", "patientid", "subject id", "subject")

_WORDS: Mapping[str, float] = {
    **dict.fromkeys(("yes", "y", "true", "positive", "present"), 1.0),
    **dict.fromkeys(("no", "n", "false", "negative", "absent"), 0.0),
    **dict.fromkeys(("hedge", "uncertain", "unsure", "equivocal", "indeterminate"), UNCERTAIN),
}
_NUMBERS: Mapping[str, float] = {"1": 1.0, "0": 0.0, "-1": UNCERTAIN}
_BLANK = frozenset({"", "nan", "na", "n/a", "none", "null", "<na>"})
_ALLOWED = "1, YES; 0, NO; -1, HEDGE (uncertain); blank (not answered)"


@dataclass(frozen=True)
class Readings:
    """Answers of R readers on N films. Holds ids of films and patients, which get into no report, log or error."""

    image_ids: NDArray[np.object_]
    """[N] text, each once, in the order of the table."""
    patient_ids: NDArray[np.object_] | None
    """[N] text; None where the table has no such column."""
    readers: list[str]
    """R names, sorted."""
    findings: list[str]
    answers: Answers
    """[N, R, F] 1, 0, 0.5 = uncertain, NaN = not answered."""
    read_twice: NDArray[np.int64]
    """[R, F] films that a reader answered more than once."""
    same_again: NDArray[np.int64]
    """[R, F] those of them with the same answer each time."""
    definitive: Labels | None = None
    """[N, F] a test that overrides the readers, NaN = none; None where no column was named."""
    extra: tuple[str, ...] = ()
    """Columns that are no answers."""

    def only(self, films: NDArray[np.int64]) -> Readings:
        """Some of the films, by number, in that order. Repeated readings stay those of the whole table."""
        return Readings(
            self.image_ids[films], None if self.patient_ids is None else self.patient_ids[films], self.readers,
            self.findings, self.answers[films], self.read_twice, self.same_again,
            None if self.definitive is None else self.definitive[films], self.extra,
        )  # fmt: skip

    def reader_numbers(self, names: Sequence[str]) -> list[int]:
        """Positions of readers by name. InputError for a name that is none."""
        unknown = [n for n in names if n not in self.readers]
        if unknown:
            raise InputError(
                f"--reference-readers: {unknown[0]!r} is no reader; the tables have {', '.join(self.readers)}."
            )
        return [self.readers.index(n) for n in names]


def read_readings(
    places: Sequence[str], known: Sequence[str] = (), definitive: Mapping[str, str] | None = None
) -> Readings:
    """The answers of one table, or of several (with a reader column, or one reader a file, named by the file).

    Findings are the columns that hold answers only, and those that mean one of `known`, by whose name they go then.
    definitive: finding → column of a test. Raises InputError where a column is missing, an answer unreadable, or a film's tests differ.
    """
    tables = [_one_table(place, several=len(places) > 1) for place in places]
    _check_readers_apart(
        [p for p, t in zip(places, tables, strict=True) if (t[_READER] == _named_by_file(p)).all()]
    )
    table = pd.concat(_same_spelling(tables), ignore_index=True).fillna("")
    tests = dict(definitive or {})
    for column in tests.values():
        if column not in table:
            raise InputError(f"--definitive: the reader tables have no column {column!r}; {_listed(table)}.")
    free = [c for c in table.columns if c not in (_IMAGE, _READER, _PATIENT, *tests.values())]
    columns, extra = _finding_columns(table, free, known)
    answers = np.stack([_answers(table[c], c) for c in columns], axis=1)
    film, ids = pd.factorize(table[_IMAGE])
    reader, names = pd.factorize(table[_READER], sort=True)
    collapsed, twice, same = _collapse(answers, film * len(names) + reader, len(ids), len(names))
    findings = list(columns.values())
    tested = None
    if tests:
        missing = [f for f in tests if canonical(f, findings) is None]
        if missing:
            raise InputError(
                f"--definitive: {missing[0]!r} is no finding; the findings are {', '.join(findings)}."
            )
        tested = np.full((len(ids), len(findings)), np.nan, np.float32)
        for finding, column in tests.items():
            tested[:, findings.index(str(canonical(finding, findings)))] = _per_film(
                table[column], column, film, len(ids)
            )
    return Readings(
        ids.to_numpy(object), _patients(table, film, len(ids)), list(names), findings, collapsed, twice, same, tested,
        tuple(extra),
    )  # fmt: skip


_IMAGE, _READER, _PATIENT = "\0image", "\0reader", "\0patient"
"""Names that no column of a file has."""


def _one_table(place: str, *, several: bool) -> pd.DataFrame:
    table = read_text_table(place, "--readers")
    double = table.columns[table.columns.duplicated()]
    if len(double):
        raise InputError(
            f"--readers: {place!r} has several columns {double[0]!r}; give each a name of its own."
        )
    roles = {
        _role(table, IMAGE_COLUMNS): _IMAGE,
        _role(table, READER_COLUMNS): _READER,
        _role(table, PATIENT_COLUMNS): _PATIENT,
    }
    if _IMAGE not in [new for old, new in roles.items() if old is not None]:
        raise InputError(
            f"--readers: {place!r} has no column for the film ({', '.join(IMAGE_COLUMNS[:3])} …); {_listed(table)}."
        )
    table = table.rename(columns={old: new for old, new in roles.items() if old is not None})
    if _READER not in table:
        if not several and table[_IMAGE].duplicated().any():
            raise InputError(
                f"--readers: {place!r} has several rows for a film and no column for the reader "
                f"({', '.join(READER_COLUMNS[:3])} …); {_listed(table)}."
            )
        table[_READER] = _named_by_file(place)
    for column, what in ((_IMAGE, "film"), (_READER, "reader")):
        blank = np.flatnonzero(table[column].str.strip() == "")
        if len(blank):
            raise InputError(
                f"--readers: {place!r} names no {what} in {len(blank)} rows, the first is row {blank[0] + 1}."
            )
        table[column] = table[column].str.strip()
    return table


def _named_by_file(place: str) -> str:
    return PurePosixPath(place).name.split(".")[0]


def _check_readers_apart(places: Sequence[str]) -> None:
    """Files of one name in several folders may be of several readers, whose answers must not fall together."""
    names = [_named_by_file(p) for p in places]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise InputError(
            f"--readers: several tables are called {twice!r}; give them names that differ, such as those of the readers."
        )


def _same_spelling(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Later tables with the column names of the first ones, where they mean the same."""
    names: list[str] = []
    out = []
    for table in tables:
        renamed = table.rename(columns=match_findings([c for c in table.columns if c not in names], names))
        names += [c for c in renamed.columns if c not in names]
        out.append(renamed)
    return out


def _role(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The column with the first of these names, in any spelling."""
    by_spelling = {re.sub(r"#", "", spelling(str(c))): str(c) for c in reversed(table.columns)}
    return next((by_spelling[n] for n in names if n in by_spelling), None)


def _finding_columns(
    table: pd.DataFrame, free: Sequence[str], known: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Column → finding, and the columns that are none: those of known findings first, then all that hold answers."""
    matched = match_findings(free, known)
    if known and not matched:
        raise InputError(
            f"--readers: none of the findings ({', '.join(known)}) has a column; {_listed(table)}."
        )
    columns = dict(sorted(matched.items(), key=lambda item: list(known).index(item[1])))
    columns |= {c: c for c in free if c not in columns and _holds_answers(table[c], c)}
    if not columns:
        raise InputError(f"--readers: no column holds answers ({_ALLOWED}); {_listed(table)}.")
    return columns, [c for c in free if c not in columns]


def _holds_answers(cells: pd.Series[str], column: str) -> bool:
    """Whether a column is one of answers. Words among others are taken for a slip, and refused: it would vanish silently."""
    values = _clean(cells)
    distinct = set(values.unique()) - _BLANK
    if not distinct:
        return False
    unread = [v for v in distinct if v not in _WORDS and v not in _NUMBERS]
    worded = values.isin(list(_WORDS)).sum()
    if unread and worded > len(values) / 2:
        _answers(cells, column)
    return not unread


def _answers(cells: pd.Series[str], column: str) -> NDArray[np.float32]:
    """[rows] 1, 0, 0.5, NaN. InputError for a cell that is none of them."""
    values = _clean(cells)
    coded = values.map({**_WORDS, **_NUMBERS})
    wrong = np.flatnonzero(coded.isna().to_numpy() & ~values.isin(_BLANK).to_numpy())
    if len(wrong):
        raise InputError(
            f"--readers: column {column!r} has {len(wrong)} cells that are no answers, the first {cells.iloc[wrong[0]]!r} in row "
            f"{wrong[0] + 1}; allowed are {_ALLOWED}."
        )
    return coded.to_numpy(np.float32)


def _clean(cells: pd.Series[str]) -> pd.Series[str]:
    return cells.str.strip().str.casefold().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)


def _collapse(
    answers: NDArray[np.float32], key: NDArray[np.int64], films: int, readers: int
) -> tuple[Answers, NDArray[np.int64], NDArray[np.int64]]:
    """Rows [rows, F] → [N, R, F], with the counts of repeated and of equal answers [R, F]."""
    cells, findings = films * readers, answers.shape[1]
    seen = {}
    for value in (0.0, UNCERTAIN, 1.0):
        seen[value] = np.stack(
            [np.bincount(key[answers[:, f] == value], minlength=cells) for f in range(findings)], axis=1
        )
    total = seen[0.0] + seen[UNCERTAIN] + seen[1.0]
    kinds = np.sum([count > 0 for count in seen.values()], axis=0)
    out = np.full((cells, findings), np.nan, np.float32)
    for value, count in seen.items():
        out[count > 0] = value
    out[kinds > 1] = UNCERTAIN
    repeated = (total > 1).reshape(films, readers, findings)
    equal = repeated & (kinds == 1).reshape(films, readers, findings)
    return out.reshape(films, readers, findings), repeated.sum(axis=0), equal.sum(axis=0)


def _per_film(cells: pd.Series[str], column: str, film: NDArray[np.int64], films: int) -> NDArray[np.float32]:
    """[N] the result of a test; uncertain ones are none. InputError where a film has two."""
    coded = _answers(cells, column)
    yes = np.bincount(film[coded == 1], minlength=films) > 0
    no = np.bincount(film[coded == 0], minlength=films) > 0
    if (yes & no).any():
        raise InputError(
            f"--definitive: column {column!r} says both yes and no of {(yes & no).sum()} films; a test has one result a film."
        )
    return np.where(yes, np.float32(1), np.where(no, np.float32(0), np.float32(np.nan)))


def _patients(table: pd.DataFrame, film: NDArray[np.int64], films: int) -> NDArray[np.object_] | None:
    if _PATIENT not in table or (table[_PATIENT].str.strip() == "").any():
        return None
    first = pd.Series(table[_PATIENT].str.strip().to_numpy(object)).groupby(film)
    if (first.nunique() > 1).any():
        raise InputError("--readers: a film has rows with different patient ids; a film is of one patient.")
    return first.first().to_numpy(object)[:films]


def _listed(table: pd.DataFrame) -> str:
    columns = [str(c) for c in table.columns if not str(c).startswith("\0")]
    return f"its columns are {', '.join(columns[:20])}{' …' if len(columns) > 20 else ''}"
