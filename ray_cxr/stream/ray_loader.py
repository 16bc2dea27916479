"""Tables of encoded films by Ray Data pipelines that this worker builds from its part of the plan.

Ray Train's own data split is not used: it hard-wires equal=True, which drops up to world_size-1 rows
(ray#63285), and a local shuffle buffer makes ranks run different step counts (ray#66085). Here the plan has
decided every film before, and Ray Data reads the windows in order, ahead of the model, with back-pressure.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ExecutionResources
from ray.data._internal.execution.execution_callback import ExecutionCallback

from ray_cxr.errors import RayCxrError
from ray_cxr.heap import keep_freed_memory
from ray_cxr.ray_session import errors_of_tasks
from ray_cxr.storage import Folder
from ray_cxr.stream.ahead import ahead
from ray_cxr.stream.read import READ_TASK_CPUS, READS_AT_ONCE, Read, parts_of, read_films

PATIENCE_S = 300.0
"""How long a worker waits for a read before it gives up: reads that get no CPU must fail, not hang."""
_READ_BYTES = 32 * 2**20
"""Of encoded films in a read, about: what a process that reads holds, and what a place in the object store is given to."""
_IDLE_STEP_S = 0.01
"""A step of Ray Data's scheduling that takes less has waited for nothing."""
_PAUSES_S = 0.01, 0.04
"""The first pause after such a step, and the longest: each is twice the one before."""
_READS_A_PIPELINE = 64
"""A pipeline costs 0.2 s of CPU, so epochs with few reads share one."""


class UnhurriedLoop(ExecutionCallback):  # type: ignore[misc]  # Ray has no types
    """Slows Ray Data's scheduling down where it has nothing to do.

    Ray 2.60 goes round and round while blocks wait for whoever trains on them, in a thread of the training process: with 4,198 films
    that took a third of the time in which Python's lock was held.
    """

    def __init__(self) -> None:
        self._last, self._pause_s = 0.0, _PAUSES_S[0]

    def on_execution_step(self, executor: object) -> None:
        idle = time.perf_counter() - self._last < _IDLE_STEP_S
        self._pause_s = min(2 * self._pause_s, _PAUSES_S[1]) if idle else _PAUSES_S[0]
        if idle:
            time.sleep(self._pause_s)
        self._last = time.perf_counter()


def ray_tables(dataset: Folder, epochs: Iterable[Sequence[Read]], film_bytes: float) -> Iterator[pa.Table]:
    """The films of the reads of one epoch after another, in order. Needs a running Ray with CPUs that no worker has taken."""
    # The next pipeline is started while the last read of the one before it is in use.
    tables = ahead(lambda: _tables(dataset, epochs, film_bytes), ready=1, patience_s=PATIENCE_S)
    try:
        yield from tables
    except TimeoutError:
        raise RayCxrError(
            f"Ray Data read no films for {PATIENCE_S:.0f} s; see that the cluster has a CPU which no worker has taken, and that "
            f"{dataset} answers."
        ) from None


def _tables(dataset: Folder, epochs: Iterable[Sequence[Read]], film_bytes: float) -> Iterator[pa.Table]:
    for reads in _shared_pipelines(epochs):
        yield from _pipeline(dataset, reads, film_bytes)


def _shared_pipelines(epochs: Iterable[Sequence[Read]]) -> Iterator[list[Read]]:
    """The reads of each pipeline. The first is of one epoch, so that nobody waits for others to be planned."""
    reads: list[Read] = []
    for number, epoch in enumerate(epochs):
        reads += epoch
        if reads and (number == 0 or len(reads) >= _READS_A_PIPELINE):
            yield reads
            reads = []
    if reads:
        yield reads


def _pipeline(dataset: Folder, reads: Sequence[Read], film_bytes: float) -> Iterator[pa.Table]:
    films_a_read = max(1, int(_READ_BYTES / film_bytes))
    parts = [part for read in reads for part in parts_of(read, films_a_read)]
    items = [{"read": n, "shards": pickle.dumps(part)} for n, part in enumerate(parts)]

    def read(batch: dict[str, Any]) -> Iterator[pa.Table]:
        keep_freed_memory()
        for number, shards in zip(batch["read"], batch["shards"], strict=True):
            table = read_films(dataset, pickle.loads(shards))  # noqa: S301  our own, of a moment ago
            yield table.append_column("read", pa.array([number] * table.num_rows))

    pipeline = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        read,
        batch_size=None,
        batch_format="numpy",
        num_cpus=READ_TASK_CPUS,
        concurrency=min(READS_AT_ONCE, len(items)),
    )
    window = max(sum(shard.films for shard in read) for read in reads) * film_bytes
    context = pipeline.context
    context.execution_options.preserve_order = True
    # A window that waits, and what is being read: without a limit of ours Ray takes half of the store, and so does each worker.
    context.execution_options.resource_limits = ExecutionResources(
        object_store_memory=int(window + READS_AT_ONCE * _READ_BYTES)
    )
    context.target_max_block_size = 2 * _READ_BYTES
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, UnhurriedLoop]
    # Ray Data's own guard takes a model that is slow for reads that hang; ours looks at how long the worker waits.
    context.execution_no_progress_timeout_s = -1
    with errors_of_tasks():
        yield from _in_order(
            pipeline.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        )


def start_readers(runtime_env: dict[str, Any] | None = None) -> None:
    """Reads nothing, by a pipeline like that of `ray_tables`: Ray Data's actors and a process that reads are there after it.

    runtime_env: that of the workers whom the process is for, where it is not the caller's own.
    """
    options = {} if runtime_env is None else {"runtime_env": runtime_env}
    one = ray.data.from_items([0]).map_batches(
        lambda batch: batch, batch_size=None, num_cpus=READ_TASK_CPUS, **options
    )
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
