"""Where the films of one split lie, as the plan needs it: row groups in shard order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from ray_cxr.axes import Rows
from ray_cxr.shards.texts import as_arrow


@dataclass(frozen=True)
class Layout:
    """The films of a split in shard order; a film's position here is 0..N-1.

    rows [N]: row numbers in the index. image_ids [N]: what the shard must hold there, as its column has it: as Python's strings
    they would take four times the memory.
    group [N]: number of the row group that holds it, never falling.
    row_in_group [N]: where it lies among all films of its row group, which may hold films of other sets: folds are cut
    across shards. groups: (shard path, row group in it) by group number. group_films [G]: how many films each of them
    holds, whatever set they are in.
    """

    rows: Rows
    image_ids: pa.Array
    group: Rows
    row_in_group: Rows
    groups: list[tuple[str, int]]
    group_films: Rows

    @cached_property
    def row_in_kept(self) -> Rows:
        """[N] where each film lies among those of its row group that are in this layout."""
        return np.arange(self.films) - np.searchsorted(self.group, self.group)

    @property
    def films(self) -> int:
        return len(self.rows)


def split_layout(index: pd.DataFrame, split: str) -> Layout:
    """The layout of a split, from `index.parquet`."""
    rows = np.flatnonzero(index["split"] == split)
    # Paths are sorted once each, not once a film.
    coded, found = pd.factorize(index["shard"])
    paths = np.asarray(found, dtype=str)
    row_group, row = index["row_group"].to_numpy(np.int64), index["row"].to_numpy(np.int64)
    groups_a_shard = int(row_group.max(initial=0)) + 1
    key = np.argsort(np.argsort(paths))[coded] * groups_a_shard + row_group
    in_group = np.bincount(key)
    rows = rows[np.lexsort((row[rows], key[rows]))]
    key = key[rows]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    group = np.repeat(np.arange(len(starts)), np.diff([*starts, len(key)]))
    names = np.sort(paths).tolist()
    groups = [(names[k // groups_a_shard], k % groups_a_shard) for k in key[starts].tolist()]
    image_ids = as_arrow(index["image_id"].iloc[rows], pa.string())
    return Layout(rows, image_ids, group, row[rows], groups, in_group[key[starts]])
