"""Reads encoded films from shards, whole row groups and each once, and gives them step by step in the plan's order.

Reads: `shards/<split>/part-*.parquet`. Gives: for each step of a `RankWork` its encoded films.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_cxr.axes import Rows
from ray_cxr.errors import InputError, RayCxrError, RefusedError, reason_of
from ray_cxr.parquet import open_table
from ray_cxr.storage import Folder, UnreachableError
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.plan import RankWork

RETRY_AFTER_S = (0.5, 2.0, 8.0)
"""Pauses before storage that failed is asked again; after the last failure the job ends."""
READ_TASK_CPUS = 0.25
"""What a read takes of a cluster's CPUs: it waits for storage more than it computes."""
READS_AT_ONCE = 2
"""Each is a process of Ray's, of some 200 MiB."""
_SCHEMA = pa.schema([("image_id", pa.string()), ("film", pa.binary())])


@dataclass(frozen=True)
class ShardRead:
    """Row groups of one shard that are read together, how many films each holds, and which of these are kept.

    kept: for each row group ascending numbers among its films; None: all of all.
    """

    path: str
    row_groups: list[int]
    group_films: list[int]
    kept: list[Rows] | None = None

    @property
    def films(self) -> int:
        return sum(self.group_films)

    def of(self, groups: slice) -> ShardRead:
        """Some of the row groups, by their number in the read."""
        kept = None if self.kept is None else self.kept[groups]
        return ShardRead(self.path, self.row_groups[groups], self.group_films[groups], kept)


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
    films = layout.group_films[groups].tolist()
    starts, ends = (np.searchsorted(layout.group, groups, side) for side in ("left", "right"))
    kept = [layout.row_in_group[s:e] for s, e in zip(starts, ends, strict=True)]
    row_groups = [layout.groups[g][1] for g in groups]
    return ShardRead(path, row_groups, films, kept if sum(map(len, kept)) < sum(films) else None)


def parts_of(read: Read, films: int) -> list[Read]:
    """The read in parts of so many films or, where row groups end otherwise, a few more."""
    parts: list[Read] = []
    room = 0
    for shard in read:
        first = 0
        while first < len(shard.row_groups):
            if room <= 0:
                parts.append([])
                room = films
            end = first + int(np.searchsorted(np.cumsum(shard.group_films[first:]), room)) + 1
            parts[-1].append(shard.of(slice(first, end)))
            room -= parts[-1][-1].films
            first = end
    return parts


def read_films(dataset: Folder, read: Read) -> pa.Table:
    """Columns `image_id`, `film` (binary) of the films of a read, one after the other, and `retries`.

    `retries` says in the first row of each shard how often storage failed before it gave it, and is 0 elsewhere.
    Raises InputError where a shard is missing, damaged or shorter than the index says, or storage goes on failing.
    """
    tables = []
    for shard in read:
        table, retries = _read_shard(dataset, shard)
        if table.num_rows != shard.films:
            raise InputError(
                damaged(shard.path, f"{table.num_rows} films where the index says {shard.films}")
            )
        if shard.kept is not None:
            before = np.cumsum([0, *shard.group_films[:-1]])
            table = table.take(np.concatenate([n + kept for n, kept in zip(before, shard.kept, strict=True)]))
        counts = np.zeros(table.num_rows, np.int32)
        counts[0] = retries
        tables.append(table.append_column("retries", pa.array(counts)))
    return pa.concat_tables(tables)


def step_films(
    layout: Layout, works: Iterable[RankWork], tables: Iterable[pa.Table], health: ReadHealth
) -> Iterator[list[memoryview]]:
    """The encoded films of each step of each of `works`, without copying them.

    tables: what `read_films` gives for `new_groups` of the windows, one after the other, cut anywhere. A row group that a
    later window needs too is kept until then. Raises InputError where another film lies than the index says.
    """
    source = _Cut(tables, health)
    for work in works:
        yield from _steps(layout, work, source)
    if surplus := source.surplus():
        raise RayCxrError(f"the reader gave {surplus} films more than were planned; this must not happen.")


def _steps(layout: Layout, work: RankWork, source: _Cut) -> Iterator[list[memoryview]]:
    last_use = np.zeros(len(layout.groups), np.int64)
    for number, window in enumerate(work.windows):
        last_use[layout.group[window]] = number
    kept, sizes = dict[int, list[memoryview]](), iter(work.step_sizes)
    for number, (window, read) in enumerate(zip(work.windows, new_groups(layout, work.windows), strict=True)):
        kept |= _by_group(layout, read, source)
        groups, rows, taken = layout.group[window].tolist(), layout.row_in_kept[window].tolist(), 0
        while taken < len(window):
            step = slice(taken, taken + next(sizes))
            taken += len(rows[step])
            yield [kept[group][row] for group, row in zip(groups[step], rows[step], strict=True)]
        # What stays is copied, or a few films would hold the memory of the whole window.
        kept = {g: [memoryview(bytes(f)) for f in kept[g]] for g in kept if last_use[g] > number}
    for _ in sizes:  # other ranks have films in these last steps, this one has none
        yield []


def _by_group(layout: Layout, groups: Rows, source: _Cut) -> dict[int, list[memoryview]]:
    """The films of these row groups (ascending), which come next, once their ids are those of the index."""
    if not len(groups):
        return {}
    sizes = _sizes(layout, groups)
    ends = np.cumsum([0, *sizes])
    positions = np.repeat(np.searchsorted(layout.group, groups) - ends[:-1], sizes) + np.arange(ends[-1])
    table = source.take(int(ends[-1]))
    _check_ids(layout, positions, table["image_id"])
    films = [view for chunk in table["film"].chunks if len(chunk) for view in _views(chunk)]
    return {g: films[a:b] for g, (a, b) in zip(groups.tolist(), pairwise(ends.tolist()), strict=True)}


def _check_ids(layout: Layout, positions: Rows, found: pa.ChunkedArray) -> None:
    expected = pa.chunked_array([layout.image_ids.take(pa.array(positions))])
    if found.equals(expected):
        return
    wrong = positions[found.to_numpy() != expected.to_numpy()]
    if len(wrong):
        path, row = layout.groups[layout.group[wrong[0]]][0], layout.rows[wrong[0]]
        raise InputError(damaged(path, f"another film lies where the index says row {row}"))


def _views(films: pa.BinaryArray) -> list[memoryview]:
    """The bytes of each film where they lie; Arrow's own way to them takes ten times as long."""
    _, offsets, data = films.buffers()
    ends = np.frombuffer(offsets, np.int32, len(films) + 1, films.offset * 4).tolist()
    whole = memoryview(data).cast("B")
    return [whole[a:b] for a, b in pairwise(ends)]


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
            # A row group is 1 MB of a shard of 64. From afar, those that lie side by side come in one request.
            with dataset.open(shard.path, ahead=False) as file:
                parquet = open_table(file, f"{dataset}/{shard.path}", pre_buffer=not dataset.is_local)
                return _row_groups(parquet, shard), attempt
        except RefusedError:
            raise
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


def _row_groups(parquet: pq.ParquetFile, shard: ShardRead) -> pa.Table:
    """A chunk per row group: one for them all would be grown, and so copied, again and again, in three times the time."""
    batches = parquet.iter_batches(max(shard.group_films), shard.row_groups, _SCHEMA.names, use_threads=False)
    return pa.Table.from_batches(list(batches), _SCHEMA)


def _may_pass(error: Exception) -> bool:
    """Arrow tells damage as an OSError without a number; what storage tells has one, or its client's own type."""
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    return not isinstance(error, OSError) or error.errno is not None or isinstance(error, TimeoutError)


def damaged(path: str, what: str) -> str:
    """What to say of a shard that cannot be used, and what to do."""
    return f"shard {path} cannot be read ({what}); remove it and prepare the data set again."
