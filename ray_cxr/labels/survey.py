"""What somebody's own table and films are: the source settings that fit them, and the first counts.

Reads: a label table or class folders, and names of films. Gives: `Survey`; nothing is written.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.cells import binary, choose_separator, is_binary
from ray_cxr.labels.columns import Roles, find_roles, never_labels
from ray_cxr.labels.csv_source import films_in_several_rows, no_patients
from ray_cxr.labels.folder_source import class_folders
from ray_cxr.labels.locate import film_stems, list_films
from ray_cxr.labels.names import says_normal
from ray_cxr.labels.nih import COLUMNS as NIH_COLUMNS
from ray_cxr.labels.settings import Columns, CsvSource, FolderSource, NihSource
from ray_cxr.labels.table import LabelTable, build_label_table
from ray_cxr.labels.text_table import read_text_table

PATIENT_PATTERNS = {
    r"(?:^|/)(\d{8})_\d{3}\.": "NIH ChestX-ray14",
    r"(?:^|/)(patient\d{5,6})/": "CheXpert",
    r"(?:^|/)(p\d{8})/": "MIMIC-CXR",
    r"(person\d+|IM-\d+)": "the paediatric pneumonia set of Kermany et al.",
}
"""Where the patient stands in the film names of public data sets."""


@dataclass(frozen=True)
class Survey:
    """source: settings that say everything, without pseudonyms. taken, left_out: columns, and what is in those left out.

    several_rows: where the settings want one row a film and films stand in several, how many do; the table then has a
    finding where any row of the film says so, for looking only.
    """

    source: NihSource | CsvSource | FolderSource
    table: LabelTable
    taken: dict[str, str]
    left_out: dict[str, str]
    remarks: list[str]
    several_rows: str | None = None


def survey_table(source: CsvSource) -> Survey:
    """Completes what the settings leave open. InputError where the films' patients or labels cannot be told."""
    raw = read_text_table(source.labels)
    remarks: list[str] = []
    if source.columns == Columns() and source.patient_regex is None and is_nih(raw):
        nih = NihSource(images=source.images, labels=source.labels)
        left_out = {c: describe(raw[c]) for c in raw.columns if c and c not in NIH_COLUMNS}
        remarks.append("the table is that of NIH ChestX-ray14")
        return Survey(nih, build_label_table([nih], None), {}, left_out, remarks)
    where = f"source.labels: {source.labels!r}"
    stems = film_stems(list_films(source.images))
    roles = find_roles(raw, source.columns, stems, where, by_regex=source.patient_regex is not None)
    update: dict[str, object] = {"columns": _said(roles, raw, source.columns), "pseudonymise": False}
    if roles.patient is None and source.patient_regex is None:
        update["patient_regex"] = known_pattern(raw[roles.image], remarks)
        if update["patient_regex"] is None:
            raise InputError(no_patients(where, roles.image))
    whole = looked_at = source.model_copy(update=update)
    several_rows = None
    if source.rows_per_film == "one" and raw[roles.image].str.strip().duplicated().any():
        looked_at = whole.model_copy(update={"rows_per_film": "any"})
        films, conflicting = films_in_several_rows(raw, roles, whole, where)
        several_rows = f"{films:,} films stand in several rows, {conflicting:,} of them with different labels"
        remarks.append(
            f"{several_rows}: prepare refuses the table until each film has one row, or until the job file says "
            "rows_per_film: any (a finding is present where any row says so), as the figures here are counted"
        )
    taken = {role: column for role, column in _roles(roles).items() if column}
    left_out = {c: describe(raw[c]) for c in roles.left_out}
    return Survey(whole, build_label_table([looked_at], None), taken, left_out, remarks, several_rows)


def survey_folders(images: list[str], patient_regex: str | None) -> Survey:
    """The same for a folder per class."""
    films = class_folders(images)
    remarks: list[str] = []
    pattern = patient_regex or known_pattern(films["image_id"], remarks)
    if pattern is None:
        raise InputError(
            "--images: the names of the films do not say who the patient is, so nobody could keep patients apart; give "
            "--patient-regex with the part of the path that is the patient in round brackets, or --labels with a table that "
            "names film and patient, or, if each film is of another patient, --patient-regex '(.+)'."
        )
    negative = sorted({c for c in films["label"].unique() if says_normal(c)})
    source = FolderSource(images=images, negative=negative, patient_regex=pattern, pseudonymise=False)
    return Survey(source, build_label_table([source], None), {}, {}, remarks)


def is_nih(raw: pd.DataFrame) -> bool:
    """Whether a table is NIH's own, without labels that somebody added."""
    if not set(NIH_COLUMNS) <= set(raw.columns):
        return False
    added = [c for c in raw.columns if c and c not in NIH_COLUMNS and not never_labels(c)]
    return bool(raw["Image Index"].str.fullmatch(r"\d{8}_\d{3}\.png").all()) and not any(
        is_binary(raw[c]) for c in added
    )


def known_pattern(names: pd.Series, remarks: list[str]) -> str | None:
    """The pattern of a public data set that finds a patient in every name."""
    for pattern, data_set in PATIENT_PATTERNS.items():
        if names.str.extract(re.compile(pattern), expand=True)[0].notna().all():
            remarks.append(f"films are named as in {data_set}, so the patient is '{pattern}' of the name")
            return pattern
    return None


def describe(cells: pd.Series) -> str:
    """What a column holds, without showing a cell."""
    filled = cells[cells.str.strip() != ""]
    different = filled.nunique()
    if not different:
        return "blank"
    numbers = pd.to_numeric(filled, errors="coerce").notna().all()
    what = "numbers" if numbers else "text"
    read = binary(cells)
    mixed = read.readable > 0 and read.unreadable and different <= 20
    return f"{what}, {different:,} different" + (", not only 0 and 1" if mixed else "")


def lists_beside(labels: str) -> list[str]:
    """Paths of NIH's official lists that lie beside a table, if both do."""
    folder = os.path.dirname(labels)
    found = [
        next((p for end in ("", ".gz") if os.path.isfile(p := os.path.join(folder, name + end))), None)
        for name in ("train_val_list.txt", "test_list.txt")
    ]
    return [path for path in found if path] if all(found) else []


def _roles(roles: Roles) -> dict[str, str]:
    return {
        "image": roles.image,
        "patient": roles.patient or "",
        "findings": roles.named_in or ", ".join(roles.columns),
        "view": ", ".join(roles.view),
        "age": roles.age or "",
        "sex": roles.sex or "",
        "split": roles.split or "",
    }


def _said(roles: Roles, raw: pd.DataFrame, given: Columns) -> Columns:
    """The columns with nothing left to guess."""
    renamed = {c: f for c, f in roles.columns.items() if c != f}
    separator = given.separator
    if roles.named_in is not None and separator is None:
        separator = choose_separator(raw[roles.named_in])
    return Columns(
        image=roles.image,
        patient=roles.patient,
        findings=roles.named_in or (roles.columns if renamed else list(roles.columns)),
        separator=separator if roles.named_in is not None else given.separator,
        view=roles.view or None,
        age=roles.age,
        sex=roles.sex,
        split=roles.split,
    )
