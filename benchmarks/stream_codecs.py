"""Codecs for stored films: size, and what a core and the stream's inner loop make of them.

    python benchmarks/stream_codecs.py ../shared/data/nih/images

Real films of 256 px. Decoding and encoding are CPU time of one thread; the last column is CPU time too, of decode, warp and
look-up table to 224 px, as images/s of two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ray_cxr.films.codec import decode, encode
from ray_cxr.films.settings import Codec
from ray_cxr.stream.augment import draw_augmentation, warp, warps

Film = NDArray[np.uint8]
IMAGE_PX = 224
ROUNDS = 25
Part = tuple[str, str]
"""Name of a codec, and what is done with it."""


def _undo_zstd(data: bytes, shape: tuple[int, int]) -> Film:
    return np.frombuffer(imagecodecs.zstd_decode(data), np.uint8).reshape(shape)


def _raw(data: bytes, shape: tuple[int, int]) -> Film:
    return np.frombuffer(data, np.uint8).reshape(shape)


def codecs(shape: tuple[int, int]) -> dict[str, tuple[Callable[[Film], bytes], Callable[[bytes], Film]]]:
    """Name → encoder and decoder."""
    return {
        "**differences + Zstandard** (`delta-zstd`, the default)": _of_shards("delta-zstd"),
        "HTJ2K (`htj2k`)": _of_shards("htj2k"),
        "PNG (`png`)": _of_shards("png"),
        "JPEG, quality 95 (`jpeg`), lossy": _of_shards("jpeg"),
        "JPEG-LS": (imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
        "JPEG XL, lossless, effort 1": (
            partial(imagecodecs.jpegxl_encode, lossless=True, effort=1), imagecodecs.jpegxl_decode,
        ),
        "Zstandard": (partial(_zstd, level=3), partial(_undo_zstd, shape=shape)),
        "none": (lambda film: film.tobytes(), partial(_raw, shape=shape)),
    }  # fmt: skip


def _of_shards(codec: Codec) -> tuple[Callable[[Film], bytes], Callable[[bytes], Film]]:
    return partial(encode, codec=codec), partial(decode, codec=codec)


def _zstd(film: Film, level: int) -> bytes:
    return imagecodecs.zstd_encode(film.tobytes(), level)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", type=Path)
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    paths = sorted(arguments.films.glob("*.png"))[: arguments.count]
    films = [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in paths]
    numbers = np.arange(len(films))
    how = warps(draw_augmentation(0, 1, numbers, numbers * 0), films[0].shape[0], IMAGE_PX)
    print(f"{len(films)} films of {films[0].shape[0]} px, quickest of {ROUNDS} rounds\n")
    print(
        "| codec | KB a film | exact | encoded/s of a core | decoded/s of a core | to the model/s of 2 cores |"
    )
    print("|---|---:|---|---:|---:|---:|")
    ways = codecs(films[0].shape)
    packed = {name: [bytes(pack(film)) for film in films] for name, (pack, _) in ways.items()}
    work = {
        (name, what): part
        for name, (pack, unpack) in ways.items()
        for what, part in {
            "encoding": lambda n, p=pack: p(films[n]),
            "decoding": lambda n, u=unpack, b=packed[name]: u(b[n]),
            "whole": lambda n, u=unpack, b=packed[name]: warp(u(b[n]), how, n),
        }.items()
    }
    speed = per_second(work, len(films))
    for name, data in packed.items():
        exact = all(np.array_equal(ways[name][1](d), f) for d, f in zip(data, films, strict=True))
        size = np.mean([len(d) for d in data]) / 1000
        encoding, decoding, whole = (speed[name, what] for what in ("encoding", "decoding", "whole"))
        print(
            f"| {name} | {size:.1f} | {'yes' if exact else 'no'} | {encoding:,.0f} | {decoding:,.0f} | {2 * whole:,.0f} |"
        )


def per_second(work: dict[Part, Callable[[int], object]], count: int) -> dict[Part, float]:
    """Calls a second of CPU time, in the quickest round of each; in turns, so that a slow time of the machine is all ways' own."""
    times: dict[Part, list[float]] = {part: [] for part in work}
    for _ in range(ROUNDS):
        for part, call in work.items():
            started = time.process_time()
            for number in range(count):
                call(number)
            times[part].append(time.process_time() - started)
    return {part: count / min(rounds) for part, rounds in times.items()}


if __name__ == "__main__":
    main()
