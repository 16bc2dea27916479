"""Reads encoded films from shards, whole row groups and each once, and puts windows of them in the plan's order.

Reads: `shards/<split>/part-*.parquet`. Gives: Arrow tables of encoded films in the order of the plan.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_cxr.axes import Rows
from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.storage import Folder
from ray_cxr.stream.layout import Layout

RETRY_AFTER_S = (0.5, 2.0, 8.0)
"""Pauses before storage that failed is asked again; after the last failure the job ends."""


@dataclass
class ReadHealth:
    """How often storage failed and was asked again."""

    retries: int = 0


def new_groups(layout: Layout, windows: Sequence[Rows]) -> list[Rows]:
    """For each window of positions the row groups that it needs and no window before it did, ascending."""
    seen = np.zeros(len(layout.groups), bool)
    reads = []
    for window in windows:
        groups = np.unique(layout.group[window])
        reads.append(groups[~seen[groups]])
        seen[groups] = True
    return reads


def read_groups(dataset: Folder, layout: Layout, groups: Rows) -> pa.Table:
    """Columns `image_id`, `film` (binary) of these row groups (ascending), one after the other, and `retries`.

    `retries` says in the first row of each shard how often storage failed before it gave it, and is 0 elsewhere.
    Raises InputError where a shard is missing, damaged or shorter than the index says, or storage goes on failing.
    """
    tables = []
    for path, numbers in _by_shard(layout, groups):
        table, retries = _read_groups(dataset, path, [layout.groups[g][1] for g in numbers])
        films = int(_sizes(layout, np.array(numbers)).sum())
        if films != table.num_rows:
            raise InputError(_damaged(path, f"{table.num_rows} films where the index says {films}"))
        counts = np.zeros(films, np.int32)
        counts[0] = retries
        tables.append(table.append_column("retries", pa.array(counts)))
    return pa.concat_tables(tables)


def in_windows(
    layout: Layout, windows: Sequence[Rows], tables: Iterable[pa.Table], health: ReadHealth | None = None
) -> Iterator[pa.Table]:
    """One column `film` per window, its films in the order of its positions.

    tables: what `read_groups` gives for `new_groups`, one after the other, cut anywhere. A row group that a later window
    needs too is kept until then. Raises InputError where another film lies than the index says.
    """
    reads = new_groups(layout, windows)
    last_use = np.zeros(len(layout.groups), np.int64)
    for number, window in enumerate(windows):
        last_use[layout.group[window]] = number
    source, kept = _Cut(tables, health or ReadHealth()), dict[int, pa.Table]()
    for number, (window, read) in enumerate(zip(windows, reads, strict=True)):
        for group, size in zip(read.tolist(), _sizes(layout, read).tolist(), strict=True):
            kept[group] = source.take(size)
        yield _arranged(layout, window, kept)
        for group in [g for g in kept if last_use[g] <= number]:
            del kept[group]


def _arranged(layout: Layout, window: Rows, kept: dict[int, pa.Table]) -> pa.Table:
    groups = np.unique(layout.group[window])
    starts = np.zeros(int(groups[-1]) + 1, np.int64)
    starts[groups] = np.cumsum([0, *_sizes(layout, groups)[:-1]])
    wanted = starts[layout.group[window]] + layout.row_in_group[window]
    films = pa.concat_tables([kept[g] for g in groups.tolist()]).combine_chunks().take(pa.array(wanted))
    wrong = np.flatnonzero(films["image_id"].to_numpy(zero_copy_only=False) != layout.image_ids[window])
    if len(wrong):
        path = layout.groups[layout.group[window[wrong[0]]]][0]
        raise InputError(
            _damaged(path, f"another film lies where the index says row {layout.rows[window[wrong[0]]]}")
        )
    return films.select(["film"])


class _Cut:
    """Takes rows, as many as asked for, from tables that are cut anywhere."""

    def __init__(self, tables: Iterable[pa.Table], health: ReadHealth) -> None:
        self.tables, self.rest = iter(tables), list[pa.Table]()
        self.rows, self.health = 0, health

    def take(self, rows: int) -> pa.Table:
        """The next `rows` rows. RayCxrError where the reader ends before."""
        while self.rows < rows:
            table = next(self.tables, None)
            if table is None:
                raise RayCxrError(f"the reader gave {rows - self.rows} films less than were planned.")
            self.health.retries += pc.sum(table["retries"]).as_py() or 0
            self.rest = [t for t in (*self.rest, table) if t.num_rows]
            self.rows += table.num_rows
        joined = pa.concat_tables(self.rest)
        self.rest, self.rows = [joined.slice(rows)], self.rows - rows
        return joined.slice(0, rows)


def _sizes(layout: Layout, groups: Rows) -> Rows:
    """Films in each of these row groups."""
    return np.searchsorted(layout.group, groups, "right") - np.searchsorted(layout.group, groups, "left")


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


def _read_groups(dataset: Folder, path: str, row_groups: list[int]) -> tuple[pa.Table, int]:
    """The row groups of a shard, and how often storage failed before it gave them."""
    for attempt, pause_s in enumerate((*RETRY_AFTER_S, None)):
        try:
            with dataset.open(path) as file:
                shard = pq.ParquetFile(file, page_checksum_verification=True)
                return shard.read_row_groups(
                    row_groups, columns=["image_id", "film"], use_threads=False
                ), attempt
        except FileNotFoundError:
            raise InputError(_damaged(path, "it is not there")) from None
        except (pa.ArrowInvalid, IndexError) as error:
            raise InputError(_damaged(path, str(error).splitlines()[0])) from None
        except OSError as error:
            # Arrow tells damage as an OSError without a number; what storage tells has one, or is a time-out.
            passing = error.errno is not None or isinstance(error, TimeoutError)
            if pause_s is None or not passing:
                raise InputError(_damaged(path, (str(error).splitlines() or ["time-out"])[0])) from None
            time.sleep(pause_s)
    raise AssertionError("unreachable")


def _damaged(path: str, what: str) -> str:
    return f"shard {path} cannot be read ({what}); prepare the data set again."
