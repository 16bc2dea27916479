"""How a resized film is stored: three codecs, lossless by default.

HTJ2K (ISO/IEC 15444-15) is smaller than PNG and decodes nearly twice as fast; docs/decisions.md has figures.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

import cv2
import imagecodecs
import numpy as np

from ray_cxr.axes import Pixels

Codec: TypeAlias = Literal["htj2k", "png", "jpeg"]
"""`htj2k` and `png` are lossless; `jpeg` (quality 95) is not, and the data set's manifest says so."""

LOSSLESS: tuple[Codec, ...] = ("htj2k", "png")
_JPEG_QUALITY = 95


def encode(film: Pixels, codec: Codec) -> bytes:
    """Bytes of a gray film [H, W] uint8."""
    if codec == "htj2k":
        return bytes(imagecodecs.htj2k_encode(film, reversible=True))
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if codec == "jpeg" else []
    ok, data = cv2.imencode(".jpg" if codec == "jpeg" else ".png", film, options)
    assert ok, codec
    return data.tobytes()


def decode(data: bytes, codec: Codec) -> Pixels:
    """The film [H, W] uint8 of `encode`; ValueError where the bytes are damaged."""
    if codec == "htj2k":
        try:
            return cast(Pixels, imagecodecs.htj2k_decode(data))
        except imagecodecs.Htj2kError as error:
            raise ValueError(str(error)) from None
    film = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if film is None:
        raise ValueError(f"not a {codec} film")
    return cast(Pixels, film)
