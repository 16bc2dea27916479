"""Any label table with a row per film, joined with the films below some folders.

Reads: a table (CSV, TSV, plain or .gz, Parquet) and the names of files in folders. Gives: `SourceTable`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.cells import (
    ALLOWED,
    binary,
    choose_separator,
    counted,
    named_findings,
    one_spelling,
    parse_ages,
    parse_sexes,
    parse_views,
    unknown_ages,
)
from ray_cxr.labels.columns import Roles, find_roles
from ray_cxr.labels.locate import film_stems, list_films, match_films
from ray_cxr.labels.names import says_normal
from ray_cxr.labels.settings import CsvSource
from ray_cxr.labels.source import (
    SourceTable,
    checked_patients,
    film_names,
    first_row,
    patients_by_regex,
    refuse_ambiguous,
    refuse_contradicting,
    whole_numbers,
)
from ray_cxr.labels.text_table import listed, read_text_table


def csv_table(source: CsvSource, keep_missing: bool = False) -> SourceTable:
    """Reads the table and joins it with the films found. InputError says in one sentence what is wrong.

    keep_missing: rows without a film stay in the frame, their locator missing.
    """
    where = f"source.labels: {source.labels!r}"
    raw = read_text_table(source.labels)
    films = list_films(source.images)
    roles = find_roles(
        raw, source.columns, film_stems(films), where, by_regex=source.patient_regex is not None
    )
    notes = _notes_on_roles(roles)
    names = _film_names(raw[roles.image], roles.image, where)
    labels = _labels(raw, roles, source, where, notes)
    table = _describe(raw, roles, notes).assign(image_id=names)
    if source.rows_per_film == "any":
        table, labels = _one_row_per_film(table, labels, notes)
    else:
        _refuse_repeated(names, labels, where)
    rows = len(table)
    table, other_views = _of_views(table, source, roles)
    matched = match_films(table["image_id"], films)
    refuse_ambiguous(matched)
    table["locator"] = matched.locators
    without_file = int(table["locator"].isna().sum())
    table = table if keep_missing else table[table["locator"].notna()]
    table["patient_id"] = _patients(table, source, roles, where)
    table["film_name"] = film_names(table["image_id"], table["locator"])
    frame = table.drop(columns="stated_patient").join(labels).reset_index(drop=True)
    return SourceTable(frame, tuple(labels.columns), rows, without_file, other_views, notes)


def _notes_on_roles(roles: Roles) -> list[str]:
    notes = []
    if roles.guessed:
        notes.append(
            "columns guessed: " + "; ".join(f"{role} = {column}" for role, column in roles.guessed.items())
        )
    if roles.left_out and "findings" in roles.guessed:
        notes.append(f"columns left out: {listed(roles.left_out)}")
    return notes


def _film_names(cells: pd.Series, column: str, where: str) -> pd.Series:
    names = cells.str.strip()
    blank = names == ""
    if blank.any():
        raise InputError(
            f"{where}: {int(blank.sum()):,} rows name no film in column {column!r} (first: {first_row(blank)}); "
            "fill them in or remove them."
        )
    return names


def _labels(raw: pd.DataFrame, roles: Roles, source: CsvSource, where: str, notes: list[str]) -> pd.DataFrame:
    """[N, F] float32 with the index of `raw`."""
    if roles.named_in is not None:
        cells = raw[roles.named_in]
        separator = source.columns.separator or choose_separator(cells)
        refuse_contradicting(cells, separator, roles.named_in, where)
        renamed = one_spelling(cells, separator)
        labels = named_findings(cells, separator, renamed)
        if labels.empty or not labels.shape[1]:
            raise InputError(
                f"{where}: column {roles.named_in!r} names no finding; set source.columns.findings to another column."
            )
        if source.columns.separator is None and separator != "|":
            notes.append(f"column {roles.named_in!r}: findings are told apart by {separator!r}")
        if renamed:
            pairs = ", ".join(f"{name!r} is {common!r}" for name, common in renamed.items())
            notes.append(f"column {roles.named_in!r}: {pairs}")
        return labels
    columns = {}
    for column, finding in roles.columns.items():
        read = binary(raw[column])
        if not read.readable:
            _refuse_unreadable(column, read.unreadable, where)
        if read.unreadable:
            texts = counted(read.unreadable.items())
            notes.append(f"column {column!r}: {texts} count as not labelled")
        columns[finding] = read.values
    labels = pd.DataFrame(columns, index=raw.index)
    notes += _notes_on_normal(raw, labels, roles.left_out)
    return labels


def _notes_on_normal(raw: pd.DataFrame, labels: pd.DataFrame, left_out: list[str]) -> list[str]:
    """Says where a column that is not read calls a film normal that has a finding."""
    present = (labels == 1).any(axis=1)
    both = {c: int((present & (binary(raw[c]).values == 1)).sum()) for c in left_out if says_normal(c)}
    return [
        f"column {c!r} is 1 in {count:,} rows that have a finding; the column is not read"
        for c, count in both.items()
        if count
    ]


def _refuse_unreadable(column: str, unreadable: dict[str, int], where: str) -> None:
    count = sum(unreadable.values())
    # A column of many different texts may hold names of people: no value of it is shown.
    shown = f" (first of all {counted(unreadable.items())})" if 0 < len(unreadable) <= 20 else ""
    held = f"{count:,} cells that are no label{shown}" if count else "blank cells only"
    raise InputError(
        f"{where}: column {column!r} holds {held}; allowed are {ALLOWED}; name another column in source.columns.findings."
    )


def _describe(raw: pd.DataFrame, roles: Roles, notes: list[str]) -> pd.DataFrame:
    """View, age, sex, given split and the stated patient of every row."""
    nothing = pd.Series(None, index=raw.index, dtype=object)
    view = nothing
    for column in roles.view:
        view = view.where(view.notna(), parse_views(raw[column]))
    age = pd.Series(np.nan, index=raw.index, dtype=np.float32)
    if roles.age is not None:
        age = parse_ages(raw[roles.age])
        unknown = unknown_ages(raw[roles.age], age)
        if unknown:
            notes.append(f"{unknown:,} ages are unreadable or above 120 years and count as unknown")
    split = raw[roles.split].str.strip() if roles.split is not None else nothing
    return pd.DataFrame(
        {
            "view": view,
            "age": age,
            "sex": parse_sexes(raw[roles.sex]) if roles.sex is not None else nothing,
            "given_split": split.where(split != "").astype(object),
            "stated_patient": whole_numbers(raw[roles.patient], notes)
            if roles.patient is not None
            else nothing,
        }
    )


def _refuse_repeated(names: pd.Series, labels: pd.DataFrame, where: str) -> None:
    repeated = names.duplicated(keep=False)
    if not repeated.any():
        return
    films, conflicting = _repeats(names, labels)
    again = names.duplicated()
    conflict = f", {conflicting:,} of them with different labels" if conflicting else ", with the same labels"
    raise InputError(
        f"{where}: {films:,} films stand in more than one row{conflict} (first again: {first_row(again)}); keep one row a "
        "film, or set source.rows_per_film to any, which takes a finding as present where any row says so."
    )


def _repeats(names: pd.Series, labels: pd.DataFrame) -> tuple[int, int]:
    """How many films stand in several rows, and how many of them with different labels."""
    repeated = names.duplicated(keep=False)
    labels_of = labels[repeated].groupby(names[repeated], sort=False)
    conflicting = int((labels_of.nunique(dropna=False) > 1).any(axis=1).sum())
    return names[repeated].nunique(), conflicting


def films_in_several_rows(raw: pd.DataFrame, roles: Roles, source: CsvSource, where: str) -> tuple[int, int]:
    """The same of a table as it was read. InputError where its labels are none."""
    return _repeats(raw[roles.image].str.strip(), _labels(raw, roles, source, where, []))


def _one_row_per_film(
    table: pd.DataFrame, labels: pd.DataFrame, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first row of each film, with the highest label of all its rows."""
    names = table["image_id"]
    first = ~names.duplicated()
    if first.all():
        return table, labels
    stated = table["stated_patient"].groupby(names).nunique()
    if (stated > 1).any():
        raise InputError(
            f"source.rows_per_film: {int((stated > 1).sum()):,} films stand in rows of different patients; mend the "
            "table, a wrong id would share a patient."
        )
    highest = labels.groupby(names, sort=False).max().reindex(names[first])
    highest.index = names.index[first]
    notes.append(
        f"{len(names):,} rows of {int(first.sum()):,} films: a finding is present where any row says so"
    )
    return table[first].copy(), highest.astype(np.float32)


def _of_views(table: pd.DataFrame, source: CsvSource, roles: Roles) -> tuple[pd.DataFrame, int]:
    if source.views is None:
        return table, 0
    if not roles.view:
        raise InputError(
            f"source.views: got {', '.join(source.views)}, but the table has no column that is known to hold views; set "
            "source.columns.view."
        )
    wanted = parse_views(pd.Series(source.views, dtype=str))
    there = table["view"].value_counts()
    unknown = [text for text, view in zip(source.views, wanted, strict=True) if view not in there]
    if unknown:
        raise InputError(
            f"source.views: got {unknown[0]!r}, but the table holds {counted(there.items(), 6) or 'no view at all'}."
        )
    kept = table[table["view"].isin(wanted)].copy()
    return kept, len(table) - len(kept)


def _patients(table: pd.DataFrame, source: CsvSource, roles: Roles, where: str) -> pd.Series:
    if source.patient_regex is not None:
        return patients_by_regex(table["image_id"], source.patient_regex)
    if roles.patient is None:
        raise InputError(no_patients(where, roles.image))
    return checked_patients(table["stated_patient"], f"{where}, column {roles.patient!r}")


def no_patients(where: str, image: str) -> str:
    """The sentence for a table that does not say who the patients are."""
    return (
        f"{where} does not say who the patient of a film is, so nobody could keep patients apart; set "
        "source.columns.patient to the column of patient ids, or source.patient_regex to where the id stands in the film's "
        f"name (its first group), or, if each film is of another patient, source.columns.patient to {image!r}."
    )
