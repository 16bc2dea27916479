"""Which columns of two tables hold the scores and the labels of one finding, and which are left over. Pure.

Columns go by the names of findings, never by position; what is left over is listed, because it stands in no figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError, count_text
from ray_cxr.evaluate import columns as named
from ray_cxr.evaluate.joining import column_text, rows_text
from ray_cxr.evaluate.label_columns import LabelColumns, labelled_findings
from ray_cxr.labels.cells import is_binary
from ray_cxr.labels.names import match_findings
from ray_cxr.labels.text_table import listed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """A table of text, and how messages call it. The frame's index is the row in the file, from 0.

    ids: the column that names its rows. key: the column by which it is joined, another one where films have their study's labels.
    """

    frame: pd.DataFrame
    ids: str
    key: str
    name: str

    @property
    def names(self) -> list[str]:
        return list(self.frame.columns)

    @property
    def id_cells(self) -> pd.Series:
        return self.frame[self.ids].str.strip()

    @property
    def keys(self) -> pd.Series:
        return self.frame[self.key].str.strip()


@dataclass(frozen=True)
class Columns:
    """Where one finding stands: its column of scores, and its name in the label table."""

    score: str
    label: str


@dataclass(frozen=True)
class Matched:
    """columns: finding, as the predictions call it → where it stands, in the order of the predictions' columns."""

    columns: dict[str, Columns]
    known: LabelColumns

    @property
    def label_columns(self) -> list[str]:
        """The columns of the label table that are read."""
        own = [self.known.columns.get(c.label, self.known.listing) for c in self.columns.values()]
        return list(dict.fromkeys(column for column in own if column is not None))

    def origin(self, scores: Table, truth: Table) -> dict[str, Any]:
        """What was matched with what, and what was left over, for `metrics.json` and the report. No ids."""
        own, listing = self.known.columns, self.known.listing
        labels = {c.label for c in self.columns.values()}
        return {
            "matched": {
                finding: {"score": c.score, "label": own.get(c.label, f"{listing}: {c.label}"), "labelled_as": c.label}
                for finding, c in self.columns.items()
            },
            "labels_listed_in": listing if labels & set(self.known.listed) else None,
            "listed_with": self.known.separator,
            "scored_without_labels": [n.finding for n in marked(scores) if n.finding not in self.columns],
            "labelled_without_scores": [*self._other_labels(truth, labels), *(f for f in self.known.listed if f not in labels)],
            "unused_numeric_columns": list(self._unused(scores, truth)),
        }  # fmt: skip

    def _other_labels(self, truth: Table, labels: set[str]) -> Iterator[str]:
        for finding, column in self.known.columns.items():
            if finding not in labels and is_binary(truth.frame[column], uncertain_words=True):
                yield finding

    def _unused(self, scores: Table, truth: Table) -> Iterator[str]:
        """Columns of numbers in the predictions that stand for nothing: no score, label, id, patient, weight or group."""
        used = {named.patient_column(scores.names), named.weight_column(scores.names)}
        used |= {c.score for c in self.columns.values()} | set(named.group_columns(scores.names).values())
        used |= {n.column for n in marked(scores)}  # those are listed as scores
        if truth is scores:
            used |= set(self.known.columns.values())
        for column in scores.names:
            if column not in used and not named.is_id(column) and _numeric(scores.frame[column]):
                yield column


def marked(scores: Table) -> list[named.Named]:
    """Columns that say they hold scores."""
    return named.score_columns(scores.names)


def match_columns(scores: Table, truth: Table, labels: str) -> Matched:
    """The findings that are scored and labelled; labels: the option that names a label table. InputError where there is none, or one finding has several columns."""
    same = truth is scores
    said = marked(scores)
    plain = not same or named.label_columns(scores.names)  # columns named after findings alone may be scores
    candidates = said or (named.plain_columns(scores.names) if plain else [])
    by_name = {c.finding: c.column for c in candidates}
    if len(by_name) < len(candidates):
        raise InputError(f"{scores.name}: several columns hold scores of one finding; keep one of them.")
    known = labelled_findings(truth.frame, own_columns=not same or bool(said))
    if not known.findings:
        raise _no_labels(scores, truth, labels)
    if not by_name:
        raise InputError(
            f"{scores.name}: no column holds scores (it has {listed(scores.names)}); name them by finding, such as prob_Mass."
        )
    matched = match_findings(list(by_name), known.findings)
    if not matched:
        where = "the same table" if same else truth.name
        raise InputError(
            f"{scores.name}: none of its findings ({listed(list(by_name))}) is labelled in {where} ({listed(known.findings)}); "
            "call them by the same names."
        )
    return Matched({finding: Columns(by_name[finding], label) for finding, label in matched.items()}, known)


def _no_labels(scores: Table, truth: Table, labels: str) -> InputError:
    if truth is scores:
        return InputError(
            f"{scores.name}: it holds no labels; give {labels}, or a column of labels beside each column of scores, such as "
            "label_Mass beside prob_Mass."
        )
    bare = named.list_column(truth.names)
    if bare is not None and is_binary(truth.frame[bare], uncertain_words=True):
        return InputError(
            f"{truth.name}: column {bare!r} holds labels, but does not say of which finding; call it by the finding, such as Mass."
        )
    return InputError(
        f"{truth.name}: it labels no finding (it has {listed(truth.names)}); it needs a column for each finding, such as Mass "
        "with 0 and 1, or one that lists them, such as 'Finding Labels' with Mass|Edema."
    )


def numbers(cells: pd.Series, column: str, where: str) -> Floats:
    """[N] float64 scores; every cell must be a finite number, else InputError."""
    try:
        values = cells.to_numpy(object).astype(np.float64)
    except ValueError:
        values = np.array([_number(c) for c in cells])
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        first = cells.iloc[wrong[0]]
        comma = " with a point, not a comma" if np.isfinite(_number(first.replace(",", "."))) else ""
        held = count_text(len(wrong), "cell that is no finite number", "cells that are no finite number")
        raise InputError(
            f"{where}: {column_text(column)} has {held} ({first[:20]!r} in {rows_text(np.sort(cells.index.to_numpy()[wrong]))}); "
            f"give every film a score{comma}, or take its row out."
        )
    return values


def score_cautions(findings: list[str], scores: Floats) -> list[str]:
    """What is odd about scores [N, F] and would make figures say nothing, in sentences; empty where nothing is."""
    kinds = {f: np.unique(scores[:, n]) for n, f in enumerate(findings)}
    constant = [f for f, values in kinds.items() if len(values) == 1 < len(scores)]
    decisions = [f for f, values in kinds.items() if values.tolist() == [0, 1]]
    said = []
    if constant:
        said.append(
            f"every film has the same score: {', '.join(constant)}; such an AUROC is 0.5 whatever the films show"
        )
    if decisions:
        said.append(
            f"the scores are 0 and 1 only: {', '.join(decisions)}; if they are decisions or labels, and no scores, their AUROC is "
            "that of one threshold"
        )
    return said


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _numeric(cells: pd.Series) -> bool:
    there = cells[cells.str.strip() != ""]
    return len(there) > 0 and bool(np.isfinite([_number(c) for c in there.unique()]).all())
