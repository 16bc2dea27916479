"""The skeleton of a phantom's film: ribs, clavicles, shoulder blades, spine. All lengths in cm."""

import math

import numpy as np

from ray_cxr.films.phantom_body import mirrored
from ray_cxr.films.phantom_canvas import Canvas, Mask, Points, ellipse, ribbon, smooth_curve
from ray_cxr.labels.phantom_anatomy import LEFT, RIGHT, Anatomy

_SIDES = (RIGHT, LEFT)
_RIBS = 10
_Edges = tuple[Points, Points]


def bones_density(canvas: Canvas, anatomy: Anatomy, arms_down: bool) -> Mask:
    """Ribs, clavicles, shoulder blades. `arms_down`: the blades lie over the lungs, as on AP films."""
    back, front = _ribs(anatomy)
    density = 0.09 * canvas.fill([_band(*edges) for edges in back], 0.05)
    density += 0.06 * canvas.stroke([edge for edges in back for edge in edges], 0.16, 0.04)
    density += 0.050 * canvas.fill([_band(*edges) for edges in front], 0.08)
    density += 0.018 * canvas.stroke([edge for edges in front for edge in edges], 0.16, 0.05)
    clavicles = [ribbon(_clavicle(anatomy, side), 1.25) for side in _SIDES]
    density += 0.13 * canvas.fill([_band(*edges) for edges in clavicles], 0.05)
    density += 0.065 * canvas.stroke([edge for edges in clavicles for edge in edges], 0.18, 0.04)
    blades = [_shoulder_blade(anatomy, side, arms_down) for side in _SIDES]
    density += 0.09 * canvas.fill(blades, 0.08) + 0.05 * canvas.stroke(
        [blade[:18] for blade in blades], 0.25, 0.08
    )
    reach = anatomy.half_width_cm + 4.9
    heads = [ellipse(side * reach, anatomy.apex_y_cm + 2.9, 2.4, 2.5) for side in _SIDES]
    density += 0.15 * canvas.fill(heads, 0.15)
    return density


def _band(upper: Points, lower: Points) -> Points:
    return np.concatenate([upper, lower[::-1]])


def _ribs(anatomy: Anatomy) -> tuple[list[_Edges], list[_Edges]]:
    """Edges of the posterior and of the anterior halves of the ribs.

    A rib is a tilted ring: seen from the front its angle phi runs from the spine (0) over the lateral wall
    (pi/2) to the cartilage, x = w sin(phi), while it drops steadily: the back half looks flat, the front half
    steep.
    """
    back: list[_Edges] = []
    front: list[_Edges] = []
    for rib in range(_RIBS):
        start_y = anatomy.apex_y_cm + 0.4 + rib * anatomy.rib_spacing_cm
        drop = anatomy.rib_drop * np.interp(rib, [0, 1, 3, 6, 9], [4.2, 7.0, 9.4, 10.8, 11.2])
        width = float(anatomy.lateral_cm(start_y + drop / 2)) + 0.3
        width *= 0.80 if rib == 0 else 1.0
        end = 2.62 if rib < 7 else 2.2
        for halves, first, last, thickness in (
            (back, math.asin(1.7 / width), 1.52, anatomy.rib_width_cm),
            (front, 1.45, end, 1.15 * anatomy.rib_width_cm),
        ):
            phi = np.linspace(first, last, 14)
            y = start_y + drop * (1 - np.cos(phi)) / 2 - 0.55 * np.sin(2 * phi)
            # Where the rib turns away from the ray its band looks narrow.
            centre = np.column_stack([(width - 0.15) * np.sin(phi), y])
            band = thickness * (0.62 + 0.38 * np.abs(np.cos(phi)))
            halves.extend(ribbon(mirrored(centre, side), band) for side in _SIDES)
    return back, front


def _clavicle(anatomy: Anatomy, side: int) -> Points:
    """S-shaped from the manubrium, below the apex, out and up to the shoulder."""
    top, reach, tilt = anatomy.apex_y_cm, anatomy.half_width_cm + 2.6, anatomy.clavicle_tilt
    points = [
        (1.5, top + 3.3), (3.3, top + 2.9), (0.35 * reach, top + 1.9 - 0.3 * tilt),
        (0.55 * reach, top + 0.9 - 0.6 * tilt), (0.78 * reach, top + 0.6 - 0.9 * tilt),
        (reach, top + 0.9 - tilt),
    ]  # fmt: skip
    return mirrored(smooth_curve(points, 5), side)


def _shoulder_blade(anatomy: Anatomy, side: int, arms_down: bool) -> Points:
    """Medial border first, from the lower tip up; then over the top and down the lateral border."""
    width, top = anatomy.half_width_cm, anatomy.apex_y_cm
    inward = 1.9 if arms_down else 0.0
    points = [
        (0.98 * width - inward, top + 13.2), (0.84 * width - inward, top + 9.0),
        (0.80 * width - inward, top + 4.5), (0.86 * width - inward, top + 2.0), (width + 1.4, top + 2.2),
        (width + 2.3, top + 3.6), (width + 1.2, top + 6.5), (width + 0.7 - 0.5 * inward, top + 10.5),
        (0.98 * width - inward, top + 13.2),
    ]  # fmt: skip
    return mirrored(smooth_curve(points, 6), side)


def spine_density(canvas: Canvas, anatomy: Anatomy) -> Mask:
    """A column of vertebrae with paler discs between, pedicles and spinous processes."""
    y = np.arange(-1.0, 42.0, 1.0)
    bend = anatomy.spine_bend_cm * np.sin((y - anatomy.apex_y_cm) / 24 * math.pi)
    column = _band(*ribbon(np.column_stack([bend, y]), 3.3))
    bodies, details = [], []
    for middle in np.arange(anatomy.apex_y_cm - 7.2, 42.0, anatomy.rib_spacing_cm):
        x = float(np.interp(middle, y, bend))
        half = anatomy.rib_spacing_cm / 2 - 0.22
        corners = np.array([(-1.6, -half), (1.6, -half), (1.6, half), (-1.6, half)])
        bodies.append(corners + np.array([x, middle]))
        details += [ellipse(x + k * 1.0, middle - 0.3, 0.28, 0.42, 10) for k in (-1, 1)]
        details.append(ellipse(x, middle + 0.55, 0.22, 0.5, 10))
    density: Mask = 0.075 * canvas.fill([column], 0.15) + 0.05 * canvas.fill(bodies, 0.12)
    density += 0.05 * canvas.fill(details, 0.06)
    return density
