"""Copies encoded films from the film store into shards.

Reads: `films/part-*.parquet`. Writes: `shards/<split>/part-*.parquet` (`image_id`, `film`) with small row groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from ray_cxr.errors import InputError, RayCxrError, reason_of
from ray_cxr.films.crew import Crew
from ray_cxr.films.store import parquet_bytes
from ray_cxr.parquet import open_table, read_table
from ray_cxr.shards.layout import ShardTask
from ray_cxr.splits.leak import SPLITS
from ray_cxr.storage import Folder

_COLUMNS = ["image_id", "film"]


def missing_shards(tasks: Sequence[ShardTask], dataset: Folder, crew: Crew) -> list[ShardTask]:
    """The shards that are not there, or not whole: what is there is read through, with the checksums of its pages."""
    there = {f"shards/{split}/{name}" for split in SPLITS for name in (dataset / f"shards/{split}").names()}

    def damaged(task: ShardTask) -> ShardTask | None:
        return None if _is_whole(task, dataset) else task

    found = [t for t in tasks if t.path in there]
    bad = {t.path for t in crew.run(damaged, found, by_ray=False) if t is not None}
    return [t for t in tasks if t.path not in there or t.path in bad]


def _is_whole(task: ShardTask, dataset: Folder) -> bool:
    ids: list[str] = []
    try:
        with dataset.open(task.path) as file:
            shard = open_table(file, f"{dataset}/{task.path}")
            for group in shard.iter_batches(columns=_COLUMNS):
                ids += group["image_id"].to_pylist()
    except (OSError, pa.ArrowException):
        return False
    return ids == task.image_ids


def write_shards(
    tasks: Sequence[ShardTask], dataset: Folder, rows_per_group: int, crew: Crew, *, by_ray: bool,
    advance: Callable[[int], None],
) -> None:  # fmt: skip
    """Writes these shards; `advance` is called with the number of films copied."""

    def write(task: ShardTask) -> int:
        return write_shard(task, dataset, rows_per_group)

    for films in crew.run(write, tasks, by_ray=by_ray):
        advance(films)


def remove_other_shards(tasks: Sequence[ShardTask], dataset: Folder) -> None:
    """Removes the shards of data sets that were here before."""
    named = {t.path for t in tasks}
    for split in SPLITS:
        for name in (dataset / f"shards/{split}").names():
            if f"shards/{split}/{name}" not in named:
                dataset.remove(f"shards/{split}/{name}")


def write_shard(task: ShardTask, dataset: Folder, rows_per_group: int) -> int:
    """Copies one shard's films; gives their number. InputError where the film store is damaged."""
    pieces = [
        _read_part(dataset / "films", part).take(rows)
        for part, rows in zip(task.parts, task.rows, strict=True)
    ]
    table = pa.concat_tables(pieces)
    if table["image_id"].to_pylist() != task.image_ids:
        raise RayCxrError(
            f"film store and index disagree while writing {task.path}; remove films/ and prepare again."
        )
    dataset.write_bytes(task.path, parquet_bytes(table, rows_per_group))
    return len(task.image_ids)


def _read_part(store: Folder, part: str) -> pa.Table:
    try:
        with store.open(part) as file:
            return read_table(file, f"{store}/{part}", _COLUMNS)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"dataset: {store}/{part} is damaged ({reason_of(error)}); remove it and prepare again."
        ) from None
