"""Tables of encoded films by a Ray Data pipeline that this worker builds from its part of the plan.

Ray Train's own data split is not used: it hard-wires equal=True, which drops up to world_size-1 rows
(ray#63285), and a local shuffle buffer makes ranks run different step counts (ray#66085). Here the plan has
decided every film before, and Ray Data reads the windows in order, ahead of the model, with back-pressure.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from ray_cxr.errors import RayCxrError
from ray_cxr.ray_session import errors_of_tasks
from ray_cxr.storage import Folder
from ray_cxr.stream.read import Read, read_films

READ_TASK_CPUS = 0.25
"""A read waits for storage more than it computes."""
_PREFETCHED_READS = 1


def ray_tables(dataset: Folder, reads: Sequence[Read]) -> Iterator[pa.Table]:
    """The films of the reads, in order. Needs a running Ray with CPUs that no worker has taken."""
    if not reads:
        return
    items = [{"read": n, "shards": pickle.dumps(read)} for n, read in enumerate(reads)]

    def read(batch: dict[str, Any]) -> Iterator[pa.Table]:
        for number, shards in zip(batch["read"], batch["shards"], strict=True):
            table = read_films(dataset, pickle.loads(shards))  # noqa: S301  our own, of a moment ago
            yield table.append_column("read", pa.array([number] * table.num_rows))

    pipeline = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        read, batch_size=None, batch_format="numpy", num_cpus=READ_TASK_CPUS
    )
    pipeline.context.execution_options.preserve_order = True
    batches = pipeline.iter_batches(
        batch_size=None, batch_format="pyarrow", prefetch_batches=_PREFETCHED_READS
    )
    with errors_of_tasks():
        yield from _in_order(batches)


def start_readers() -> None:
    """Reads nothing, by a pipeline like that of `ray_tables`: Ray Data's actors and a process that reads are there after it."""
    one = ray.data.from_items([0]).map_batches(lambda batch: batch, batch_size=None, num_cpus=READ_TASK_CPUS)
    for _ in one.iter_batches(batch_size=None):
        pass


def _in_order(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    last = 0
    for table in batches:
        numbers = table["read"].to_numpy()
        if len(numbers) and (numbers[0] < last or np.any(np.diff(numbers) < 0)):
            raise RayCxrError("Ray Data gave reads out of order; this must not happen, please report it.")
        last = int(numbers[-1]) if len(numbers) else last
        yield table.select(["image_id", "film", "retries"])
