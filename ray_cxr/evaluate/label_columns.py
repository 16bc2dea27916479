"""Which labels a table holds, and what its cells say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError, count_text
from ray_cxr.evaluate import columns as named
from ray_cxr.evaluate.joining import rows_text
from ray_cxr.labels.cells import choose_separator, is_binary, label_value, one_spelling, parts
from ray_cxr.labels.names import meaning

_ALLOWED = "1, 0, yes, no, true, false, positive, negative; not counted are blank, -1, HEDGE and uncertain"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LabelColumns:
    """The findings that a table labels.

    columns: finding → its own column. listing: the column that lists the others, `listed`, in cells such as `A|B`. renamed: name
    in a cell → the name of `listed` that means the same.
    """

    columns: dict[str, str]
    listing: str | None
    listed: list[str]
    separator: str = "|"
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> list[str]:
        return [*self.columns, *self.listed]

    def named_in(self, cell: str) -> set[str]:
        """The findings that a cell of the listing names."""
        return {self.renamed.get(part, part) for part in parts(cell, self.separator)}


def labelled_findings(frame: pd.DataFrame, own_columns: bool) -> LabelColumns:
    """What a table may label: columns such as label_Mass, then (`own_columns`) such as Mass, then names listed in cells.

    Of names that mean the same the first counts; InputError where their cells contradict each other. A column that is no
    label at all does no harm until it is asked for.
    """
    names = list(frame.columns)
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for entry in [*named.label_columns(names), *(named.plain_columns(names) if own_columns else ())]:
        first = taken.setdefault(meaning(entry.finding), entry.column)
        if first == entry.column:
            found[entry.finding] = entry.column
        else:
            _refuse_contradiction(frame, first, entry.column)
    listing = named.list_column(names)
    if listing is None or is_binary(frame[listing], uncertain_words=True):
        return LabelColumns(found, None, [])
    cells = frame[listing]
    separator = choose_separator(cells)
    known = LabelColumns(found, listing, [], separator, one_spelling(cells, separator))
    listed = {name for cell in cells.unique() for name in known.named_in(cell)}
    known.listed.extend(sorted(name for name in listed if meaning(name) not in taken))
    return known


def _refuse_contradiction(frame: pd.DataFrame, first: str, second: str) -> None:
    """InputError where two columns of one finding are labels both, and differ."""
    if not all(is_binary(frame[c], uncertain_words=True) for c in (first, second)):
        return
    one, other = (
        frame[c].map(lambda cell: label_value(cell, uncertain_words=True)).fillna(-1) for c in (first, second)
    )
    differ = int((one != other).sum())
    if differ:
        raise InputError(
            f"labels: the columns {first!r} and {second!r} name one finding and differ in {count_text(differ, 'data row')}; "
            "keep one of them."
        )


def labels_of(
    frame: pd.DataFrame, known: LabelColumns, finding: str, rows: NDArray[np.int64], where: str
) -> Floats:
    """[N] float32 labels of one finding at these rows of the table. InputError for a cell that is no label."""
    if finding in known.columns:
        return _own(frame[known.columns[finding]], known.columns[finding], rows, where)
    assert known.listing is not None
    cells = frame[known.listing].iloc[rows]
    named_in = {cell: known.named_in(cell) for cell in cells.unique()}
    values = {cell: float(finding in names) if names else np.nan for cell, names in named_in.items()}
    return cells.map(values).to_numpy(np.float32)


def _own(column: pd.Series, name: str, rows: NDArray[np.int64], where: str) -> Floats:
    cells = column.iloc[rows]
    values = {cell: label_value(cell, uncertain_words=True) for cell in cells.unique()}
    wrong = np.sort(rows[cells.map({c: v is None for c, v in values.items()}).to_numpy(bool)])
    if len(wrong):
        held = count_text(len(wrong), "cell that is no label", "cells that are no label")
        raise InputError(
            f"{where}: column {name!r} has {held} ({column.iloc[wrong[0]][:20]!r} in {rows_text(wrong)}); allowed are {_ALLOWED}."
        )
    return cells.map(values).to_numpy(np.float32)
