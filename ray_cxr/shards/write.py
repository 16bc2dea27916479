"""Copies encoded films from the film store into shards, by Ray Data.

Reads: `films/part-*.parquet`. Writes: `shards/<split>/part-*.parquet` (`image_id`, `film`) with small row groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from ray_cxr.errors import RayCxrError
from ray_cxr.films.store import parquet_bytes
from ray_cxr.ray_session import errors_of_tasks
from ray_cxr.shards.layout import ShardTask
from ray_cxr.storage import Folder


def write_shards(
    tasks: Sequence[ShardTask], dataset: Folder, rows_per_group: int, advance: Callable[[int], None]
) -> None:
    """Writes every shard; `advance` is called with the number of films copied. Needs a running Ray."""

    def copy(item: dict[str, Any]) -> dict[str, Any]:
        return {"films": write_shard(ShardTask(**item), dataset, rows_per_group)}

    items = [asdict(t) for t in tasks]
    with errors_of_tasks():
        for row in ray.data.from_items(items, override_num_blocks=len(items)).map(copy).iter_rows():
            advance(row["films"])


def write_shard(task: ShardTask, dataset: Folder, rows_per_group: int) -> int:
    """Copies one shard's films; gives their number."""
    store = dataset / "films"
    pieces = [
        pq.read_table(store.full(part), columns=["image_id", "film"], filesystem=store.fs).take(rows)
        for part, rows in zip(task.parts, task.rows, strict=True)
    ]
    table = pa.concat_tables(pieces)
    if table["image_id"].to_pylist() != task.image_ids:
        raise RayCxrError(
            f"film store and index disagree while writing {task.path}; remove films/ and prepare again."
        )
    dataset.write_bytes(task.path, parquet_bytes(table, rows_per_group))
    return len(task.image_ids)
