"""Where the films of one split lie, as the plan needs it: row groups in shard order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ray_cxr.axes import Rows


@dataclass(frozen=True)
class Layout:
    """The films of a split in shard order; a film's position here is 0..N-1.

    rows [N]: row numbers in the index. image_ids [N]: what the shard must hold there.
    group [N]: number of the row group that holds it, never falling.
    row_in_group [N]: where it lies among all films of its row group, which may hold films of other sets: folds are cut
    across shards. groups: (shard path, row group in it) by group number. group_films [G]: how many films each of them
    holds, whatever set they are in.
    """

    rows: Rows
    image_ids: NDArray[np.object_]
    group: Rows
    row_in_group: Rows
    groups: list[tuple[str, int]]
    group_films: Rows

    @cached_property
    def arrow_ids(self) -> pa.Array:
        """`image_ids` as a shard's column holds them."""
        return pa.array(self.image_ids)

    @cached_property
    def row_in_kept(self) -> Rows:
        """[N] where each film lies among those of its row group that are in this layout."""
        return np.arange(self.films) - np.searchsorted(self.group, self.group)

    @property
    def films(self) -> int:
        return len(self.rows)


def split_layout(index: pd.DataFrame, split: str) -> Layout:
    """The layout of a split, from `index.parquet`."""
    beside = index.groupby(["shard", "row_group"], sort=False)["row"].transform("size").to_numpy(np.int64)
    place = index.loc[index["split"] == split, ["shard", "row_group", "row", "image_id"]]
    rows = place.index.to_numpy(np.int64)
    shards, number = np.unique(place["shard"].to_numpy(str), return_inverse=True)
    row_group, row = place["row_group"].to_numpy(np.int64), place["row"].to_numpy(np.int64)
    order = np.lexsort((row, row_group, number))
    pairs = np.stack([number[order], row_group[order]])
    starts = np.flatnonzero(np.any(np.diff(pairs, axis=1, prepend=-1), axis=0))
    group = np.repeat(np.arange(len(starts)), np.diff([*starts, len(order)]))
    groups = [(str(shards[pairs[0, s]]), int(pairs[1, s])) for s in starts]
    group_films = beside[np.flatnonzero(index["split"] == split)][order][starts]
    image_ids = place["image_id"].to_numpy(object)[order]
    return Layout(rows[order], image_ids, group, row[order], groups, group_films)
