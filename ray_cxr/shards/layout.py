"""Which film goes into which shard, row group and row. Pure: no files, no Ray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ray_cxr.films.store import FILMS_PER_PART, part_name
from ray_cxr.splits.leak import SPLITS


@dataclass(frozen=True)
class ShardTask:
    """One shard file, and where its films lie in the film store: part files, and rows in each, in order."""

    path: str
    parts: list[str]
    rows: list[list[int]]
    image_ids: list[str]


def lay_out(index: pd.DataFrame, rows_per_group: int, shard_mib: float) -> pd.DataFrame:
    """Columns `shard` (path below the data set), `row_group`, `row` (within the group) for each film, in film order.

    A shard is a stretch of its split's films in film order, a whole number of row groups, of about `shard_mib`.
    """
    shard = np.full(len(index), "", dtype=object)
    row_group = np.zeros(len(index), np.int32)
    row = np.zeros(len(index), np.int32)
    split, sizes = index["split"].to_numpy(), index["film_bytes"].to_numpy()
    for name in SPLITS:
        films = np.flatnonzero(split == name)
        if not len(films):
            continue
        mean_bytes = max(float(sizes[films].mean()), 1.0)
        groups_per_shard = max(1, round(shard_mib * 2**20 / mean_bytes / rows_per_group))
        group, row[films] = np.divmod(np.arange(len(films)), rows_per_group)
        number, row_group[films] = np.divmod(group, groups_per_shard)
        shard[films] = [f"shards/{name}/part-{n:05d}.parquet" for n in number]
    return pd.DataFrame({"shard": shard, "row_group": row_group, "row": row}, index=index.index)


def shard_tasks(index: pd.DataFrame) -> list[ShardTask]:
    """One task per shard from an index with `shard`, `film_number` (place in the film store) and `image_id`."""
    tasks = []
    for path, films in index.groupby("shard", sort=True):
        part, row = np.divmod(films["film_number"].to_numpy(), FILMS_PER_PART)
        numbers = np.unique(part)
        rows = [row[part == p].tolist() for p in numbers]
        tasks.append(ShardTask(str(path), [part_name(p) for p in numbers], rows, films["image_id"].tolist()))
    return tasks
