"""Which film goes into which shard, row group and row. Pure: no files, no Ray."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ray_cxr.films.settings import Codec
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


def name_by_content(index: pd.DataFrame, codec: Codec, rows_per_group: int) -> pd.Series[str]:
    """`shard` with a hash of what is in it: `shards/train/part-00000-<16 hex digits>.parquet`.

    So shards of another split never take the place of these, and one that is there already is the right one.
    """
    names = {}
    for path, films in index.groupby("shard", sort=False):
        digest = hashlib.sha256(f"{codec} {rows_per_group}".encode())
        for image_id, pixels in zip(films["image_id"], films["pixel_sha256"], strict=True):
            digest.update(f"\n{image_id}\t{pixels}".encode())
        names[path] = str(path).replace(".parquet", f"-{digest.hexdigest()[:16]}.parquet")
    return index["shard"].map(names)


def shard_tasks(index: pd.DataFrame) -> list[ShardTask]:
    """One task per shard from an index with `shard`, `part` and `part_row` (place in the film store) and `image_id`."""
    tasks = []
    for path, films in index.groupby("shard", sort=True):
        rows = films.groupby("part", sort=False)["part_row"].apply(list)
        tasks.append(
            ShardTask(str(path), [str(p) for p in rows.index], list(rows), films["image_id"].tolist())
        )
    return tasks
