"""Reads one film from a file: checks it before decoding, makes it gray and 8-bit, resizes it once.

Reads: PNG and JPEG bytes. Gives: a square uint8 film, or `FilmRefused` with the reason. docs/films.md is the table
of fates.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from typing import cast

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ray_cxr.axes import Pixels
from ray_cxr.films.kinds import JPEG, PNG, kind_of

MAX_MEGAPIXELS = 64.0
"""A film of 8,000 × 8,000: above any digital chest radiograph, below what exhausts memory."""
MAX_BYTES = 256 * 2**20
SMALLEST_SIDE_PX = 32
LONGEST_SHAPE = 4.0
"""Longer side over shorter side: no chest film is a strip."""
SUFFIXES = (".png", ".jpg", ".jpeg")


class FilmRefused(Exception):  # noqa: N818  it is a fate, not a fault
    """This film cannot be used; the message is the reason, without the film's name.

    What differs from film to film, such as its size, stands at the end in brackets, so that reasons can be counted.
    """


def reason_kind(reason: str) -> str:
    """A reason without what differs from film to film: "too small (64×20, …)" is "too small"."""
    return reason.partition(" (")[0]


def read_file(path: str) -> bytes:
    """The bytes of a film's file; FilmRefused where it cannot be read, is no file, or is too large."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            # Opening a pipe would wait for ever.
            raise FilmRefused(f"unreadable: {'a folder' if stat.S_ISDIR(found.st_mode) else 'not a file'}")
        if found.st_size > MAX_BYTES:
            raise FilmRefused(
                f"too large a file ({found.st_size / 2**20:.0f} MiB, at most {MAX_BYTES // 2**20})"
            )
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise FilmRefused(f"unreadable: {error.strerror}") from None


def read_film(data: bytes) -> Pixels:
    """The film [H, W] uint8, gray, of PNG or JPEG bytes; raises FilmRefused.

    Colour is turned to luminance, transparency, gamma and colour profiles are dropped, EXIF orientation is applied, and
    16-bit films are scaled by 257, or stretched from their darkest to their brightest value where they leave the upper
    half empty.
    """
    _check_header(data)
    _check_whole(data)
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE
    film = cv2.imdecode(np.frombuffer(_without_profile(data), np.uint8), flags)
    if film is None:
        raise FilmRefused("damaged: it cannot be decoded")
    if film.dtype not in (np.uint8, np.uint16):
        raise FilmRefused(f"pixels of type {film.dtype}, allowed are 8 and 16 bit")
    low, high, *_ = cv2.minMaxLoc(film)
    if low == high:
        raise FilmRefused(f"blank: all pixels are alike (every one is {low:.0f})")
    if film.dtype == np.uint16:
        # Values that use the upper half fill the range already: they are a film of 8 bits in a larger coat.
        if high > 32767:
            low, high = 0, 65535
        film = ((film - np.float32(low)) * (255 / (high - low))).round().astype(np.uint8)
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
    """Type and size, from the first bytes: nothing is decoded yet."""
    if not data:
        raise FilmRefused("empty file")
    if len(data) > MAX_BYTES:
        raise FilmRefused(f"too large a file ({len(data) / 2**20:.0f} MiB, at most {MAX_BYTES // 2**20})")
    if not data.startswith((PNG, JPEG)):
        raise FilmRefused(f"not a PNG or JPEG film, but {kind_of(data)}")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large films; the limit below is ours, and it is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                (width, height), frames = image.size, getattr(image, "n_frames", 1)
    except Image.DecompressionBombError:
        raise FilmRefused(f"too many pixels (more than {MAX_MEGAPIXELS:.0f} megapixels)") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise FilmRefused("damaged: its header cannot be read") from None
    if frames > 1:
        raise FilmRefused(f"animated ({frames} frames)")
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise FilmRefused(f"too many pixels ({width}×{height} is more than {MAX_MEGAPIXELS:.0f} megapixels)")
    if min(width, height) < SMALLEST_SIDE_PX:
        raise FilmRefused(f"too small ({width}×{height}, at least {SMALLEST_SIDE_PX} pixels each way)")
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        raise FilmRefused(f"a strip ({width}×{height}, at most {LONGEST_SHAPE:g} times as long as wide)")


def _check_whole(data: bytes) -> None:
    """Refuses a file that was cut, and a PNG with a wrong checksum, before libpng complains on stderr.

    OpenCV 4.10 gives a cut JPEG as a film whose rest is black, and says nothing.
    """
    if data.startswith(JPEG):
        # An embedded preview has an end marker of its own, so the one that counts comes after the last scan's start.
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise FilmRefused("damaged: it is cut short, or a checksum is wrong")
        return
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError):
        raise FilmRefused("damaged: it is cut short, or a checksum is wrong") from None


def _without_profile(data: bytes) -> bytes:
    """A PNG without its colour profile, which is not used, and of which libpng complains on stderr for gray films."""
    place = data.find(b"iCCP", 0, max(data.find(b"IDAT"), 0)) if data.startswith(PNG) else -1
    if place < 0:
        return data
    (length,) = struct.unpack(">I", data[place - 4 : place])
    return data[: place - 4] + data[place + length + 8 :]
