"""Soft shapes, given in centimetres and drawn on a square pixel grid: the phantom's drawing tools.

Masks are [H, W] float32 in [0, 1]. OpenCV antialiases 8-bit drawings only, so shapes are drawn in 8 bits;
blurs of many pixels are made on a smaller grid, which costs the same at any film size.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ray_cxr.labels.phantom import Technique
from ray_cxr.labels.phantom_anatomy import FIELD_CM

Mask = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
_SUBPIXEL_BITS = 4
_TEXTURE_CELLS = 160  # 0.25 cm


class Canvas:
    """A pixel grid over the field of view and the pose that puts the patient on it."""

    def __init__(self, image_px: int, technique: Technique) -> None:
        self.image_px = image_px
        self.px_per_cm = image_px / FIELD_CM * technique.zoom
        self.pose = pose_matrix(technique, image_px)

    def zeros(self) -> Mask:
        return np.zeros((self.image_px, self.image_px), np.float32)

    def fill(
        self, shapes: Sequence[Points], blur_cm: float = 0.0, levels: Sequence[float] | None = None
    ) -> Mask:
        """Filled polygons ([N, 2] cm each), later ones over earlier ones; `levels` in [0, 1], default 1."""
        grid, shrink = self._grid(blur_cm)
        for shape, level in zip(shapes, levels or [1.0] * len(shapes), strict=True):
            cv2.fillPoly(grid, [self._fixed(shape, shrink)], 255 * level, cv2.LINE_AA, _SUBPIXEL_BITS)
        return self._soften(grid, blur_cm, shrink)

    def stroke(
        self,
        lines: Sequence[Points] | Points,
        width_cm: float,
        blur_cm: float = 0.0,
        closed: bool = False,
    ) -> Mask:
        """Polylines ([N, 2] cm each) of one width; thinner than a pixel is drawn paler, not thicker."""
        grid, shrink = self._grid(blur_cm)
        self._stroke_on(grid, shrink, lines, width_cm, 1.0, closed)
        return self._soften(grid, blur_cm, shrink)

    def strokes(
        self, groups: Sequence[tuple[Sequence[Points] | Points, float, float]], blur_cm: float = 0.0
    ) -> Mask:
        """Several groups of (polylines, width_cm, level) on one mask, later ones over earlier ones."""
        grid, shrink = self._grid(blur_cm)
        for lines, width_cm, level in groups:
            self._stroke_on(grid, shrink, lines, width_cm, level, closed=False)
        return self._soften(grid, blur_cm, shrink)

    def texture(self, seed: int, grain_cm: float) -> Mask:
        """Gaussian noise, variance 1, smooth over `grain_cm`, that moves with the patient; [H, W] float32."""
        rng = np.random.Generator(np.random.PCG64(seed))
        cells_per_cm = _TEXTURE_CELLS / FIELD_CM
        cells = rng.standard_normal((_TEXTURE_CELLS, _TEXTURE_CELLS), np.float32)
        field = _float32(cv2.GaussianBlur(cells, (0, 0), max(grain_cm * cells_per_cm, 0.6)))
        field /= float(field.std())
        half = 0.5 / cells_per_cm
        cell_cm = [[2 * half, 0, half - FIELD_CM / 2], [0, 2 * half, half], [0, 0, 1]]
        cell_px = self.pose @ np.array(cell_cm)
        size = (self.image_px, self.image_px)
        return _float32(
            cv2.warpAffine(field, cell_px, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        )

    def blurred(self, mask: Mask, blur_cm: float) -> Mask:
        """Gaussian blur; a wide one goes by way of a smaller grid."""
        blur_px = blur_cm * self.px_per_cm
        shrink = _shrink(blur_px, self.image_px)
        if shrink > 1:
            small = round(self.image_px / shrink)
            mask = _float32(cv2.resize(mask, (small, small), interpolation=cv2.INTER_AREA))
        soft = cv2.GaussianBlur(mask, (0, 0), blur_px / shrink)
        return self._enlarge(_float32(soft))

    def _grid(self, blur_cm: float) -> tuple[npt.NDArray[np.uint8], float]:
        shrink = _shrink(blur_cm * self.px_per_cm, self.image_px)
        side = round(self.image_px / shrink)
        return np.zeros((side, side), np.uint8), self.image_px / side

    def _fixed(self, shape: Points, shrink: float) -> npt.NDArray[np.int32]:
        pixels = to_px(self.pose, shape)
        if shrink != 1:
            pixels = (pixels + 0.5) / shrink - 0.5
        return np.rint(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)

    def _stroke_on(
        self,
        grid: npt.NDArray[np.uint8],
        shrink: float,
        lines: Sequence[Points] | Points,
        width_cm: float,
        level: float,
        closed: bool,
    ) -> None:
        width_px = width_cm * self.px_per_cm / shrink
        thickness = max(1, round(width_px))
        # OpenCV's antialiased line of thickness 1 covers about 1.3 pixels.
        brightness = 255 * level * min(1.0, width_px / thickness if thickness > 1 else width_px / 1.3)
        # Lines of equal length come as one [lines, N, 2] array: one call for a thousand vessels.
        if isinstance(lines, np.ndarray):
            fixed = list(self._fixed(lines, shrink))
        else:
            fixed = [self._fixed(line, shrink) for line in lines]
        cv2.polylines(grid, fixed, closed, brightness, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)

    def _soften(self, grid: npt.NDArray[np.uint8], blur_cm: float, shrink: float) -> Mask:
        mask = grid.astype(np.float32)
        mask *= 1 / 255
        blur_px = blur_cm * self.px_per_cm / shrink
        if blur_px > 0.3:
            mask = _float32(cv2.GaussianBlur(mask, (0, 0), blur_px))
        return self._enlarge(mask)

    def _enlarge(self, mask: Mask) -> Mask:
        if mask.shape[0] == self.image_px:
            return mask
        return _float32(cv2.resize(mask, (self.image_px, self.image_px), interpolation=cv2.INTER_LINEAR))


def pose_matrix(technique: Technique, image_px: int) -> Points:
    """[2, 3] float64: patient cm (x, y, 1) to pixel (column, row), pixel centres at whole numbers."""
    angle = math.radians(technique.rotation_deg)
    turn = technique.zoom * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    pivot = np.array([0.0, FIELD_CM / 2])
    moved = pivot + np.array(technique.shift_cm) - turn @ pivot + np.array([FIELD_CM / 2, 0.0])
    scale = image_px / FIELD_CM
    return np.column_stack([scale * turn, scale * moved - 0.5])


def to_px(pose: Points, shape: Points) -> Points:
    """Apply a `pose_matrix` to [..., 2] points in cm."""
    return shape @ pose[:, :2].T + pose[:, 2]


def smooth_curve(points: npt.ArrayLike, per_segment: int = 8) -> Points:
    """Open Catmull-Rom curve through [N, 2] points."""
    knots = np.asarray(points, np.float64)
    padded = np.concatenate([knots[:1], knots, knots[-1:]])
    before, start, end, after = (padded[k : len(padded) - 3 + k] for k in range(4))
    pieces = np.stack([start, (end - before) / 2, end, (after - start) / 2], axis=1)
    curve = (_hermite_basis(per_segment) @ pieces).reshape(-1, 2)
    return np.concatenate([curve, knots[-1:]])


def ribbon(centre: Points, width_cm: float | Points) -> tuple[Points, Points]:
    """The two edges of a band along a [N, 2] line."""
    step = np.empty_like(centre)
    step[1:-1], step[0], step[-1] = centre[2:] - centre[:-2], centre[1] - centre[0], centre[-1] - centre[-2]
    length = np.hypot(step[:, 0], step[:, 1]) + 1e-9
    half = (np.asarray(width_cm) / (2 * length))[:, None] * step[:, ::-1] * (-1.0, 1.0)
    return centre + half, centre - half


def ellipse(x_cm: float, y_cm: float, radius_x_cm: float, radius_y_cm: float, points: int = 28) -> Points:
    """Points [points, 2] on an ellipse, in cm."""
    return _unit_circle(points) * (radius_x_cm, radius_y_cm) + (x_cm, y_cm)


@functools.cache
def _unit_circle(points: int) -> Points:
    angle = np.linspace(0, 2 * math.pi, points, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    circle.setflags(write=False)
    return circle


@functools.cache
def _hermite_basis(per_segment: int) -> Points:
    """[per_segment, 4]: weights of start, slope in, end and slope out along one segment."""
    t = np.linspace(0, 1, per_segment, endpoint=False)
    t2, t3 = t * t, t * t * t
    basis = np.column_stack([2 * t3 - 3 * t2 + 1, t3 - 2 * t2 + t, 3 * t2 - 2 * t3, t3 - t2])
    basis.setflags(write=False)
    return basis


def _shrink(blur_px: float, image_px: int) -> float:
    """The largest power of two that leaves the blur about two cells wide."""
    shrink = 1
    while blur_px / shrink > 4 and image_px / shrink > 48:
        shrink *= 2
    return float(shrink)


def _float32(array: Any) -> Mask:
    """OpenCV's stubs promise any array of numbers; ours are float32."""
    return np.asarray(array, np.float32)
