"""What is measured: each contender gives the sizes of its batches, films decoded and augmented to 224 px.

All take a film through the same augmentation. The loaders of published repositories do it with Pillow and torchvision;
the others with the one warp and look-up table of `ray_cxr.stream.augment`, so that only the way of the data differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from stream_films import prepared, published
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ray_cxr.stream.augment import augment, draw_augmentation
from ray_cxr.torch_compat import timm  # noqa: F401  declares torchvision's operators where its build lacks them

Contender = Callable[[Path, int, int, int], Iterator[int]]


def with_warp(data: bytes, image_px: int, number: int) -> torch.Tensor:
    film = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    drawn = draw_augmentation(0, 1, np.array([number]), np.array([0]))
    return torch.from_numpy(augment(film, image_px, drawn, 0))


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


def _sizes(loader: Any) -> Iterator[int]:
    for batch in loader:
        yield len(batch)


def _files(
    paths: list[str], load: Callable[[str, int], torch.Tensor], threads: int, batch: int
) -> Iterator[int]:
    return _sizes(DataLoader(Files(paths, load), batch, shuffle=True, num_workers=threads))


def pillow_published(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """DataLoader, Pillow + torchvision, 1024-px PNG files"""
    return _files(published(work), Pillow(image_px), threads, batch)


def opencv_published(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """DataLoader, OpenCV, 1024-px PNG files"""
    return _files(published(work), OpenCv(image_px), threads, batch)


def pillow_prepared(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """DataLoader, Pillow + torchvision, 256-px PNG files"""
    return _files(prepared(work), Pillow(image_px), threads, batch)


def opencv_prepared(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """DataLoader, OpenCV, 256-px PNG files"""
    return _files(prepared(work), OpenCv(image_px), threads, batch)


def webdataset(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """WebDataset, OpenCV, 256-px films"""
    import webdataset as wds

    shards = sorted(str(p) for p in (work / "webdataset").glob("*.tar"))
    films = wds.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(1000)
    films = films.map(lambda sample: with_warp(sample["png"], image_px, int(sample["__key__"])))
    return _sizes(DataLoader(films, batch, num_workers=threads))


class Augmented(IterableDataset[torch.Tensor]):
    """Films of another library's iterable data set, decoded and augmented in its worker."""

    def __init__(self, films: Any, image_px: int) -> None:
        self.films, self.image_px = films, image_px

    def __iter__(self) -> Iterator[torch.Tensor]:
        for number, film in enumerate(self.films):
            yield with_warp(film["film"] if isinstance(film, dict) else film, self.image_px, number)


def mosaic(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """MosaicML streaming, OpenCV, 256-px films"""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    films = StreamingDataset(local=str(work / "mosaic"), shuffle=True, batch_size=batch)
    return _sizes(DataLoader(Augmented(films, image_px), batch, num_workers=threads))


def litdata(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """litdata, OpenCV, 256-px films"""
    from litdata import StreamingDataLoader, StreamingDataset

    class Films(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> torch.Tensor:
            return with_warp(super().__getitem__(index), image_px, getattr(index, "index", 0))

    return _sizes(StreamingDataLoader(Films(str(work / "litdata"), shuffle=True), batch, num_workers=threads))


def plain_ray_data(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """Ray Data as documented: read_parquet().map_batches()"""
    import ray

    from ray_cxr.films.codec import decode
    from ray_cxr.shards.dataset import open_dataset

    codec = open_dataset(str(work / "dataset"), ("train",)).codec
    ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False)

    def load(films: dict[str, Any]) -> dict[str, Any]:
        drawn = draw_augmentation(0, 1, np.arange(len(films["film"])), np.zeros(len(films["film"]), np.int64))
        return {
            "film": np.stack(
                [augment(decode(f, codec), image_px, drawn, i) for i, f in enumerate(films["film"])]
            )
        }

    films = ray.data.read_parquet(str(work / "dataset/shards/train"), columns=["film"]).map_batches(
        load, batch_size=64
    )
    for rows in films.iter_batches(batch_size=batch, local_shuffle_buffer_size=1000):
        yield len(rows["film"])


def _ours(work: Path, threads: int, batch: int, image_px: int, **options: Any) -> Iterator[int]:
    from ray_cxr.shards.dataset import open_dataset
    from ray_cxr.stream.settings import StreamSettings
    from ray_cxr.stream.stream import Stream

    dataset = open_dataset(str(work / "dataset"), ("train",))
    cache = options.pop("cache", "none")
    settings = StreamSettings(image_px=image_px, batch_size=batch, cache=cache)
    stream = Stream.open(dataset, "train", settings, seed=0, threads=threads, **options)
    for batch_ in stream.train(stream.plan(1)):
        yield len(batch_.rows)
    stream.close()


def ours(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """**this stream**, in one process"""
    return _ours(work, threads, batch, image_px)


def ours_ray(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """**this stream**, read by Ray Data"""
    import ray

    from ray_cxr.stream.ray_loader import ray_tables

    ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False)
    yield from _ours(work, threads, batch, image_px, reader=ray_tables)


def ours_cached(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """**this stream**, decoded films kept (`stream.cache: node`)"""
    return _ours(work, threads, batch, image_px, cache="node")


def bare_limit(work: Path, threads: int, batch: int, image_px: int) -> Iterator[int]:
    """(the bare limit: decode + augment, films in memory)"""
    from ray_cxr.films.codec import decode
    from ray_cxr.shards.dataset import open_dataset
    from ray_cxr.stream.layout import split_layout
    from ray_cxr.stream.read import read_window

    dataset = open_dataset(str(work / "dataset"), ("train",))
    layout = split_layout(dataset.index, "train")
    films = [f.as_py() for f in read_window(dataset.folder, layout, np.arange(layout.films))["film"]]
    drawn = draw_augmentation(0, 1, np.arange(len(films)), np.zeros(len(films), np.int64))
    out = np.empty((batch * threads, image_px, image_px), np.uint8)

    def work_on(chunk: tuple[int, int, int]) -> None:
        for place, number in enumerate(range(chunk[1], chunk[2])):
            out[chunk[0] * batch + place] = augment(
                decode(films[number], dataset.codec), image_px, drawn, number
            )

    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(films) - batch * threads, batch * threads):
            list(pool.map(work_on, [(t, first + t * batch, first + (t + 1) * batch) for t in range(threads)]))
            for _ in range(threads):
                yield batch


CONTENDERS: dict[str, Contender] = {
    f.__name__: f
    for f in (
        ours, ours_ray, ours_cached, bare_limit, pillow_published, opencv_published, pillow_prepared, opencv_prepared,
        webdataset, mosaic, litdata, plain_ray_data,
    )
}  # fmt: skip
"""Name on the command line → contender."""
