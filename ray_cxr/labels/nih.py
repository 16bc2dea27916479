"""NIH ChestX-ray14 (Wang et al., CVPR 2017): the Data_Entry table and folders of films.

Reads: Data_Entry_2017.csv or Data_Entry_2017_v2020.csv (plain or .gz) and the names of files in folders.
Gives: `SourceTable`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.cells import named_findings, parse_ages, unknown_ages
from ray_cxr.labels.locate import find_films
from ray_cxr.labels.settings import NihSource
from ray_cxr.labels.source import SourceTable, refuse_contradicting, whole_numbers
from ray_cxr.labels.text_table import read_text_table, require

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
"""The fourteen findings, in the order of the data set's paper and of CheXNet."""

NO_FINDING = "No Finding"
COLUMNS = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position"]


def nih_table(source: NihSource, keep_missing: bool = False) -> SourceTable:
    """Reads the table and joins it with the films found. InputError names the column or row at fault.

    keep_missing: rows without a film stay in the frame, their locator missing.
    """
    raw = read_text_table(source.labels)
    require(raw, COLUMNS, f"source.labels: {source.labels!r}")
    refuse_contradicting(raw["Finding Labels"], "|", "Finding Labels", f"source.labels: {source.labels!r}")
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
            "given_split": None,
            "locator": there["locator"],
            "view": there["View Position"],
            "age": parse_ages(there["Patient Age"]),
            "sex": there["Patient Gender"],
        }
    )
    labels = _labels(there["Finding Labels"])
    unknown = unknown_ages(there["Patient Age"], frame["age"])
    notes = [f"{unknown:,} ages are unreadable or above 120 years and count as unknown"] * bool(unknown)
    return SourceTable(pd.concat([frame, labels], axis=1), FINDINGS, rows, without_file, other_views, notes)


def _patient_ids(there: pd.DataFrame) -> pd.Series:
    """The file name's part before the underscore, held against the table's own column."""
    prefix = there["Image Index"].str.split("_").str[0]
    stated = whole_numbers(there["Patient ID"], [])
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
    named = named_findings(texts, "|")
    unknown = sorted(set(map(str, named)) - set(FINDINGS))
    if unknown:
        raise InputError(
            f"source.labels: 'Finding Labels' holds {unknown[0]!r}, which is no finding of this data set; "
            f"known are {', '.join(FINDINGS)} and {NO_FINDING!r}."
        )
    nothing = pd.Series(np.where(texts.str.strip("| ") == "", np.nan, 0), texts.index, np.float32)
    return pd.DataFrame({f: named.get(f, nothing) for f in FINDINGS}, index=texts.index)
