"""`evaluate --predictions P --labels L`: anybody's scores and labels become `Scored`, joined by id and by finding name.

Reads: tables (CSV, TSV, plain or .gz, Parquet). Gives: `Scored`, whose `origin` lists what was matched with what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.evaluate import columns as named
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.joining import check_ids, join, overlap, rows_text
from ray_cxr.evaluate.label_columns import LabelColumns, labelled_findings, labels_of
from ray_cxr.labels.cells import parse_ages, parse_sexes, parse_views
from ray_cxr.labels.names import match_findings
from ray_cxr.labels.text_table import listed, read_text_table

Rows = NDArray[np.int64]

_NIH_NAME = r"^(?:.*[/\\])?(\d{8})_\d{3}(?:\.png)?$"
_READ_GROUP = {"age": parse_ages, "sex": parse_sexes, "view": parse_views}


@dataclass(frozen=True)
class _Table:
    """A table of text, its column of ids, and how messages call it. The frame's index is the row in the file, from 0."""

    frame: pd.DataFrame
    ids: str
    name: str

    @property
    def id_cells(self) -> pd.Series:
        return self.frame[self.ids].str.strip()


def read_scored(
    predictions: str,
    labels: str | None,
    patients: str | None = None,
    flag: str = "",
    labels_else: str | None = None,
    *,
    leave_out_unlabelled: bool = False,
) -> Scored:
    """The films of the predictions with their labels; without a label table, both stand in the predictions.

    flag: "validation-" stands before the options' names in messages. labels_else: the label table where neither `labels` is
    given nor the predictions have columns that say they hold labels. Raises InputError: a table that cannot be read, ids
    or findings that do not fit, a cell that is no score or no label. leave_out_unlabelled: films that are not in the label
    table are left out and counted, where that is an error otherwise.
    """
    scores, truth, study = _tables(predictions, labels, flag, labels_else)
    check_ids(scores.id_cells, scores.ids, scores.name)
    scored_films = len(scores.frame)
    if leave_out_unlabelled:
        kept, _ = overlap(scores.id_cells, truth.id_cells)
        scores = replace(scores, frame=scores.frame.iloc[kept]) if len(kept) else scores
    if truth is scores:
        rows, by = np.arange(len(scores.frame)), "both in one table"
    else:
        joined = join(
            scores.id_cells, truth.id_cells, scores.name, truth.name, _labels_only(truth) if study else None
        )
        rows, by = joined.rows, f"{scores.ids} and {truth.ids}: {joined.by}"
    known = labelled_findings(truth.frame, own_columns=truth is not scores or bool(_marked(scores)))
    columns = _matched(scores, truth, known)
    patient_ids, patients_from = _patients(scores, truth, rows, patients)
    return Scored(
        image_ids=scores.id_cells.to_numpy(object),
        patient_ids=patient_ids,
        findings=list(columns),
        labels=np.stack([labels_of(truth.frame, known, c.label, rows, truth.name) for c in columns.values()], axis=1),
        scores=np.stack([_numbers(scores.frame[c.score], c.score, scores.name) for c in columns.values()], axis=1),
        weights=_weights(scores, truth, rows),
        groups=_groups(scores, truth, rows),
        origin=_origin(columns, scores, known) | {
            "joined_by": by, "rows_of_the_label_table": len(truth.frame), "patients_from": patients_from,
            "films_without_labels": scored_films - len(scores.frame),
        },
        rows=scores.frame.index.to_numpy(np.int64),
    )  # fmt: skip


def _tables(
    predictions: str, labels: str | None, flag: str, labels_else: str | None
) -> tuple[_Table, _Table, bool]:
    name = f"--{flag}predictions"
    frame = read_text_table(predictions, name)
    if labels is None and not named.label_columns(list(frame.columns)):
        labels = labels_else
    if labels is None:
        table = _with_ids(frame, named.id_column(list(frame.columns)), name)
        return table, table, False
    other = read_text_table(labels, f"--{flag}labels")
    ids = named.id_columns(list(frame.columns), list(other.columns))
    scores = _with_ids(frame, ids.left if ids else named.id_column(list(frame.columns)), name)
    truth = _with_ids(other, ids.right if ids else named.id_column(list(other.columns)), f"--{flag}labels")
    return scores, truth, ids is not None and ids.study


def _with_ids(frame: pd.DataFrame, ids: str | None, name: str) -> _Table:
    if ids is None:
        raise InputError(
            f"{name}: no column names the films (it has {listed(list(frame.columns))}); call one image_id or study_id."
        )
    twice = frame.columns[frame.columns.duplicated() & (frame.columns != "")]
    if len(twice):
        raise InputError(
            f"{name}: several columns are called {twice[0]!r}; keep one of them, or rename the others."
        )
    return _Table(frame, ids, name)


def _labels_only(truth: _Table) -> pd.DataFrame:
    """What rows of one study must agree in."""
    known = labelled_findings(truth.frame, own_columns=False)
    columns = [*known.columns.values(), *([known.listing] if known.listing else [])]
    own = [c.column for c in named.plain_columns(list(truth.frame.columns))]
    return truth.frame[[*columns, *(c for c in own if truth.frame[c].nunique() <= 4)]]


@dataclass(frozen=True)
class _Columns:
    """Where one finding stands: its column of scores, and its name in the label table."""

    score: str
    label: str


def _marked(scores: _Table) -> list[named.Named]:
    return named.score_columns(list(scores.frame.columns))


def _matched(scores: _Table, truth: _Table, known: LabelColumns) -> dict[str, _Columns]:
    """Finding (as the predictions call it) → where it stands, in the order of the predictions' columns."""
    candidates = _marked(scores) or (
        named.plain_columns(list(scores.frame.columns)) if truth is not scores else []
    )
    by_name = {c.finding: c.column for c in candidates}
    if len(by_name) < len(candidates):
        raise InputError(f"{scores.name}: several columns hold scores of one finding; keep one of them.")
    matched = match_findings(list(by_name), known.findings)
    if not matched:
        hint = (
            "give --labels, or label columns such as label_Mass"
            if truth is scores
            else "call them by the same names"
        )
        raise InputError(
            f"{scores.name}: none of its findings ({listed(list(by_name))}) is labelled in {truth.name} "
            f"({listed(known.findings)}); {hint}."
        )
    return {finding: _Columns(by_name[finding], label) for finding, label in matched.items()}


def _origin(columns: dict[str, _Columns], scores: _Table, known: LabelColumns) -> dict[str, Any]:
    """What was matched with what, and what was left over."""
    labels = {c.label for c in columns.values()}
    own = {f for f in known.columns if f in labels}
    return {
        "matched": {
            finding: {"score": c.score, "label": known.columns[c.label] if c.label in own else f"{known.listing}: {c.label}"}
            for finding, c in columns.items()
        },
        "scored_without_labels": [n.finding for n in _marked(scores) if n.finding not in columns],
        "labelled_without_scores": [f for f in known.listed if f not in labels],
    }  # fmt: skip


def _numbers(cells: pd.Series, column: str, where: str) -> NDArray[np.float64]:
    """[N] float64 scores; every cell must be a finite number."""
    try:
        values = cells.to_numpy(object).astype(np.float64)
    except ValueError:
        values = np.array([_number(c) for c in cells])
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InputError(
            f"{where}: {len(wrong)} cells of column {column!r} are no finite number ({cells.iloc[wrong[0]][:20]!r} in "
            f"{rows_text(cells.index.to_numpy()[wrong])}); give every film a score, or take its row out."
        )
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _patients(
    scores: _Table, truth: _Table, rows: Rows, given: str | None
) -> tuple[NDArray[np.object_] | None, str]:
    """[N] patient ids and where they come from; None where nothing tells them."""
    if given is not None:
        return _given_patients(scores, given)
    for table, at in ((truth, rows), (scores, np.arange(len(rows)))):
        column = named.patient_column(list(table.frame.columns))
        if column is not None:
            return _filled(
                table.frame[column].iloc[at], column, table.name, at
            ), f"column {column!r} of {table.name}"
    ids = scores.id_cells.str.extract(_NIH_NAME, expand=False)
    if ids.notna().all():
        return ids.to_numpy(object), "file names of NIH ChestX-ray14 (the part before the underscore)"
    return None, "nothing: intervals are image-level"


def _given_patients(scores: _Table, path: str) -> tuple[NDArray[np.object_], str]:
    frame = read_text_table(path, "--patients")
    ids = named.id_columns(list(scores.frame.columns), list(frame.columns))
    column = named.patient_column(list(frame.columns))
    if ids is None or column is None:
        raise InputError(
            f"--patients: {path!r} has the columns {listed(list(frame.columns))}; it needs image_id and patient_id."
        )
    left, right = scores.frame[ids.left].str.strip(), frame[ids.right].str.strip()
    found = join(left, right, scores.name, "--patients", frame[[column]])
    return _filled(frame[column].iloc[found.rows], column, "--patients", found.rows), "--patients"


def _filled(cells: pd.Series, column: str, where: str, rows: Rows) -> NDArray[np.object_]:
    blank = np.flatnonzero(cells.str.strip() == "")
    if len(blank):
        raise InputError(
            f"{where}: {len(blank)} cells of column {column!r} are blank ({rows_text(rows[blank])}); give every film its "
            "patient, or rename the column, so that intervals are image-level."
        )
    return cells.str.strip().to_numpy(object)


def _weights(scores: _Table, truth: _Table, rows: Rows) -> NDArray[np.float64] | None:
    for table, at in ((truth, rows), (scores, np.arange(len(rows)))):
        column = named.weight_column(list(table.frame.columns))
        if column is not None:
            values = _numbers(table.frame[column].iloc[at], column, table.name)
            if (values <= 0).any():
                raise InputError(
                    f"{table.name}: column {column!r} holds weights of 0 or less; they must be above 0."
                )
            return None if (values == values[0]).all() else values
    return None


def _groups(scores: _Table, truth: _Table, rows: Rows) -> pd.DataFrame:
    """Groups [N] that either table tells, the label table first; a column that says the same everywhere tells nothing."""
    groups: dict[str, pd.Series] = {}
    for table, at in ((truth, rows), (scores, np.arange(len(rows)))):
        for group, column in named.group_columns(list(table.frame.columns)).items():
            if group not in groups:
                cells = table.frame[column].iloc[at].reset_index(drop=True)
                read = _READ_GROUP.get(group)
                groups[group] = read(cells) if read else cells.str.strip().replace("", None)
    return pd.DataFrame({name: g for name, g in groups.items() if g.nunique() > 1})


def refuse_shared(test: Scored, validation: Scored) -> None:
    """Raises RefusedError where films or patients of the validation set stand in the test set too."""
    films = len(set(test.image_ids) & set(validation.image_ids))
    patients = 0
    if test.patient_ids is not None and validation.patient_ids is not None:
        patients = len(set(test.patient_ids) & set(validation.patient_ids))
    if films or patients:
        raise RefusedError(
            f"--validation-predictions: {films} films and {patients} patients are in --predictions too, so operating points "
            "would be chosen on the films that test them; give a validation set of other patients."
        )
