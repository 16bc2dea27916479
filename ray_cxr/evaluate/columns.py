"""What the columns of somebody's table are: ids, scores, labels, patients, groups. By name, never by position. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ray_cxr.labels.names import spelling

ID_NAMES = {
    "image": (
        "image id", "image index", "image", "image name", "image file", "image path", "filename", "file name", "file", "path",
        "film", "film id", "film name", "dicom id", "dicom", "sop instance uid", "sopinstanceuid", "sop", "img", "img id", "fname",
        "imageid", "image uid",
    ),
    "study": ("study id", "study", "study instance uid", "studyinstanceuid", "study uid", "exam id", "exam", "accession number"),
    "row": ("id", "uid", "name", "index", ""),
}  # fmt: skip
"""Spellings of columns that name a film, a study, or either; the surest first. One without a name is somebody's index."""
PATIENT_NAMES = ("patient id", "patientid", "patient", "subject id", "subject", "patient uid", "person id")
GROUP_NAMES = {
    "sex": ("sex", "gender", "patient gender", "patient sex", "patientsex"),
    "age": ("age", "patient age", "patientage", "age years"),
    "view": ("view", "view position", "viewposition", "projection", "ap pa", "ap/pa"),
    "source": ("source", "site", "hospital", "institution", "center", "centre", "dataset"),
    "scanner": (
        "scanner",
        "manufacturer",
        "device",
        "machine",
        "model name",
        "manufacturer model name",
        "modality",
    ),
}
WEIGHT_NAMES = ("sampling weight",)
LIST_NAMES = ("finding labels", "findings", "labels", "label", "finding", "diagnosis", "diagnoses")
"""Columns whose cells name the findings of a film: `A|B|C`."""

_SCORE_WORDS = (
    "prob", "probs", "probability", "p", "pred", "preds", "prediction", "predicted", "score", "scores", "logit", "logits", "output",
    "sigmoid", "y pred", "y prob", "y score", "yhat", "y hat",
)  # fmt: skip
_LABEL_WORDS = ("label", "labels", "true", "truth", "target", "gt", "ground truth", "y true", "actual", "y")


@dataclass(frozen=True)
class Named:
    """A column and the name of a finding that stands in it."""

    column: str
    finding: str


@dataclass(frozen=True)
class Ids:
    """The columns by which two tables are joined; `study` where rows are studies."""

    left: str
    right: str
    study: bool


def id_columns(left: Sequence[str], right: Sequence[str]) -> Ids | None:
    """Columns that name the same kind of thing in both tables, else the surest of each; None where one has none."""
    for kind, names in ID_NAMES.items():
        here, there = _first(left, names), _first(right, names)
        if here is not None and there is not None:
            return Ids(here, there, kind == "study")
    first, second = id_column(left), id_column(right)
    return None if first is None or second is None else Ids(first, second, False)


def id_column(columns: Sequence[str]) -> str | None:
    """The surest column that names the rows of a table; None where there is none."""
    return _first(columns, [name for names in ID_NAMES.values() for name in names])


def is_id(column: str) -> bool:
    """Whether a column's name is one that names films or studies."""
    return any(_plain(column) in names for names in ID_NAMES.values())


def patient_column(columns: Sequence[str]) -> str | None:
    """The column with patient ids; None where there is none."""
    return _first(columns, PATIENT_NAMES)


def weight_column(columns: Sequence[str]) -> str | None:
    """The column with sampling weights; None where there is none."""
    return _first(columns, WEIGHT_NAMES)


def group_columns(columns: Sequence[str]) -> dict[str, str]:
    """What films can be grouped by → its column."""
    found = {group: _first(columns, names) for group, names in GROUP_NAMES.items()}
    return {group: column for group, column in found.items() if column is not None}


def score_columns(columns: Sequence[str]) -> list[Named]:
    """Columns that say they hold scores, such as prob_Mass or Mass_pred; empty where none does."""
    return _marked(columns, _SCORE_WORDS)


def label_columns(columns: Sequence[str]) -> list[Named]:
    """Columns that say they hold labels, such as label_Mass or Mass_true; empty where none does."""
    return _marked(columns, _LABEL_WORDS)


def plain_columns(columns: Sequence[str]) -> list[Named]:
    """Columns that may be named after a finding alone: neither ids nor groups, nor marked as scores or labels."""
    described = [*PATIENT_NAMES, *WEIGHT_NAMES, *LIST_NAMES]
    described += [name for names in (*ID_NAMES.values(), *GROUP_NAMES.values()) for name in names]
    taken = {n.column for n in (*score_columns(columns), *label_columns(columns))}
    return [Named(c, c) for c in columns if c not in taken and _plain(c) not in described]


def list_column(columns: Sequence[str]) -> str | None:
    """The column whose cells list findings; None where there is none."""
    return _first(columns, LIST_NAMES)


def _first(columns: Sequence[str], names: Sequence[str]) -> str | None:
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(_plain(column), column)
    return next((by_name[name] for name in names if name in by_name), None)


def _plain(column: str) -> str:
    """The spelling of a column's name; that of an index which pandas wrote without a name is empty."""
    text = re.sub(r"^(unnamed: ?\d+|__index_level_\d+__)$", "", column.strip().casefold())
    return re.sub(r"(?<=[a-z])#", "", spelling(text)).strip()


def _marked(columns: Sequence[str], words: Sequence[str]) -> list[Named]:
    found = []
    for column in columns:
        finding = _without(column.strip(), words)
        if finding is not None:
            found.append(Named(column, finding))
    return found


def _without(column: str, words: Sequence[str]) -> str | None:
    """The rest of a column's name, where one of the words stands before or after it; None where none does."""
    either = "|".join(w.replace(" ", r"[\s_]") for w in sorted(words, key=len, reverse=True))
    gap = r"[\s_\-:.]+"
    match = re.fullmatch(rf"(?:{either}){gap}(.+)", column, re.IGNORECASE) or re.fullmatch(
        rf"(.+?){gap}(?:{either})", column, re.IGNORECASE
    )
    return match.group(1) if match else None
