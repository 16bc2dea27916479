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

    def of(self, films: Rows) -> Augmentation:
        """The parameters of some films of the batch, by their number in it."""
        return Augmentation(**{name: values[films] for name, values in vars(self).items()})


def draw_augmentation(
    seed: int, epoch: int, rows: NDArray[np.int64], copies: NDArray[np.int64]
) -> Augmentation:
    """The parameters of films by (seed, epoch, row of the index, copy): the same on any worker."""
    u = uniform(seed, epoch, rows, copies, 6) * 2 - 1
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


def augment(film: Pixels, image_px: int, drawn: Augmentation, number: int) -> Pixels:
    """[image_px, image_px] uint8 of a square film, with the parameters of film `number` of the batch."""
    if film.shape[0] > AREA_ABOVE * image_px:
        film = shrink(film, image_px)
    matrix = output_to_film(film.shape[0], image_px, drawn, number)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(film, matrix, (image_px, image_px), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return cast(Pixels, cv2.LUT(warped, _look_up_table(drawn.brightness[number], drawn.contrast[number])))


def output_to_film(film_px: int, image_px: int, drawn: Augmentation, number: int) -> NDArray[np.float64]:
    """[2, 3]: from pixel centres of the output to pixel centres of the film."""
    angle = np.deg2rad(drawn.rotation_degrees[number])
    scale = film_px / image_px / drawn.zoom[number]
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    out_centre, in_centre = (image_px - 1) / 2, (film_px - 1) / 2
    rotation = np.array([[cos, -sin], [sin, cos]])
    shifted = np.array(
        [out_centre + drawn.shift_x[number] * image_px, out_centre + drawn.shift_y[number] * image_px]
    )
    return np.column_stack([rotation, in_centre - rotation @ shifted])


def _look_up_table(brightness: float, contrast: float) -> NDArray[np.uint8]:
    """[256] uint8: contrast about mid-gray, then brightness."""
    gray = np.arange(256, dtype=np.float64)
    return np.clip((gray - 127.5) * contrast + 127.5 + 255 * brightness, 0, 255).round().astype(np.uint8)
