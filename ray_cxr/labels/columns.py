"""Which column of a table says what: as the settings say, else guessed where only one reading is left. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.cells import binary, is_binary
from ray_cxr.labels.locate import composed
from ray_cxr.labels.names import SYNONYMS, meaning, says_normal, spelling
from ray_cxr.labels.nih import FINDINGS as NIH_FINDINGS
from ray_cxr.labels.settings import Columns
from ray_cxr.labels.text_table import listed, require

USUAL_NAMES = {
    "image": (
        "image id", "image index", "image", "image name", "image path", "image file", "image filename", "path",
        "filename", "file name", "file", "filepath", "file path", "imageid", "img", "img id", "x ray image name",
        "dicom id", "sop instance uid", "sopinstanceuid",
    ),
    "patient": ("patient id", "patientid", "patient", "subject id", "subjectid", "subject", "person id"),
    "view": ("view position", "viewposition", "view", "projection", "ap pa"),
    "age": ("patient age", "patientage", "age", "age years", "age (years)", "age in years", "years"),
    "sex": ("patient gender", "patient sex", "patientsex", "sex", "gender"),
    "split": ("split", "set", "set id", "subset", "partition", "dataset type"),
    "findings": (
        "finding labels", "findings", "finding", "labels", "label", "diagnosis", "diagnoses", "class", "class name",
    ),
}  # fmt: skip
"""Names that columns of public tables have, in one spelling (`names.spelling`)."""

_CHEXPERT_FINDINGS = (
    "Enlarged Cardiomediastinum", "Lung Opacity", "Lung Lesion", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
_KNOWN_FINDINGS = {meaning(f) for f in (*NIH_FINDINGS, *_CHEXPERT_FINDINGS, *SYNONYMS)}
_NO_FINDINGS = ("", "unnamed: 0", "index", "fold", "follow up #", "follow up", "row", "reader id")
"""Columns that may hold nothing but 0 and 1 by chance."""
_MOST_NAMED = 200
"""Different texts above which a column of findings is taken for free text."""


@dataclass(frozen=True)
class Roles:
    """columns: column → finding, of 0/1 columns; named_in: instead, the column that names findings.

    guessed: role → column, of those that the settings do not name. left_out: columns that nothing is read from.
    """

    image: str
    patient: str | None
    columns: dict[str, str]
    named_in: str | None
    view: list[str]
    age: str | None
    sex: str | None
    split: str | None
    guessed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def find_roles(
    frame: pd.DataFrame, given: Columns, stems: set[str], where: str, *, by_regex: bool, labels: bool = True
) -> Roles:
    """Which column says what. Raises InputError where a column is missing or a needed one cannot be told.

    stems: names of the films that are there, without suffix: they decide between several columns of film names.
    by_regex: patients come from the film's name, so no patient column is looked for. labels: findings are looked for.
    """
    require(frame, [c for c in frame.columns if c], where)  # no name twice
    named = {role: getattr(given, role) for role in ("image", "patient", "age", "sex", "split")}
    for column in [*filter(None, named.values()), *(given.view or [])]:
        require(frame, [column], where)
    taken = {*filter(None, named.values()), *(given.view or [])}
    if isinstance(given.findings, (list, dict)):
        taken |= set(given.findings)
    guessed: dict[str, str] = {}
    for role, stated in named.items():
        if stated is None and not (role == "patient" and by_regex):
            # Where each film is of another patient, one column names both.
            others = taken - {named["patient"]} if role == "image" else taken
            found = _guess(frame, role, others, stems, where)
            if found is not None:
                named[role] = guessed[role] = found
                taken.add(found)
    if named["image"] is None:
        raise InputError(
            f"{where} has no column that names the films; set source.columns.image to one of {listed(list(frame.columns))}."
        )
    views = given.view if given.view is not None else _view_columns(frame, taken)
    taken |= set(views)
    if given.view is None and views:
        guessed["view"] = ", ".join(views)
    columns, named_in = _findings(frame, given, taken, where) if labels else ({}, None)
    if labels and given.findings is None:
        guessed["findings"] = named_in or ", ".join(columns)
    used = taken | set(columns) | {named_in}
    left_out = [c for c in frame.columns if c not in used and c]
    return Roles(
        named["image"], named["patient"], columns, named_in, views, named["age"], named["sex"], named["split"],
        guessed, left_out,
    )  # fmt: skip


def _candidates(frame: pd.DataFrame, role: str, taken: set[str]) -> list[str]:
    return [c for c in frame.columns if spelling(c) in USUAL_NAMES[role] and c not in taken]


def _guess(frame: pd.DataFrame, role: str, taken: set[str], stems: set[str], where: str) -> str | None:
    """The only column that can have this role; None where there is none, or where it is not needed and not clear."""
    fitting = _candidates(frame, role, taken)
    if role == "image" and len(fitting) != 1:
        found = {c: _films_named(frame[c], stems) for c in fitting or frame.columns if c not in taken and c}
        best = max(found.values(), default=0)
        fitting = [c for c, count in found.items() if count == best] if best else fitting
    if len(fitting) > 1 and role in ("image", "patient"):
        raise InputError(
            f"{where} may name the {role} in {' or '.join(map(repr, fitting))}; set source.columns.{role} to one of them."
        )
    return fitting[0] if len(fitting) == 1 else None


def _films_named(cells: pd.Series, stems: set[str]) -> int:
    """How many different cells name a film that is there."""
    bases = (
        pd.Series(cells.unique(), dtype=str)
        .map(composed)
        .str.strip()
        .str.replace("\\", "/")
        .str.rsplit("/", n=1)
        .str[-1]
    )
    return int((bases.isin(stems) | bases.str.replace(r"\.\w{3,5}$", "", regex=True).isin(stems)).sum())


def _view_columns(frame: pd.DataFrame, taken: set[str]) -> list[str]:
    fitting = _candidates(frame, "view", taken)
    if len(fitting) != 1:
        return []
    # CheXpert says AP or PA of frontal films only, and in another column which films are frontal.
    side = [c for c in frame.columns if spelling(c) == "frontal lateral"]
    return fitting + side[:1]


def _findings(
    frame: pd.DataFrame, given: Columns, taken: set[str], where: str
) -> tuple[dict[str, str], str | None]:
    """Columns of 0 and 1 (column → finding), or the column that names findings."""
    if isinstance(given.findings, str):
        require(frame, [given.findings], where)
        one = frame[given.findings]
        labels = binary(one)
        if labels.readable and labels.readable >= sum(labels.unreadable.values()):
            return {given.findings: given.findings}, None
        return {}, _of_few_texts(frame, given.findings, where)
    if given.findings is not None:
        columns = given.findings if isinstance(given.findings, dict) else {c: c for c in given.findings}
        require(frame, list(columns), where)
        _refuse_twice(list(columns.values()))
        _refuse_same_meaning(columns, where)
        return columns, None
    free = [c for c in frame.columns if c not in taken and not never_labels(c) and not says_normal(c)]
    found = {c: c for c in free if _looks_like_labels(c, frame[c])}
    if found:
        _refuse_same_meaning(found, where)
        return found, None
    texts = _candidates(frame, "findings", taken)
    if len(texts) == 1:
        return {}, _of_few_texts(frame, texts[0], where)
    raise InputError(
        f"{where} has no column that can be told to hold labels; set source.columns.findings to columns of 0 and 1, or to "
        f"one that names findings, of {listed(free)}."
    )


def never_labels(column: str) -> bool:
    """Whether a column is no finding whatever it holds."""
    return spelling(column) in _NO_FINDINGS


def _looks_like_labels(name: str, cells: pd.Series) -> bool:
    if is_binary(cells):
        return True
    if meaning(name) not in _KNOWN_FINDINGS:
        return False
    labels = binary(cells)
    return labels.readable > sum(labels.unreadable.values())


def _of_few_texts(frame: pd.DataFrame, column: str, where: str) -> str:
    texts = frame[column].str.split(r"[|;,]", regex=True).explode().str.strip().nunique()
    if texts > _MOST_NAMED:
        raise InputError(
            f"{where}: column {column!r} holds {texts:,} different texts, so it is free text and not names of findings; "
            "set source.columns.findings to columns of 0 and 1."
        )
    return column


def _refuse_same_meaning(columns: dict[str, str], where: str) -> None:
    """columns: column → finding."""
    known: dict[str, str] = {}
    for column, finding in columns.items():
        other = known.setdefault(meaning(finding), column)
        if other != column:
            raise InputError(
                f"{where}: columns {other!r} and {column!r} mean the same finding; name the columns to read in "
                "source.columns.findings, with one of the two."
            )


def _refuse_twice(findings: Sequence[str]) -> None:
    twice = [f for f in dict.fromkeys(findings) if list(findings).count(f) > 1]
    if twice:
        raise InputError(f"source.columns.findings: {twice[0]!r} is given twice; give each finding once.")
