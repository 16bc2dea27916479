"""How a resized film is stored: three codecs, lossless by default.

HTJ2K (ISO/IEC 15444-15) is smaller than PNG and decodes nearly twice as fast; docs/decisions.md has figures.
"""

from __future__ import annotations

from typing import cast

import cv2
import imagecodecs
import numpy as np

from ray_cxr.axes import Pixels
from ray_cxr.films.settings import Codec

_JPEG_QUALITY = 95


def encode(film: Pixels, codec: Codec) -> bytes:
    """Bytes of a gray film [H, W] uint8."""
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
    if codec == "htj2k":
        try:
            return cast(Pixels, imagecodecs.htj2k_decode(data))  # type: ignore[arg-type]  # any buffer will do
        except imagecodecs.Htj2kError as error:
            raise ValueError(str(error)) from None
    film = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if film is None:
        raise ValueError(f"not a {codec} film")
    return cast(Pixels, film)
