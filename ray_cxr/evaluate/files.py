"""`evaluate --predictions P --labels L`: anybody's scores and labels become `Scored`, joined by id and by finding name.

Reads: tables (CSV, TSV, plain or .gz, Parquet). Gives: `Scored`, whose `origin` lists what was matched with what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError, RefusedError, count_text
from ray_cxr.evaluate import columns as named
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.joining import (
    check_filled,
    check_ids,
    column_text,
    join,
    overlap,
    rows_text,
    shared_films,
)
from ray_cxr.evaluate.label_columns import labels_of
from ray_cxr.evaluate.matching import Table, match_columns, numbers, score_cautions
from ray_cxr.labels.cells import parse_ages, parse_sexes, parse_views
from ray_cxr.labels.source import NO_ID, whole_numbers
from ray_cxr.labels.text_table import listed, read_text_table

Rows = NDArray[np.int64]

_NIH_NAME = r"^(?:.*[/\\])?(\d{8})_\d{3}(?:\.png)?$"
_READ_GROUP = {"age": parse_ages, "sex": parse_sexes, "view": parse_views}


@dataclass(frozen=True)
class Called:
    """What messages call the two tables: the options, or whatever, that they were given by."""

    predictions: str = "--predictions"
    labels: str = "--labels"


def read_scored(
    predictions: str,
    labels: str | None,
    patients: str | None = None,
    called: Called = Called(),
    labels_else: str | None = None,
    *,
    leave_out_unlabelled: bool = False,
) -> Scored:
    """The films of the predictions with their labels; without a label table, both stand in the predictions.

    labels_else: what --labels names, taken where neither `labels` is given nor the predictions have columns that say they
    hold labels. Raises InputError: a table that cannot be read, ids or findings that do not fit, a cell that is no score or
    no label. leave_out_unlabelled: films that are not in the label table are left out and counted, where that is an error
    otherwise.
    """
    scores, truth, study = _tables(predictions, labels, called, labels_else)
    check_ids(scores.id_cells, scores.ids, scores.name)
    check_filled(scores.keys, scores.key, scores.name)
    scored_films = len(scores.frame)
    if leave_out_unlabelled:
        kept, _ = overlap(scores.keys, truth.keys)
        scores = replace(scores, frame=scores.frame.iloc[kept]) if len(kept) else scores
    matched = match_columns(scores, truth, called.labels)
    if truth is scores:
        rows, by = np.arange(len(scores.frame)), "rows of one table"
    else:
        same = truth.frame[matched.label_columns] if study else None
        joined = join(scores.keys, truth.keys, scores.name, truth.name, same)
        keys = dict.fromkeys((column_text(scores.key), column_text(truth.key)))
        rows, by = joined.rows, f"{' and '.join(keys)}: {joined.by}"
    patient_ids, patients_from = _patients(scores, truth, rows, patients)
    columns, known = matched.columns, matched.known
    values = np.stack(
        [numbers(scores.frame[c.score], c.score, scores.name) for c in columns.values()], axis=1
    )
    return Scored(
        image_ids=scores.id_cells.to_numpy(object),
        patient_ids=patient_ids,
        findings=list(columns),
        labels=np.stack([labels_of(truth.frame, known, c.label, rows, truth.name) for c in columns.values()], axis=1),
        scores=values,
        weights=_weights(scores, truth, rows),
        groups=_groups(scores, truth, rows),
        origin=matched.origin(scores, truth) | {
            "joined_by": by, "rows_of_the_label_table": len(truth.frame), "patients_from": patients_from,
            "films_without_labels": scored_films - len(scores.frame), "cautions": score_cautions(list(columns), values),
        },
        rows=scores.frame.index.to_numpy(np.int64),
    )  # fmt: skip


def _tables(
    predictions: str, labels: str | None, called: Called, labels_else: str | None
) -> tuple[Table, Table, bool]:
    name, other_name = called.predictions, called.labels
    frame = read_text_table(predictions, name)
    if labels is None and not named.label_columns(list(frame.columns)):
        labels, other_name = labels_else, Called.labels
    if labels is None:
        table = _with_ids(frame, named.id_column(list(frame.columns)), name)
        return table, table, False
    other = read_text_table(labels, other_name)
    ids = named.id_columns(list(frame.columns), list(other.columns))
    first = named.id_column(list(frame.columns)) if ids is None or ids.study else ids.left
    scores = _with_ids(frame, first, name, ids.left if ids else None)
    truth = _with_ids(other, ids.right if ids else named.id_column(list(other.columns)), other_name)
    return scores, truth, ids is not None and ids.study


def _with_ids(frame: pd.DataFrame, ids: str | None, name: str, key: str | None = None) -> Table:
    if ids is None:
        raise InputError(
            f"{name}: no column names the films (it has {listed(list(frame.columns))}); call one image_id or study_id."
        )
    twice = frame.columns[frame.columns.duplicated() & (frame.columns != "")]
    if len(twice):
        raise InputError(
            f"{name}: several columns are called {twice[0]!r}; keep one of them, or rename the others."
        )
    return Table(frame, ids, key or ids, name)


def _patients(
    scores: Table, truth: Table, rows: Rows, given: str | None
) -> tuple[NDArray[np.object_] | None, str]:
    """[N] patient ids and where they come from; None where nothing tells them."""
    if given is not None:
        return _given_patients(scores, given)
    for table, at in ((truth, rows), (scores, np.arange(len(rows)))):
        column = named.patient_column(table.names)
        if column is not None:
            return _filled(
                table.frame[column].iloc[at], column, table.name, at
            ), f"column {column!r} of {table.name}"
    ids = scores.id_cells.str.extract(_NIH_NAME, expand=False)
    if ids.notna().all():
        return ids.to_numpy(object), "file names of NIH ChestX-ray14 (the part before the underscore)"
    return None, "nothing: intervals are image-level"


def _given_patients(scores: Table, path: str) -> tuple[NDArray[np.object_], str]:
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
    ids = whole_numbers(cells, [])
    blank = np.sort(rows[ids.str.casefold().isin(NO_ID).to_numpy(bool)])
    if len(blank):
        raise InputError(
            f"{where}: column {column!r} has {count_text(len(blank), 'blank cell')} ({rows_text(blank)}); give every film its "
            "patient, or rename the column, so that intervals are image-level."
        )
    return ids.to_numpy(object)


def _weights(scores: Table, truth: Table, rows: Rows) -> NDArray[np.float64] | None:
    for table, at in ((truth, rows), (scores, np.arange(len(rows)))):
        column = named.weight_column(table.names)
        if column is not None:
            values = numbers(table.frame[column].iloc[at], column, table.name)
            if (values <= 0).any():
                raise InputError(
                    f"{table.name}: column {column!r} holds weights of 0 or less; they must be above 0."
                )
            return None if (values == values[0]).all() else values
    return None


def _groups(scores: Table, truth: Table, rows: Rows) -> pd.DataFrame:
    """Groups [N] that either table tells, the label table first; a column that says the same everywhere tells nothing."""
    groups: dict[str, pd.Series] = {}
    for table, at in ((truth, rows), (scores, np.arange(len(rows)))):
        for group, column in named.group_columns(table.names).items():
            if group not in groups:
                cells = table.frame[column].iloc[at].reset_index(drop=True)
                read = _READ_GROUP.get(group)
                groups[group] = read(cells) if read else cells.str.strip().replace("", None)
    return pd.DataFrame({name: g for name, g in groups.items() if g.nunique() > 1})


def refuse_shared(test: Scored, validation: Scored) -> None:
    """Raises RefusedError where films or patients of the validation set stand in the test set too."""
    ids = pd.Series(test.image_ids), pd.Series(validation.image_ids)
    films, patients = shared_films(*ids), 0
    if test.patient_ids is not None and validation.patient_ids is not None:
        patients = len(set(test.patient_ids) & set(validation.patient_ids))
    # The file names of NIH tell the patient, whatever a table's column calls him.
    by_name = [set(i.str.extract(_NIH_NAME, expand=False).dropna()) for i in ids]
    patients = max(patients, len(by_name[0] & by_name[1]))
    if films or patients:
        raise RefusedError(
            f"--validation-predictions: {count_text(films, 'film')} and {count_text(patients, 'patient')} are in --predictions too, so "
            "operating points would be chosen on the films that test them; give a validation set of other patients."
        )
