"""Augmentation that keeps the label: rotation, shift, zoom, brightness, contrast. Never a left-right flip.

A chest film flipped left to right shows dextrocardia. The parameters of a batch are drawn at once from counters;
one warp and one look-up table apply them to a film.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Pixels, Rows
from ray_cxr.stream.counter import uniform

ROTATION_DEGREES = 8.0
SHIFT = 0.05
"""Fraction of the film's side."""
ZOOM = 0.10
BRIGHTNESS = 0.08
"""Fraction of the gray range."""
CONTRAST = 0.15

AREA_ABOVE = 1.5
"""Stored films this many times larger than the output are first area-averaged: a bilinear warp would alias."""


@dataclass(frozen=True)
class Augmentation:
    """Parameters of B films, each [B] float64: degrees (anticlockwise), fractions of the side, factors."""

    rotation_degrees: NDArray[np.float64]
    shift_x: NDArray[np.float64]
    shift_y: NDArray[np.float64]
    zoom: NDArray[np.float64]
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]

    def of(self, films: Rows | slice) -> Augmentation:
        """The parameters of some films of the batch, by their number in it."""
        return Augmentation(**{name: values[films] for name, values in vars(self).items()})


def draw_augmentation(
    seed: int, epoch: int, rows: NDArray[np.int64], copies: NDArray[np.int64], strength: float = 1.0
) -> Augmentation:
    """The parameters of films by (seed, epoch, row of the index, copy): the same on any worker.

    strength: factor on every range; 0 changes nothing.
    """
    u = (uniform(seed, epoch, rows, copies, 6) * 2 - 1) * strength
    return Augmentation(
        rotation_degrees=u[:, 0] * ROTATION_DEGREES,
        shift_x=u[:, 1] * SHIFT,
        shift_y=u[:, 2] * SHIFT,
        zoom=(1 + ZOOM) ** u[:, 3],
        brightness=u[:, 4] * BRIGHTNESS,
        contrast=(1 + CONTRAST) ** u[:, 5],
    )


def shrink(film: Pixels, image_px: int) -> Pixels:
    """A film as the model sees it without augmentation: [image_px, image_px] uint8."""
    if film.shape == (image_px, image_px):
        return film
    method = cv2.INTER_AREA if film.shape[0] > image_px else cv2.INTER_LINEAR
    return cast(Pixels, cv2.resize(film, (image_px, image_px), interpolation=method))


@dataclass(frozen=True)
class Warps:
    """What is done to each of B films, computed for all at once, since a film at a time takes 20 µs of Python.

    matrices [B, 2, 3] float64: see `output_to_film`. tables [B, 256] uint8: the gray of each gray.
    """

    image_px: int
    film_px: int
    """Side of what is warped: larger films are averaged down to it first."""
    matrices: NDArray[np.float64]
    tables: NDArray[np.uint8]

    def of(self, films: slice) -> Warps:
        """What is done to some films of the batch."""
        return Warps(self.image_px, self.film_px, self.matrices[films], self.tables[films])


def warps(drawn: Augmentation, stored_px: int, image_px: int) -> Warps:
    """The warps of B square films of `stored_px` pixels to `image_px`."""
    film_px = image_px if stored_px > AREA_ABOVE * image_px else stored_px
    return Warps(image_px, film_px, output_to_film(film_px, image_px, drawn), _look_up_tables(drawn))


def warp(film: Pixels, how: Warps, number: int, out: Pixels | None = None) -> Pixels:
    """[image_px, image_px] uint8 of a square film, augmented as film `number` of the batch; in `out`, if given."""
    if film.shape[0] != how.film_px:
        film = shrink(film, how.film_px)
    side, flags = (how.image_px, how.image_px), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(film, how.matrices[number], side, flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return cast(Pixels, cv2.LUT(warped, how.tables[number], dst=out))


def augment(film: Pixels, image_px: int, drawn: Augmentation, number: int) -> Pixels:
    """[image_px, image_px] uint8 of one square film, with the parameters of film `number` of the batch."""
    return warp(film, warps(drawn.of(np.array([number])), film.shape[0], image_px), 0)


def output_to_film(film_px: int, image_px: int, drawn: Augmentation) -> NDArray[np.float64]:
    """[B, 2, 3]: from pixel centres of the output to pixel centres of the film."""
    angle = np.deg2rad(drawn.rotation_degrees)
    scale = film_px / image_px / drawn.zoom
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    out_centre, in_centre = (image_px - 1) / 2, (film_px - 1) / 2
    x, y = out_centre + drawn.shift_x * image_px, out_centre + drawn.shift_y * image_px
    return np.stack(
        [
            np.stack([cos, -sin, in_centre - cos * x + sin * y], axis=1),
            np.stack([sin, cos, in_centre - sin * x - cos * y], axis=1),
        ],
        axis=1,
    )


def _look_up_tables(drawn: Augmentation) -> NDArray[np.uint8]:
    """[B, 256] uint8: contrast about mid-gray, then brightness."""
    centred = (np.arange(256, dtype=np.float64) - 127.5)[None]
    gray = centred * drawn.contrast[:, None] + 127.5 + 255 * drawn.brightness[:, None]
    return np.clip(gray, 0, 255).round().astype(np.uint8)
