"""A folder per class: the folder's name is the label of the films in it.

Reads: names of files in folders, and a table of patients if there is one. Gives: `SourceTable`.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.cells import counted
from ray_cxr.labels.columns import find_roles
from ray_cxr.labels.locate import composed, walk_films
from ray_cxr.labels.names import nearest, says_normal, spelling
from ray_cxr.labels.settings import Columns, FolderSource
from ray_cxr.labels.source import SourceTable, checked_patients, film_names, patients_by_regex, whole_numbers
from ray_cxr.labels.text_table import read_text_table

SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_MOST_CLASSES = 100


def folder_table(source: FolderSource) -> SourceTable:
    """The films below the class folders, each with its one class. InputError says in one sentence what is wrong.

    A film of the folder PNEUMONIA has the finding PNEUMONIA and none of the others; a film of a negative folder none.
    """
    films = class_folders(source.images)
    negative = _negative(source, films["label"])
    classes = sorted(films["label"].unique())
    findings = [c for c in classes if c not in negative]
    if not findings or len(classes) < 2:
        raise InputError(
            f"source.images: all films lie in the class folders {', '.join(map(repr, classes))}, so there is nothing to tell "
            "apart; give the folder above the class folders, and source.negative the name of that without findings."
        )
    labels = {f: (films["label"] == f).astype(np.float32) for f in findings}
    on_patients: list[str] = []
    frame = films.drop(columns="label").assign(
        patient_id=_patients(source, films, on_patients),
        film_name=film_names(films["image_id"], films["locator"]),
        **labels,
    )
    notes = [
        "a folder per class: "
        + ", ".join(
            f"{c} {n:,} films" for c, n in films["label"].value_counts(sort=False).sort_index().items()
        )
        + (
            f"; no finding in {', '.join(sorted(negative))}"
            if negative
            else "; no folder of films without findings"
        )
        + "; a film has the finding of its folder and no other",
        *on_patients,
    ]
    return SourceTable(frame, tuple(findings), len(frame), notes=notes)


def class_folders(folders: list[str]) -> pd.DataFrame:
    """A row per film: image_id (path below the folders given), locator, label (class folder), given_split.

    The class is the first folder of the path, or the first below a folder called train, val or test.
    """
    rows, bare = [], 0
    common = os.path.commonpath([os.path.abspath(folder) for folder in folders])
    for folder, path in walk_films(folders):
        root = os.path.abspath(folder)
        above = _relative(path, root).split("/")[:-1]
        split = next((n for n, part in enumerate(above) if part.lower() in SPLIT_FOLDERS), None)
        rest = above if split is None else above[split + 1 :] or above[:split]
        given = os.path.basename(root) if split is None else above[split]
        if rest:
            rows.append(
                (_relative(path, common), path, rest[0], given if given.lower() in SPLIT_FOLDERS else None)
            )
        bare += not rest
    if bare:
        raise InputError(
            f"source.images: {bare:,} films lie in no class folder; move them into one (NORMAL, PNEUMONIA, …), or give a "
            "label table (source.kind csv)."
        )
    if not rows:
        raise InputError(
            "source.images: no film lies below the folders given; give the folder above the class folders."
        )
    films = pd.DataFrame(rows, columns=["image_id", "locator", "label", "given_split"], dtype=object)
    classes = films["label"].nunique()
    if classes > _MOST_CLASSES:
        raise InputError(
            f"source.images: films lie in {classes:,} folders, too many for classes; give the folder above the class folders."
        )
    return films


def _relative(path: str, root: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def _negative(source: FolderSource, labels: pd.Series) -> set[str]:
    classes = list(labels.unique())
    if source.negative is None:
        return {c for c in classes if says_normal(c)}
    by_spelling = {spelling(c): c for c in classes}
    for name in source.negative:
        if spelling(name) not in by_spelling:
            close = nearest(name, classes)
            hint = (
                f"did you mean {close!r}?"
                if close
                else f"folders are {counted(labels.value_counts().items(), 12)}."
            )
            raise InputError(f"source.negative: got {name!r}, which is no class folder; {hint}")
    return {by_spelling[spelling(name)] for name in source.negative}


def _patients(source: FolderSource, films: pd.DataFrame, notes: list[str]) -> pd.Series:
    if source.patients is None:
        assert source.patient_regex is not None
        return patients_by_regex(films["image_id"], source.patient_regex)
    setting = "source.patients"
    table = read_text_table(source.patients, setting)
    where = f"{setting}: {source.patients!r}"
    roles = find_roles(table, Columns(), set(), where, by_regex=False, labels=False)
    if roles.patient is None:
        raise InputError(f"{where} has no column of patient ids; call it patient_id.")
    known = dict(zip(table[roles.image].str.strip().map(composed), table[roles.patient], strict=True))
    names = films["image_id"].map(composed)
    ids = names.map(known)
    ids = ids.where(ids.notna(), names.str.rsplit("/", n=1).str[-1].map(known))
    without = int(ids.isna().sum())
    if without:
        raise InputError(f"{where} names no patient for {without:,} of {len(ids):,} films; add them.")
    return checked_patients(whole_numbers(ids.astype(str), notes), where)
