"""Where the stream's time goes: CPU time of each part of the way of a film, alone in one thread.

    python benchmarks/stream_parts.py --work DIR

DIR is that of benchmarks/stream.py. Each figure is the quickest of some rounds over the same films, so that other programs on
the machine change it little.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np

from ray_cxr.films.codec import decode, encode
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.stream.augment import draw_augmentation, warp, warps
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.plan import ALONE, RankWork, training_work
from ray_cxr.stream.read import ReadHealth, read_films, step_films
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream

BATCH, IMAGE_PX, FILMS, ROUNDS = 32, 224, 512, 25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("benchmark-stream"))
    work = parser.parse_args().work
    cv2.setNumThreads(1)
    dataset = open_dataset(str(work / "dataset"), ("train",))
    stream = Stream.open(dataset, "train", StreamSettings(image_px=IMAGE_PX, batch_size=BATCH), seed=0)
    print(f"codec {dataset.codec}, {dataset.image_px} px to {IMAGE_PX} px, quickest of {ROUNDS} rounds\n")
    print("| per film | CPU time, µs |\n|---|---:|")
    parts = of_films(stream) | of_epochs(stream)
    for name, took in quickest_us({name: part for name, (_, part) in parts.items()}).items():
        print(f"| {name} | {took / parts[name][0]:,.0f} |")


def quickest_us(parts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds of CPU, of all threads, in the quickest round of each; in turns, so that a slow time of the machine is all parts' own."""
    rounds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(ROUNDS):
        for name, part in parts.items():
            begun = time.process_time()
            part()
            rounds[name].append(time.process_time() - begun)
    return {name: 1e6 * min(took) for name, took in rounds.items()}


def of_films(stream: Stream) -> dict[str, tuple[int, Callable[[], object]]]:
    """Name → for how many films, and what to do to them: from encoded films to those that a model sees."""
    codec, stored_px = stream.dataset.codec, stream.dataset.image_px
    plan = training_work(stream.plan(1), ALONE)
    encoded = encoded_films(stream, plan)[:FILMS]
    films = [decode(film, codec) for film in encoded]
    numbers = np.arange(FILMS)
    how = warps(draw_augmentation(0, 1, numbers, 0 * numbers), stored_px, IMAGE_PX)
    out = np.empty((FILMS, IMAGE_PX, IMAGE_PX), np.uint8)
    other = [encode(film, "htj2k") for film in films]
    return {
        f"decode, {codec}": (FILMS, lambda: [decode(film, codec) for film in encoded]),
        "(of that, Zstandard)": (FILMS, lambda: [imagecodecs.zstd_decode(f[4:], out=stored_px**2) for f in encoded]),
        "warp and look-up table": (FILMS, lambda: [warp(f, how, n, out[n]) for n, f in enumerate(films)]),
        "SHA-256 of the pixels, when first seen": (FILMS, lambda: [hashlib.sha256(f.data).hexdigest() for f in films]),
        "(decode, htj2k, for comparison)": (FILMS, lambda: [decode(film, "htj2k") for film in other]),
    }  # fmt: skip


def of_epochs(stream: Stream) -> dict[str, tuple[int, Callable[[], object]]]:
    """Name → for how many films, and what to do: an epoch's plan, its reads, its films taken from what was read."""
    work = training_work(stream.plan(1), ALONE)
    reads, folder, films = stream._reads(work), stream.dataset.folder, stream.layout.films
    tables = [read_films(folder, read) for read in reads]
    rows = stream.layout.rows[work.positions]

    def drawn() -> None:
        for first in range(0, films, 16 * BATCH):
            part = slice(first, first + 16 * BATCH)
            warps(draw_augmentation(0, 1, rows[part], work.copies[part]), stream.dataset.image_px, IMAGE_PX)

    return {
        "read from the shards, page checksums held": (films, lambda: [read_films(folder, read) for read in reads]),
        "films found in what was read, their ids compared": (
            films, lambda: list(step_films(stream.layout, [work], iter(tables), ReadHealth())),
        ),
        "plan of the epoch, windows, what to read": (
            films, lambda: stream._reads(training_work(stream.plan(2), ALONE)),
        ),
        "augmentation drawn, matrices and look-up tables": (films, drawn),
    }  # fmt: skip


def encoded_films(stream: Stream, work: RankWork) -> list[memoryview]:
    tables = local_tables(stream.dataset.folder, [stream._reads(work)])
    return [film for step in step_films(stream.layout, [work], tables, ReadHealth()) for film in step]


if __name__ == "__main__":
    main()
