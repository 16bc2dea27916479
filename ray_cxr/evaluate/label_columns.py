"""Which labels a table holds, and what its cells say. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError
from ray_cxr.evaluate import columns as named
from ray_cxr.evaluate.joining import rows_text
from ray_cxr.labels.names import meaning

UNCERTAIN = ("hedge", "uncertain", "unsure", "unclear", "equivocal")
"""What a reader says who does not decide: not counted."""
_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "y", "positive"), 1.0),
    **dict.fromkeys(("0", "false", "no", "n", "negative"), 0.0),
    **dict.fromkeys(("", "-1", "nan", "na", "n/a", "none", "null", *UNCERTAIN), float("nan")),
}
_ALLOWED = "1, 0, yes, no, true, false, positive, negative; not counted are blank, -1, HEDGE and uncertain"
_SEPARATOR = "|"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LabelColumns:
    """The findings that a table labels. columns: finding → its own column; listing: the column that lists the others."""

    columns: dict[str, str]
    listing: str | None
    listed: list[str]

    @property
    def findings(self) -> list[str]:
        return [*self.columns, *self.listed]


def labelled_findings(frame: pd.DataFrame, own_columns: bool) -> LabelColumns:
    """What a table may label: columns such as label_Mass, then (`own_columns`) such as Mass, then names listed in cells.

    Of names that mean the same the first counts. A column that is no label at all does no harm until it is asked for.
    """
    names = list(frame.columns)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for entry in [*named.label_columns(names), *(named.plain_columns(names) if own_columns else ())]:
        if meaning(entry.finding) not in taken:
            found[entry.finding] = entry.column
            taken.add(meaning(entry.finding))
    listing = named.list_column(names)
    if listing is None or _is_binary(frame[listing]):
        return LabelColumns(found, None, [])
    parts = {part for cell in frame[listing].unique() for part in _parts(cell)}
    return LabelColumns(found, listing, sorted(p for p in parts if meaning(p) not in taken))


def labels_of(
    frame: pd.DataFrame, known: LabelColumns, finding: str, rows: NDArray[np.int64], where: str
) -> Floats:
    """[N] float32 labels of one finding at these rows of the table. InputError for a cell that is no label."""
    if finding in known.columns:
        return _own(frame[known.columns[finding]], known.columns[finding], rows, where)
    assert known.listing is not None
    cells = frame[known.listing].iloc[rows]
    values = {c: (float(finding in _parts(c)) if _parts(c) else np.nan) for c in cells.unique()}
    return cells.map(values).to_numpy(np.float32)


def _own(column: pd.Series, name: str, rows: NDArray[np.int64], where: str) -> Floats:
    cells = column.iloc[rows]
    values = {cell: _meaning(cell) for cell in cells.unique()}
    wrong = np.flatnonzero(cells.map({c: v is None for c, v in values.items()}).to_numpy(bool))
    if len(wrong):
        raise InputError(
            f"{where}: {len(wrong)} cells of column {name!r} are no label ({cells.iloc[wrong[0]][:20]!r} in "
            f"{rows_text(rows[wrong])}); allowed are {_ALLOWED}."
        )
    return cells.map(values).to_numpy(np.float32)


def _meaning(cell: str) -> float | None:
    word = cell.strip().casefold()
    if word in _WORDS:
        return _WORDS[word]
    try:
        return {1.0: 1.0, 0.0: 0.0, -1.0: float("nan")}.get(float(word))
    except ValueError:
        return None


def _is_binary(cells: pd.Series) -> bool:
    return all(_meaning(cell) is not None for cell in cells.unique())


def _parts(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(_SEPARATOR) if part.strip()]
