"""Reads windows of encoded films from shards, whole row groups at a time.

Reads: `shards/<split>/part-*.parquet`. Gives: Arrow tables of encoded films in the order of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_cxr.axes import Rows
from ray_cxr.errors import InputError
from ray_cxr.storage import Folder
from ray_cxr.stream.layout import Layout


def read_window(dataset: Folder, layout: Layout, positions: Rows) -> pa.Table:
    """One column `film` (binary) for the films at these positions of the layout, in this order.

    Raises InputError where a shard is missing, damaged or shorter than the index says.
    """
    tables, starts, length = [], {}, 0
    groups = np.unique(layout.group[positions])
    for path, numbers in _by_shard(layout, groups):
        table = _read_groups(dataset, path, [layout.groups[g][1] for g in numbers])
        first = length
        for g in numbers:
            starts[g] = first
            first += int(np.searchsorted(layout.group, g, "right") - np.searchsorted(layout.group, g, "left"))
        if first - length != table.num_rows:
            raise InputError(_damaged(path, f"{table.num_rows} films where the index says {first - length}"))
        length = first
        tables.append(table)
    lookup = np.zeros(int(groups[-1]) + 1, np.int64)
    lookup[groups] = [starts[g] for g in groups]
    wanted = lookup[layout.group[positions]] + layout.row_in_group[positions]
    films = pa.concat_tables(tables).combine_chunks().take(pa.array(wanted))
    wrong = np.flatnonzero(films["image_id"].to_numpy(zero_copy_only=False) != layout.image_ids[positions])
    if len(wrong):
        path = layout.groups[layout.group[positions[wrong[0]]]][0]
        raise InputError(
            _damaged(path, f"another film lies where the index says row {layout.rows[positions[wrong[0]]]}")
        )
    return films.select(["film"])


def _by_shard(layout: Layout, groups: Rows) -> Iterator[tuple[str, list[int]]]:
    """Groups (ascending) by the shard that they lie in."""
    path, numbers = "", list[int]()
    for g in groups.tolist():
        if layout.groups[g][0] != path:
            if numbers:
                yield path, numbers
            path, numbers = layout.groups[g][0], []
        numbers.append(g)
    if numbers:
        yield path, numbers


def _read_groups(dataset: Folder, path: str, row_groups: list[int]) -> pa.Table:
    try:
        with dataset.open(path) as file:
            shard = pq.ParquetFile(file, page_checksum_verification=True)
            return shard.read_row_groups(row_groups, columns=["image_id", "film"], use_threads=False)
    except FileNotFoundError:
        raise InputError(_damaged(path, "it is not there")) from None
    except (OSError, pa.ArrowInvalid, IndexError) as error:
        raise InputError(_damaged(path, str(error).splitlines()[0])) from None


def _damaged(path: str, what: str) -> str:
    return f"shard {path} cannot be read ({what}); prepare the data set again."
