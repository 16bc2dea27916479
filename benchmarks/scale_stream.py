"""What a film takes of CPU and storage on its way to the model: by where it is augmented, whether it is kept, and who reads.

Called by `scale.py stream`. CPU time is that of all processes, so it says what a core does, however many there are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
from stream import BATCH, IMAGE_PX

from ray_cxr.shards.dataset import open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.layout import split_layout
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.read import read_films, read_of
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream

EPOCHS = 1_000_000
WARM_UP_S = 6.0


@dataclass(frozen=True)
class Way:
    """augment_on, cache: settings of `stream`. by_ray: Ray Data reads, as it does for the workers of a cluster."""

    augment_on: str
    cache: str = "none"
    by_ray: bool = False


WAYS = {
    "augmented on the CPU": Way("cpu", by_ray=True),
    "`augment_on: device`": Way("device", by_ray=True),
    "augmented on the CPU, read in the process itself": Way("cpu"),
    "`augment_on: device`, read in the process itself": Way("device"),
    "`cache: node`, augmented on the CPU": Way("cpu", "node"),
    "`cache: node`, `augment_on: device`": Way("device", "node"),
}
WINDOWS_MIB = 1, 16, 256
"""`stream.shuffle_mib` of one rank alone, for the time that small windows take: it is a figure of all ranks together."""


def core_images_per_s(work: Path, way: Way, seconds: float, shuffle_mib: int) -> dict[str, float]:
    """images/s of a core (films by CPU seconds of all processes), and of this machine by the clock; films in a window."""
    dataset = open_dataset(str(work / "dataset"), ("train",))
    settings = StreamSettings(
        image_px=IMAGE_PX,
        batch_size=BATCH,
        augment_on=way.augment_on,
        cache=way.cache,
        shuffle_mib=shuffle_mib,
    )
    reader = local_tables
    if way.by_ray:
        import ray

        from ray_cxr.stream.ray_loader import ray_tables as reader

        ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    stream = Stream.open(dataset, "train", settings, seed=0, threads=os.cpu_count() or 1, reader=reader)
    batches = _batches(stream)
    begun = time.perf_counter()
    while time.perf_counter() - begun < WARM_UP_S:
        next(batches)
    films, begun, cpu = 0, time.perf_counter(), _cpu_s()
    while time.perf_counter() - begun < seconds:
        films += next(batches)
    took, cpu = time.perf_counter() - begun, _cpu_s() - cpu
    batches.close()  # type: ignore[attr-defined]
    stream.close()
    return {"of_a_core": films / cpu, "of_the_machine": films / took, "window": stream.window_films}


def _batches(stream: Stream) -> Iterator[int]:
    for epoch in range(1, EPOCHS):
        for batch in stream.train(stream.plan(epoch), last_epoch=EPOCHS):
            yield len(batch.rows)


def _cpu_s() -> float:
    """CPU seconds of this process and all its children so far; processes of Ray stay to the end."""
    root = psutil.Process()
    return sum(p.cpu_times().user + p.cpu_times().system for p in (root, *root.children(recursive=True)))


class _Counted:
    """A file that counts what is asked of it."""

    def __init__(self, file: IO[bytes], asked: list[int]) -> None:
        self._file, self._asked = file, asked

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._asked.append(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _CountingFolder(Folder):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.is_local = False  # row groups are then read as from an object store
        self.asked: list[int] = []

    def open(self, name: str, *, ahead: bool = True) -> Any:
        return _Counted(super().open(name, ahead=ahead), self.asked)


def storage(work: Path) -> dict[str, float]:
    """Of one row group, the first of a full shard, read by itself: films, bytes encoded, bytes asked for, in how many parts.

    In a large data set hardly any two row groups of a window lie in one shard.
    """
    dataset = open_dataset(str(work / "dataset"), ("train",))
    layout, folder = split_layout(dataset.index, "train"), _CountingFolder(str(work / "dataset"))
    table = read_films(folder, read_of(layout, layout.group[:1]))
    return {
        "films": table.num_rows,
        "encoded_bytes": sum(len(film) for film in table["film"].to_pylist()),
        "bytes": sum(folder.asked),
        "requests": len(folder.asked),
    }
