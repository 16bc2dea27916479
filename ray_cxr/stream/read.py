"""Reads encoded films from shards, whole row groups and each once, and gives them step by step in the plan's order.

Reads: `shards/<split>/part-*.parquet`. Gives: for each step of a `RankWork` its encoded films.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_cxr.axes import Rows
from ray_cxr.errors import InputError, RayCxrError, reason_of
from ray_cxr.storage import Folder, UnreachableError
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.plan import RankWork

RETRY_AFTER_S = (0.5, 2.0, 8.0)
"""Pauses before storage that failed is asked again; after the last failure the job ends."""
_COLUMNS = ["image_id", "film"]


@dataclass(frozen=True)
class ShardRead:
    """Row groups of one shard that are read together, how many films they hold, and which of these are kept.

    kept: ascending numbers among the films of these row groups; None: all.
    """

    path: str
    row_groups: list[int]
    films: int
    kept: Rows | None = None


Read: TypeAlias = list[ShardRead]
"""What is read at once: for a worker, the new row groups of a window."""


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


def read_of(layout: Layout, groups: Rows) -> Read:
    """What to read for these row groups (ascending)."""
    return [
        _shard_read(layout, path, np.array(list(numbers)))
        for path, numbers in groupby(groups.tolist(), lambda g: layout.groups[g][0])
    ]


def _shard_read(layout: Layout, path: str, groups: Rows) -> ShardRead:
    films = layout.group_films[groups]
    before = np.cumsum(films) - films
    starts, ends = (np.searchsorted(layout.group, groups, side) for side in ("left", "right"))
    kept = [first + layout.row_in_group[s:e] for first, s, e in zip(before, starts, ends, strict=True)]
    numbers, total = np.concatenate(kept), int(films.sum())
    row_groups = [layout.groups[g][1] for g in groups]
    return ShardRead(path, row_groups, total, numbers if len(numbers) < total else None)


def read_films(dataset: Folder, read: Read) -> pa.Table:
    """Columns `image_id`, `film` (binary) of the films of a read, one after the other, and `retries`.

    `retries` says in the first row of each shard how often storage failed before it gave it, and is 0 elsewhere.
    Raises InputError where a shard is missing, damaged or shorter than the index says, or storage goes on failing.
    """
    tables = []
    for shard in read:
        table, retries = _read_shard(dataset, shard)
        if table.num_rows != shard.films or table.column_names != _COLUMNS:
            raise InputError(
                damaged(shard.path, f"{table.num_rows} films where the index says {shard.films}")
            )
        if shard.kept is not None:
            table = table.take(shard.kept)
        counts = np.zeros(table.num_rows, np.int32)
        counts[0] = retries
        tables.append(table.append_column("retries", pa.array(counts)))
    return pa.concat_tables(tables)


def step_films(
    layout: Layout, work: RankWork, tables: Iterable[pa.Table], health: ReadHealth
) -> Iterator[list[memoryview]]:
    """The encoded films of each step of `work`, without copying them.

    tables: what `read_films` gives for `new_groups` of the windows, one after the other, cut anywhere. A row group that a
    later window needs too is kept until then. Raises InputError where another film lies than the index says.
    """
    reads = new_groups(layout, work.windows)
    last_use = np.zeros(len(layout.groups), np.int64)
    for number, window in enumerate(work.windows):
        last_use[layout.group[window]] = number
    row_in_kept = np.arange(layout.films) - np.searchsorted(layout.group, layout.group)
    source, kept = _Cut(tables, health), dict[int, pa.BinaryArray]()
    sizes = iter(work.step_sizes)
    for number, (window, read) in enumerate(zip(work.windows, reads, strict=True)):
        for group, films in zip(read.tolist(), _sizes(layout, read).tolist(), strict=True):
            kept[group] = _checked(layout, group, source.take(films))
        taken = 0
        while taken < len(window):
            step = window[taken : taken + next(sizes)]
            taken += len(step)
            yield [_bytes(kept[layout.group[p]], row_in_kept[p]) for p in step.tolist()]
        # What stays is copied, or a few films would hold the memory of the whole window.
        kept = {g: pa.concat_arrays([kept[g], kept[g][:0]]) for g in kept if last_use[g] > number}
    for _ in sizes:  # other ranks have films in these last steps, this one has none
        yield []
    if surplus := source.surplus():
        raise RayCxrError(f"the reader gave {surplus} films more than were planned; this must not happen.")


def _checked(layout: Layout, group: int, table: pa.Table) -> pa.BinaryArray:
    """The films of a row group, once their ids are those of the index."""
    first = int(np.searchsorted(layout.group, group))
    expected = layout.image_ids[first : first + table.num_rows]
    wrong = np.flatnonzero(table["image_id"].to_numpy(zero_copy_only=False) != expected)
    if len(wrong):
        row = layout.rows[first + wrong[0]]
        raise InputError(
            damaged(layout.groups[group][0], f"another film lies where the index says row {row}")
        )
    films = table["film"]
    return films.chunk(0) if films.num_chunks == 1 else films.combine_chunks()


def _bytes(films: pa.BinaryArray, number: int) -> memoryview:
    return memoryview(films[number].as_buffer()).cast("B")


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

    def surplus(self) -> int:
        """Rows that nobody took."""
        return self.rows + sum(int(table.num_rows) for table in self.tables)


def _sizes(layout: Layout, groups: Rows) -> Rows:
    """Films of the layout in each of these row groups."""
    return np.searchsorted(layout.group, groups, "right") - np.searchsorted(layout.group, groups, "left")


def _read_shard(dataset: Folder, shard: ShardRead) -> tuple[pa.Table, int]:
    """The row groups of a shard, and how often storage failed before it gave them."""
    for attempt, pause_s in enumerate((*RETRY_AFTER_S, None)):
        try:
            with dataset.open(shard.path) as file:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                return parquet.read_row_groups(shard.row_groups, columns=_COLUMNS, use_threads=False), attempt
        except FileNotFoundError:
            raise InputError(damaged(shard.path, "it is not there")) from None
        except (pa.ArrowInvalid, IndexError) as error:
            raise InputError(damaged(shard.path, reason_of(error))) from None
        except Exception as error:
            if not isinstance(error, OSError | UnreachableError) and (
                dataset.is_local or dataset.in_this_process
            ):
                raise
            if not _may_pass(error):
                raise InputError(damaged(shard.path, reason_of(error))) from None
            if pause_s is None:
                raise InputError(
                    f"shard {shard.path} cannot be read ({reason_of(error)}, also {attempt} times later); see that "
                    f"{dataset} can be reached, and give the same command again."
                ) from None
            time.sleep(pause_s)
    raise AssertionError("unreachable")


def _may_pass(error: Exception) -> bool:
    """Arrow tells damage as an OSError without a number; what storage tells has one, or its client's own type."""
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    return not isinstance(error, OSError) or error.errno is not None or isinstance(error, TimeoutError)


def damaged(path: str, what: str) -> str:
    """What to say of a shard that cannot be used, and what to do."""
    return f"shard {path} cannot be read ({what}); remove it and prepare the data set again."
