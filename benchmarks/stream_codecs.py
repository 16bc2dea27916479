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

from ray_cxr.stream.augment import draw_augmentation, warp, warps

Film = NDArray[np.uint8]
IMAGE_PX = 224
ROUNDS = 5


def _png(film: Film) -> bytes:
    return cv2.imencode(".png", film)[1].tobytes()


def _jpeg(film: Film) -> bytes:
    return cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def _by_opencv(data: bytes) -> Film:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


def _delta_zstd(film: Film) -> bytes:
    return imagecodecs.zstd_encode(imagecodecs.delta_encode(film, axis=-1).tobytes(), 3)


def _undo_delta_zstd(data: bytes, shape: tuple[int, int]) -> Film:
    flat = np.frombuffer(imagecodecs.zstd_decode(data), np.uint8)
    return imagecodecs.delta_decode(flat.reshape(shape), axis=-1)


def _undo_zstd(data: bytes, shape: tuple[int, int]) -> Film:
    return np.frombuffer(imagecodecs.zstd_decode(data), np.uint8).reshape(shape)


def _raw(data: bytes, shape: tuple[int, int]) -> Film:
    return np.frombuffer(data, np.uint8).reshape(shape)


def codecs(shape: tuple[int, int]) -> dict[str, tuple[Callable[[Film], bytes], Callable[[bytes], Film]]]:
    """Name → encoder and decoder."""
    return {
        "**HTJ2K** (`htj2k`, the default)": (
            partial(imagecodecs.htj2k_encode, reversible=True), imagecodecs.htj2k_decode,
        ),
        "PNG (`png`)": (_png, _by_opencv),
        "JPEG, quality 95 (`jpeg`), lossy": (_jpeg, _by_opencv),
        "JPEG-LS": (imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
        "JPEG XL, lossless, effort 1": (
            partial(imagecodecs.jpegxl_encode, lossless=True, effort=1), imagecodecs.jpegxl_decode,
        ),
        "differences + Zstandard": (_delta_zstd, partial(_undo_delta_zstd, shape=shape)),
        "Zstandard": (partial(_zstd, level=3), partial(_undo_zstd, shape=shape)),
        "none": (lambda film: film.tobytes(), partial(_raw, shape=shape)),
    }  # fmt: skip


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
    for name, (encode, decode) in codecs(films[0].shape).items():
        data = [bytes(encode(film)) for film in films]
        exact = all(np.array_equal(decode(d), f) for d, f in zip(data, films, strict=True))
        encoding = per_second(lambda n, e=encode: e(films[n]), len(films))
        decoding = per_second(lambda n, d=decode, b=data: d(b[n]), len(films))
        whole = per_second(lambda n, d=decode, b=data: warp(d(b[n]), how, n), len(films))
        size = np.mean([len(d) for d in data]) / 1000
        print(
            f"| {name} | {size:.1f} | {'yes' if exact else 'no'} | {encoding:,.0f} | {decoding:,.0f} | {2 * whole:,.0f} |"
        )


def per_second(work: Callable[[int], object], count: int) -> float:
    """Calls a second of CPU time."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for number in range(count):
            work(number)
        times.append(time.process_time() - started)
    return count / min(times)


if __name__ == "__main__":
    main()
