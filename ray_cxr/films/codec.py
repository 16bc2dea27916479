"""How a resized film is stored: four codecs, lossless by default.

`delta-zstd` takes the differences between neighbours across and then down, modulo 256, and compresses them with Zstandard
(RFC 8878): 7 % larger than HTJ2K (ISO/IEC 15444-15), and decoded in a third of its time. docs/stream.md has figures.
"""

from __future__ import annotations

import struct
from typing import cast

import cv2
import imagecodecs
import numpy as np

from ray_cxr.axes import Pixels
from ray_cxr.films.settings import Codec

_JPEG_QUALITY = 95
_ZSTD_LEVEL = 1
"""Higher levels look for repeated strings, find some in the noise, and come out larger, up to 15."""
_SIDES = struct.Struct("<HH")
"""What a `delta-zstd` film begins with: height and width."""
_LARGEST = 2**23
"""Pixels of a `delta-zstd` film: sums over more would not fit into 32 bits."""


def encode(film: Pixels, codec: Codec) -> bytes:
    """Bytes of a gray film [H, W] uint8."""
    if codec == "delta-zstd":
        return _encode_differences(film)
    if codec == "htj2k":
        return bytes(imagecodecs.htj2k_encode(film, reversible=True))
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if codec == "jpeg" else []
    ok, data = cv2.imencode(".jpg" if codec == "jpeg" else ".png", film, options)
    assert ok, codec
    return data.tobytes()


def decode(data: bytes | memoryview, codec: Codec) -> Pixels:
    """The film [H, W] uint8 of `encode`; ValueError where the bytes are no film.

    Damage within a film may pass unseen (a cut HTJ2K decodes): that is what the checksums of a shard's pages are for.
    """
    if codec == "delta-zstd":
        return _decode_differences(memoryview(data))
    if codec == "htj2k":
        try:
            return cast(Pixels, imagecodecs.htj2k_decode(data))  # type: ignore[arg-type]  # any buffer will do
        except imagecodecs.Htj2kError as error:
            raise ValueError(str(error)) from None
    film = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if film is None:
        raise ValueError(f"not a {codec} film")
    return cast(Pixels, film)


def _encode_differences(film: Pixels) -> bytes:
    across = np.diff(film, axis=1, prepend=np.uint8(0))
    both = np.diff(across, axis=0, prepend=np.uint8(0))
    return _SIDES.pack(*film.shape) + bytes(imagecodecs.zstd_encode(both.tobytes(), _ZSTD_LEVEL))


def _decode_differences(data: memoryview) -> Pixels:
    if len(data) < _SIDES.size:
        raise ValueError("not a delta-zstd film")
    height, width = _SIDES.unpack_from(data)
    if not 0 < height * width <= _LARGEST:
        raise ValueError(f"not a delta-zstd film: {height} × {width} pixels")
    try:
        both = imagecodecs.zstd_decode(data[_SIDES.size :], out=height * width)  # type: ignore[arg-type]  # any buffer will do
    except imagecodecs.ZstdError as error:
        raise ValueError(f"not a delta-zstd film: {error}") from None
    if len(both) != height * width:
        raise ValueError(f"not a delta-zstd film: {len(both)} pixels, not {height} × {width}")
    # Sums over all above and to the left undo both differences; their lowest bytes are the film.
    sums = cv2.integral(np.frombuffer(both, np.uint8).reshape(height, width))
    return cast(Pixels, sums[1:, 1:].astype(np.uint8))
