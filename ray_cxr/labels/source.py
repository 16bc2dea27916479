"""What every source gives, before sources are joined, and what readers of tables share."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.cells import BLANK, contradicting
from ray_cxr.labels.locate import Matched

_WHOLE = r"(\d+)\.0+"
"""A whole number as pandas writes it where a column of numbers has blank cells."""
NO_ID = [word for word in BLANK if word != "-1"]
"""Words that are no id."""


@dataclass(frozen=True)
class SourceTable:
    """One source's films, with ids as the source writes them.

    frame: a row per film that is there (or per row of the table, if asked for), with `image_id`, `patient_id`,
    `film_name`, `given_split`, `locator`, `view`, `age`, `sex` and a float32 column per finding. rows: of the table;
    without_file, other_views: rows left out. notes: what was guessed, joined or not understood, in sentences without ids.
    """

    frame: pd.DataFrame
    findings: tuple[str, ...]
    rows: int
    without_file: int = 0
    other_views: int = 0
    notes: list[str] = field(default_factory=list)


def patients_by_regex(names: pd.Series, pattern: str) -> pd.Series:
    """The first group of the pattern in each film's name or path; InputError where it is not found, by row."""
    found = names.str.extract(re.compile(pattern), expand=True)[0]
    without = found.isna() | (found == "")
    if without.any():
        raise InputError(
            f"source.patient_regex: '{pattern}' finds no patient id in {int(without.sum()):,} of {len(names):,} film "
            f"names (first: {first_row(without)}); widen it, every film needs a patient."
        )
    return found


def checked_patients(ids: pd.Series, where: str) -> pd.Series:
    """Patient ids without spaces around them; InputError where one is blank."""
    stripped = ids.str.strip()
    blank = stripped.str.lower().isin(NO_ID)
    if blank.any():
        raise InputError(
            f"{where}: {int(blank.sum()):,} films have no patient id (first: {first_row(blank)}), so nobody could keep "
            "patients apart; fill the column in."
        )
    return stripped


def whole_numbers(ids: pd.Series, notes: list[str]) -> pd.Series:
    """Ids without spaces around them, "12.0" as "12", zeros in front kept; says in `notes` how many were read so."""
    stripped = ids.str.strip()
    pointed = stripped.str.fullmatch(_WHOLE).fillna(False).astype(bool)
    if not pointed.any():
        return stripped
    notes.append(f"{stripped[pointed].nunique():,} patient ids end in .0 and are read as whole numbers")
    return stripped.where(~pointed, stripped.str.split(".").str[0])


def refuse_contradicting(cells: pd.Series, separator: str, column: str, where: str) -> None:
    """Raises InputError where a cell names a finding and no finding at once."""
    both = contradicting(cells, separator)
    if both.any():
        raise InputError(
            f"{where}: {int(both.sum()):,} cells of column {column!r} name a finding and no finding at once (first: "
            f"{first_row(both)}); mend them, one of the two is wrong."
        )


def first_row(at_fault: pd.Series) -> str:
    """The first row at fault, as a person counts rows below the header; the index is that of the table."""
    return f"row {int(at_fault.index[int(np.flatnonzero(at_fault.to_numpy())[0])]) + 1} of the table"


def film_names(names: pd.Series, locators: pd.Series) -> pd.Series:
    """The name by which lists of films know a film: its file's, or the table's path where files of one name repeat."""
    files = locators.where(locators.notna(), names).map(os.path.basename)
    return names if files.duplicated().any() else files


def refuse_ambiguous(matched: Matched) -> None:
    """Raises InputError where a name of the table fits several films."""
    if matched.ambiguous:
        raise InputError(
            f"source.images: {matched.ambiguous:,} names of the label table fit several films; give relative paths in "
            "the table, or fewer folders, since a guess would give a film another film's labels."
        )
