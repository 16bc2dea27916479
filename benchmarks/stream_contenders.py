"""What is measured: each contender gives, for each epoch, the sizes of its batches, films decoded and augmented to 224 px.

All take a film through the same augmentation. The loaders of published repositories do it with Pillow and torchvision;
the others with the one warp and look-up table of `ray_cxr.stream.augment`, so that only the way of the data differs.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from PIL import Image
from stream_films import PREPARED_PX, prepared, published
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ray_cxr.films.codec import decode
from ray_cxr.heap import keep_freed_memory
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.stream.augment import Warps, draw_augmentation, warp, warps
from ray_cxr.stream.layout import split_layout
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.read import read_films, read_of
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream, TableReader
from ray_cxr.torch_compat import timm  # noqa: F401  declares torchvision's operators where its build lacks them

RAY_STORE_BYTES = 2**30
EPOCHS = 1000
"""Of the training that this stream is told of; nobody waits for its end."""
Epochs = Callable[[int], Iterator[int]]
"""From the number of an epoch (from 1) to the sizes of its batches."""
Contender = Callable[[Path, int, int, int], Epochs]


@cache
def all_warps(stored_px: int, image_px: int) -> Warps:
    """The augmentation of 8,192 films, in turn: drawing it film by film would slow the peers down."""
    numbers = np.arange(8192)
    return warps(draw_augmentation(0, 1, numbers, numbers * 0), stored_px, image_px)


def with_warp(data: bytes, image_px: int, number: int) -> torch.Tensor:
    film = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return torch.from_numpy(warp(film, all_warps(film.shape[0], image_px), number % 8192))


class Files(Dataset[torch.Tensor]):
    """A film per file, read and augmented in a loader's worker process."""

    def __init__(self, paths: list[str], load: Callable[[str, int], torch.Tensor]) -> None:
        self.paths, self.load = paths, load

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.load(self.paths[number], number)


class OpenCv:
    def __init__(self, image_px: int) -> None:
        self.image_px = image_px
        cv2.setNumThreads(0)

    def __call__(self, path: str, number: int) -> torch.Tensor:
        return with_warp(Path(path).read_bytes(), self.image_px, number)


class Pillow:
    """As the published chest X-ray repositories do: Pillow, RGB, torchvision's transforms."""

    def __init__(self, image_px: int) -> None:
        from torchvision.transforms import v2

        self.transform = v2.Compose(
            [
                v2.Resize((image_px, image_px), antialias=True),
                v2.RandomAffine(8, translate=(0.05, 0.05), scale=(0.9, 1.1)),
                v2.ColorJitter(brightness=0.08, contrast=0.15),
                v2.PILToTensor(),
            ]
        )

    def __call__(self, path: str, number: int) -> torch.Tensor:
        transformed: torch.Tensor = self.transform(Image.open(path).convert("RGB"))
        return transformed


def _sizes(loader: Any) -> Epochs:
    return lambda epoch: map(len, loader)


def _files(paths: list[str], load: Callable[[str, int], torch.Tensor], threads: int, batch: int) -> Epochs:
    return _loader(Files(paths, load), threads, batch, shuffle=True)


def _loader(films: Any, threads: int, batch: int, **options: Any) -> Epochs:
    # Workers that stay spare the peers a fork in each epoch.
    return _sizes(DataLoader(films, batch, num_workers=threads, persistent_workers=True, **options))


def pillow_published(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """DataLoader, Pillow + torchvision, 1024-px PNG files"""
    return _files(published(work), Pillow(image_px), threads, batch)


def opencv_published(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """DataLoader, OpenCV, 1024-px PNG files"""
    return _files(published(work), OpenCv(image_px), threads, batch)


def pillow_prepared(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """DataLoader, Pillow + torchvision, 256-px PNG files"""
    return _files(prepared(work), Pillow(image_px), threads, batch)


def opencv_prepared(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """DataLoader, OpenCV, 256-px PNG files"""
    return _files(prepared(work), OpenCv(image_px), threads, batch)


def webdataset(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """WebDataset, OpenCV, 256-px films"""
    import webdataset as wds

    shards = sorted(str(p) for p in (work / "webdataset").glob("*.tar"))
    films = wds.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(1000)
    films = films.map(lambda sample: with_warp(sample["png"], image_px, int(sample["__key__"])))
    return _loader(films, threads, batch)


class Augmented(IterableDataset[torch.Tensor]):
    """Films of another library's iterable data set, decoded and augmented in its worker."""

    def __init__(self, films: Any, image_px: int) -> None:
        self.films, self.image_px = films, image_px

    def __iter__(self) -> Iterator[torch.Tensor]:
        for number, film in enumerate(self.films):
            yield with_warp(film["film"] if isinstance(film, dict) else film, self.image_px, number)


def mosaic(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """MosaicML streaming, OpenCV, 256-px films"""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    films = StreamingDataset(local=str(work / "mosaic"), shuffle=True, batch_size=batch)
    return _loader(Augmented(films, image_px), threads, batch)


def litdata(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """litdata, OpenCV, 256-px films"""
    from litdata import StreamingDataLoader, StreamingDataset

    class Films(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> torch.Tensor:
            return with_warp(super().__getitem__(index), image_px, getattr(index, "index", 0))

    films = Films(str(work / "litdata"), shuffle=True)
    return _sizes(StreamingDataLoader(films, batch_size=batch, num_workers=threads, persistent_workers=True))


def plain_ray_data(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """Ray Data as documented: read_parquet().map_batches()"""
    import ray

    codec = open_dataset(str(work / "dataset"), ("train",)).codec
    ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False)

    def load(films: dict[str, Any]) -> dict[str, Any]:
        how = all_warps(PREPARED_PX, image_px)
        return {"film": np.stack([warp(decode(f, codec), how, i) for i, f in enumerate(films["film"])])}

    films = ray.data.read_parquet(str(work / "dataset/shards/train"), columns=["film"]).map_batches(
        load, batch_size=64
    )
    return lambda epoch: (
        len(rows["film"]) for rows in films.iter_batches(batch_size=batch, local_shuffle_buffer_size=1000)
    )


def _ours(
    work: Path, threads: int, batch: int, image_px: int, reader: TableReader = local_tables,
    keep: Literal["none", "node"] = "none",
) -> Epochs:  # fmt: skip
    keep_freed_memory()  # as a training does
    dataset = open_dataset(str(work / "dataset"), ("train",))
    settings = StreamSettings(image_px=image_px, batch_size=batch, cache=keep)
    stream = Stream.open(dataset, "train", settings, seed=0, threads=threads, reader=reader)
    atexit.register(stream.close)
    return lambda epoch: (len(films.rows) for films in stream.train(stream.plan(epoch), last_epoch=EPOCHS))


def ours(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """**this stream**, in one process"""
    return _ours(work, threads, batch, image_px)


def ours_ray(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """**this stream**, read by Ray Data"""
    from ray_cxr.ray_session import start_ray
    from ray_cxr.stream.ray_loader import ray_tables

    start_ray(cpus=threads, store_bytes=RAY_STORE_BYTES)
    return _ours(work, threads, batch, image_px, reader=ray_tables)


def ours_cached(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """**this stream**, decoded films kept (`stream.cache: node`)"""
    return _ours(work, threads, batch, image_px, keep="node")


def bare_limit(work: Path, threads: int, batch: int, image_px: int) -> Epochs:
    """(the bare limit: decode + augment, films in memory)"""
    keep_freed_memory()
    dataset = open_dataset(str(work / "dataset"), ("train",))
    layout = split_layout(dataset.index, "train")
    table = read_films(dataset.folder, read_of(layout, np.arange(len(layout.groups))))
    films = table["film"].to_pylist()
    how = all_warps(PREPARED_PX, image_px)
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(threads)

    def work_on(first: int) -> int:
        out = np.empty((batch, image_px, image_px), np.uint8)
        for place, number in enumerate(range(first, first + batch)):
            out[place] = warp(decode(films[number], dataset.codec), how, number)
        return batch

    return lambda epoch: pool.map(work_on, range(0, len(films) - batch + 1, batch))


CONTENDERS: dict[str, Contender] = {
    f.__name__: f
    for f in (
        ours, ours_ray, ours_cached, bare_limit, pillow_published, opencv_published, pillow_prepared, opencv_prepared,
        webdataset, mosaic, litdata, plain_ray_data,
    )
}  # fmt: skip
"""Name on the command line → contender."""
