"""NIH ChestX-ray14 (Wang et al., CVPR 2017): the Data_Entry table and folders of films.

Reads: Data_Entry_2017.csv or Data_Entry_2017_v2020.csv (plain or .gz) and the names of files in folders.
Gives: `NihTable`.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.settings import NihSource

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
"""The fourteen findings, in the order of the data set's paper and of CheXNet."""

NO_FINDING = "No Finding"
COLUMNS = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
OLDEST_PATIENT_YEARS = 120
"""The table holds ages up to 414; above this one an age counts as unknown."""

_AGE = re.compile(r"^\s*0*(\d+)\s*([YMWD]?)\s*$", re.IGNORECASE)
_YEARS_PER_UNIT = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True)
class NihTable:
    """frame: a row per film that is there (or per row of the CSV, if asked for); rows: of the CSV; without_file, other_views: rows left out."""

    frame: pd.DataFrame
    findings: tuple[str, ...]
    rows: int
    without_file: int
    other_views: int


def nih_table(source: NihSource, keep_missing: bool = False) -> NihTable:
    """Reads the table and joins it with the films found. InputError names the column or row at fault.

    keep_missing: rows without a film stay in the frame, their locator missing.
    """
    raw = _read_csv(source.labels)
    rows = len(raw)
    kept = raw[raw["View Position"].isin(source.views)] if source.views else raw
    other_views = rows - len(kept)
    files = find_films(source.images)
    kept = kept.assign(locator=kept["Image Index"].map(files))
    missing = kept["locator"].isna()
    without_file = int(missing.sum())
    there = (kept if keep_missing else kept[~missing]).reset_index(drop=True)
    frame = pd.DataFrame(
        {
            "image_id": there["Image Index"],
            "patient_id": _patient_ids(there),
            "film_name": there["Image Index"],
            "locator": there["locator"],
            "view": there["View Position"],
            "age": parse_ages(there["Patient Age"]),
            "sex": there["Patient Gender"],
        }
    )
    labels = _labels(there["Finding Labels"])
    return NihTable(pd.concat([frame, labels], axis=1), FINDINGS, rows, without_file, other_views)


def find_films(folders: Sequence[str]) -> dict[str, str]:
    """File name → path of every film below the folders. InputError where a folder is missing or a name is double."""
    found: dict[str, str] = {}
    entered: set[str] = set()
    twice = 0
    for folder in folders:
        if not os.path.isdir(folder):
            raise InputError(
                f"source.images: {folder!r} is not a folder; give the folder that holds the films."
            )
        for parent, below, names in os.walk(folder, followlinks=True):
            if os.path.realpath(parent) in entered:  # a link back up, or a second way in
                below.clear()
                continue
            entered.add(os.path.realpath(parent))
            for name in filter(_is_film, names):
                path = os.path.abspath(os.path.join(parent, name))
                twice += found.setdefault(name, path) != path
    if twice:
        raise InputError(
            f"source.images: {twice} file names stand in more than one place below the folders given; "
            "keep one file per name, since the label table knows films by name only."
        )
    return found


def _is_film(name: str) -> bool:
    return name.lower().endswith((".png", ".jpg", ".jpeg"))


def parse_ages(ages: pd.Series) -> pd.Series:
    """Ages in years, float32, from 58, "058Y", "010M"; NaN where unreadable or above 120."""

    def years(text: str) -> float:
        match = _AGE.match(text)
        if match is None:
            return float("nan")
        value = float(match.group(1)) * _YEARS_PER_UNIT[match.group(2).upper()]
        return value if value <= OLDEST_PATIENT_YEARS else float("nan")

    return ages.map(years).astype(np.float32)


def _read_csv(path: str) -> pd.DataFrame:
    try:
        # index_col: rows that end with a comma would make pandas take the first column for an index.
        raw = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            index_col=False,
            usecols=COLUMNS.__contains__,
        )
    except FileNotFoundError:
        raise InputError(
            f"source.labels: {path!r} does not exist; give the Data_Entry CSV (plain or .gz)."
        ) from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"source.labels: {path!r} cannot be read as a CSV table: {reason}.") from None
    missing = [c for c in COLUMNS if c not in raw.columns]
    if missing:
        raise InputError(
            f"source.labels: {path!r} has no column {missing[0]!r}; a Data_Entry table has {', '.join(COLUMNS)}."
        )
    return raw[COLUMNS]


def _patient_ids(there: pd.DataFrame) -> pd.Series:
    """The file name's part before the underscore, held against the table's own column."""
    prefix = there["Image Index"].str.split("_").str[0]
    stated = there["Patient ID"].str.strip()
    differs = prefix.str.lstrip("0") != stated.str.lstrip("0")
    if differs.any():
        row = int(np.flatnonzero(differs.to_numpy())[0])
        raise InputError(
            f"source.labels: in {int(differs.sum())} rows 'Patient ID' is not the number that the file name begins "
            f"with (first: film {row + 1} of those found); mend the table, a wrong id would share a patient."
        )
    return prefix


def _labels(texts: pd.Series) -> pd.DataFrame:
    """[N, F] float32 from `A|B|C`; `No Finding` is all zeros, a blank cell NaN. InputError for an unknown name."""
    named = [{name.strip() for name in text.split("|")} - {""} for text in texts]
    unknown = sorted(set().union(*named) - {*FINDINGS, NO_FINDING})
    if unknown:
        raise InputError(
            f"source.labels: 'Finding Labels' holds {unknown[0]!r}, which is no finding of this data set; "
            f"known are {', '.join(FINDINGS)} and {NO_FINDING!r}."
        )
    columns = {f: [float(f in names) if names else np.nan for names in named] for f in FINDINGS}
    return pd.DataFrame(columns, dtype=np.float32)
