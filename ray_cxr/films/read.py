"""Reads one film from a file: checks it before decoding, makes it gray and 8-bit, resizes it once.

Reads: PNG and JPEG bytes. Gives: a square uint8 film, or `FilmRefused` with the reason.
"""

from __future__ import annotations

import io
import warnings
from typing import cast

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ray_cxr.axes import Pixels

MAX_MEGAPIXELS = 64.0
"""A film of 8,000 × 8,000: above any digital chest radiograph, below what exhausts memory."""
MAX_BYTES = 256 * 2**20
SMALLEST_SIDE_PX = 32
SUFFIXES = (".png", ".jpg", ".jpeg")


class FilmRefused(Exception):  # noqa: N818  it is a fate, not a fault
    """This film cannot be used; the message is the reason, without the film's name."""


def read_film(data: bytes) -> Pixels:
    """The film [H, W] uint8, gray, of PNG or JPEG bytes; raises FilmRefused.

    Colour is turned to luminance, transparency is dropped, EXIF orientation is applied, and 16-bit films are
    scaled by 257, or stretched from their darkest to their brightest value where they leave the upper half empty.
    """
    _check_header(data)
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE
    film = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if film is None:
        raise FilmRefused("damaged: it cannot be decoded")
    if film.dtype == np.uint16:
        # Values that use the upper half fill the range already: they are a film of 8 bits in a larger coat.
        low, high = (0, 65535) if film.max() > 32767 else (int(film.min()), int(film.max()))
        film = ((film - np.float32(low)) * (255 / max(high - low, 1))).round().astype(np.uint8)
    if film.dtype != np.uint8:
        raise FilmRefused(f"pixels of type {film.dtype}, allowed are 8 and 16 bit")
    return cast(Pixels, film)


def resize_square(film: Pixels, image_px: int) -> Pixels:
    """[image_px, image_px] uint8: area-averaged (cubic if enlarged), aspect kept, black bars where not square."""
    height, width = film.shape
    scale = image_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != (width, height):
        film = cast(
            Pixels, cv2.resize(film, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        )
    if size == (image_px, image_px):
        return film
    square = np.zeros((image_px, image_px), np.uint8)
    top, left = (image_px - size[1]) // 2, (image_px - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = film
    return square


def _check_header(data: bytes) -> None:
    if not data:
        raise FilmRefused("empty file")
    if len(data) > MAX_BYTES:
        raise FilmRefused(f"file of {len(data) / 2**20:.0f} MiB, allowed are {MAX_BYTES // 2**20}")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large films; the limit below is ours, and it is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                (width, height), frames = image.size, getattr(image, "n_frames", 1)
    except Image.DecompressionBombError:
        raise FilmRefused(f"more than {MAX_MEGAPIXELS:.0f} megapixels") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise FilmRefused("not a PNG or JPEG file") from None
    if frames > 1:
        raise FilmRefused(f"animated ({frames} frames)")
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise FilmRefused(f"{width}×{height} is more than {MAX_MEGAPIXELS:.0f} megapixels")
    if min(width, height) < SMALLEST_SIDE_PX:
        raise FilmRefused(f"{width}×{height} is smaller than {SMALLEST_SIDE_PX} pixels")
