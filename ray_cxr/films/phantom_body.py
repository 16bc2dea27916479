"""The soft parts of a phantom's film: skin, lungs, mediastinum, vessels, abdomen. All lengths in cm."""

import numpy as np

from ray_cxr.films.phantom_canvas import Canvas, Mask, Points, ellipse, ribbon, smooth_curve
from ray_cxr.labels.phantom_anatomy import LEFT, RIGHT, Anatomy

_SIDES = (RIGHT, LEFT)
_VESSEL_LEVELS = 6


def mirrored(points: Points, side: int) -> Points:
    """Points given for the patient's left (x > 0), put on `side`."""
    return np.asarray(points * np.array([side, 1.0]), np.float64)


def lung_outline(anatomy: Anatomy, side: int, retreat_cm: float = 0.0) -> Points:
    """Closed outline of one lung field, [N, 2]; `retreat_cm` as in `lateral_lung_border`."""
    medial = _medial_lung_border(anatomy, side)
    return np.concatenate([lateral_lung_border(anatomy, side, retreat_cm), _diaphragm(anatomy, side), medial])


def lateral_lung_border(anatomy: Anatomy, side: int, retreat_cm: float = 0.0) -> Points:
    """From the mediastinum over the apex and down the chest wall to the costophrenic angle, [N, 2].

    With `retreat_cm` it is the visceral pleura of a collapsed lung: furthest from the wall at the apex, and
    back at the wall near the base, where an upright patient's lung still touches it.
    """
    width, top, tip = anatomy.half_width_cm, anatomy.apex_y_cm, anatomy.sulcus_y_cm(side)
    height = np.array([0.0, 0.015, 0.05, 0.11, 0.20, 0.32, 0.46, 0.62, 0.80, 1.0])
    y = top + height * anatomy.lung_height_cm
    y = np.append(y[y < tip - 1.0], tip)
    x = anatomy.lateral_cm(y)
    dome = np.array([[0.17 * width, top + 2.2], [0.22 * width, top + 0.75], [0.295 * width, top + 0.1]])
    border = np.concatenate([dome, np.column_stack([x, y])])
    if retreat_cm:
        share = np.clip((border[:, 1] - top) / (tip - top), 0, 1)
        border[:, 1] += 0.9 * retreat_cm * np.clip(1 - 3.5 * share, 0, 1)
        border[3:, 0] -= retreat_cm * (1 - 0.88 * share[3:])
        border[1:3, 0] -= 0.1 * retreat_cm
    return mirrored(smooth_curve(border, 6), side)


def _medial_lung_border(anatomy: Anatomy, side: int) -> Points:
    """Behind heart and mediastinum, which are drawn over it."""
    width, top, dome = anatomy.half_width_cm, anatomy.apex_y_cm, anatomy.dome_y_cm(side)
    return mirrored(
        np.array([[0.10 * width, dome - 3.0], [0.11 * width, top + 8], [0.14 * width, top + 4]]), side
    )


def _diaphragm(anatomy: Anatomy, side: int) -> Points:
    """From the costophrenic angle over the dome to the spine."""
    width, dome, depth = anatomy.half_width_cm, anatomy.dome_y_cm(side), anatomy.sulcus_cm
    share = [
        (0.965, 0.93),
        (0.925, 0.60),
        (0.84, 0.27),
        (0.70, 0.05),
        (0.54, 0.0),
        (0.38, 0.10),
        (0.22, 0.26),
        (0.08, 0.34),
    ]
    points = np.array([(x * width, dome + y * depth) for x, y in share])
    return mirrored(smooth_curve(points, 5), side)


def mediastinum_outline(anatomy: Anatomy) -> Points:
    """Neck, great vessels and heart as one closed silhouette, [N, 2]."""
    right = smooth_curve(anatomy.mediastinum_border(RIGHT), 5)
    left = smooth_curve(anatomy.mediastinum_border(LEFT), 5)
    return np.concatenate([right, left[::-1]])


def fat_pad_outline(anatomy: Anatomy) -> Points:
    """A wedge between the heart's apex and the left dome."""
    reach = anatomy.heart_width_cm * anatomy.heart_left_share
    y = anatomy.dome_y_cm(LEFT)
    return np.array(
        [
            (0.5 * reach, y - 4.5),
            (reach, y - 3.4),
            (reach + anatomy.fat_pad_cm, y + 1.0),
            (0.5 * reach, y + 1.5),
        ]
    )


def scar_outline(anatomy: Anatomy) -> Points:
    """The tip of a costophrenic angle, cut off straight."""
    tip, side = anatomy.sulcus_y_cm(anatomy.scar_side), anatomy.scar_side
    wall = anatomy.half_width_cm + 1
    points = [
        (wall, tip - 1.5 * anatomy.scar_cm),
        (wall - 1, tip - 1.2 * anatomy.scar_cm),
        (wall - 4.5, tip + 1),
        (wall, tip + 1),
    ]
    return mirrored(np.array(points), side)


def body_density(canvas: Canvas, anatomy: Anatomy) -> Mask:
    """Soft tissue without the lungs, thin at the skin, with breasts, windpipe and the stomach's gas."""
    body = canvas.fill([_skin_outline(anatomy)], 0.08)
    density = 0.42 * body + 0.53 * body * canvas.blurred(body, 3.0)
    density += 0.14 * canvas.fill([_abdomen(anatomy)], 0.6) * body
    if anatomy.breast_cm:
        # Only the lower outer edge stands out; towards the breastbone and upwards a breast thins out.
        rims = canvas.fill([_breast(anatomy, side, 0.0) for side in _SIDES], 0.3)
        density += 0.13 * rims * canvas.fill([_breast(anatomy, side, 0.5) for side in _SIDES], 2.0)
    density -= 0.19 * canvas.fill(_airway(anatomy), 0.15)
    density -= 0.34 * canvas.fill([_stomach_bubble(anatomy)], 0.15)
    return density


def _skin_outline(anatomy: Anatomy) -> Points:
    top = anatomy.apex_y_cm
    wall = anatomy.half_width_cm + 1.6 + 2.4 * anatomy.fat
    neck = 4.8 + anatomy.fat
    points = [
        (neck, -4), (neck + 0.2, top - 4.5), (neck + 1.6, top - 2.7), (10, top - 1.3), (14, top - 0.4),
        (17.5, top + 1.2), (20, top + 4), (22, top + 9), (23, top + 17), (wall + 3.4, top + 17),
        (wall + 1.2, top + 11.5), (wall + 0.3, top + 12.5), (wall, top + 17), (wall - 0.1, top + 22),
        (wall + 0.4, 46),
    ]  # fmt: skip
    half = smooth_curve(points)
    return np.concatenate([half, mirrored(half[::-1], RIGHT)])


def _abdomen(anatomy: Anatomy) -> Points:
    domes = [_diaphragm(anatomy, side) for side in _SIDES]
    floor = np.array([[20.0, 46.0], [-20.0, 46.0]])
    return np.concatenate([domes[0], domes[1][::-1], floor])


def _breast(anatomy: Anatomy, side: int, outward: float) -> Points:
    """`outward`: how far the disc is moved down and away from the breastbone, in radii."""
    radius = anatomy.breast_cm
    x = 0.64 * anatomy.half_width_cm + outward * radius
    y = anatomy.apex_y_cm + anatomy.lung_height_cm - 2.6 + outward * radius
    return mirrored(ellipse(x, y, 1.05 * radius, radius), side)


def _airway(anatomy: Anatomy) -> list[Points]:
    """Trachea, slightly to the right above the carina, and the two main bronchi."""
    carina = anatomy.apex_y_cm + 7.6
    trachea = np.concatenate(
        ribbon(smooth_curve([(0, -4), (-0.1, 3), (-0.4, carina - 3), (-0.3, carina)]), 1.7)
    )
    trachea[len(trachea) // 2 :] = trachea[len(trachea) // 2 :][::-1]
    shapes = [trachea]
    for side, reach in ((RIGHT, 3.0), (LEFT, 3.8)):
        upper, lower = ribbon(
            smooth_curve([(-0.2, carina - 0.3), (side * 1.6, carina + 1.1), (side * reach, carina + 2.4)]),
            1.15,
        )
        shapes.append(np.concatenate([upper, lower[::-1]]))
    return shapes


def _stomach_bubble(anatomy: Anatomy) -> Points:
    """Gas rises to the top of the stomach: an arch under the left dome over a flat fluid level."""
    size = anatomy.stomach_cm
    x, y = 0.50 * anatomy.half_width_cm, anatomy.dome_y_cm(LEFT) + 1.1 + 0.75 * size
    arch = ellipse(x, y, 1.35 * size, 0.75 * size)
    arch[:, 1] = np.minimum(arch[:, 1], y + 0.45 * size)
    return arch


def vessel_groups(anatomy: Anatomy) -> list[tuple[Points, float, float]]:
    """Pulmonary vessels branching from both hila: (lines [N, 5, 2], width_cm, level) from trunk to twig."""
    rng = np.random.Generator(np.random.PCG64(anatomy.texture_seed))
    starts, headings, sides = [], [], []
    for side in _SIDES:
        # The left hilum is the higher one. Lower-zone vessels are the wider and more of them.
        hilum_y = anatomy.apex_y_cm + (9.6 if side == LEFT else 10.4)
        fan = np.radians(np.array([-82, -58, -33, -8, 14, 34, 52, 66, 80]) + rng.normal(0, 5, 9))
        starts.append(np.column_stack([np.full(9, 2.6), hilum_y + 1.8 * np.sin(fan)]))
        headings.append(fan)
        sides.append(np.full(9, side))
    start, heading, side_of = np.concatenate(starts), np.concatenate(headings), np.concatenate(sides)
    width, length, groups = 0.52, 3.0 * anatomy.lung_height_cm / 21, []
    for level in range(_VESSEL_LEVELS):
        reach = length * rng.uniform(0.75, 1.25, len(start))[:, None]
        turn = heading + rng.normal(0, 0.12, len(start))
        end = start + reach * np.column_stack([np.cos(turn), np.sin(turn)])
        knee = start + 0.5 * reach * np.column_stack([np.cos(heading - 0.15), np.sin(heading - 0.15)])
        t = np.linspace(0, 1, 5)[None, :, None]
        lines = (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * knee[:, None] + t**2 * end[:, None]
        groups.append((lines * np.stack([side_of, np.ones_like(side_of)], 1)[:, None], width, 0.80**level))
        fork = np.radians(rng.uniform(14, 30, len(start)))
        start = np.repeat(end, 2, axis=0)
        heading = (
            np.repeat(turn, 2) + np.column_stack([fork, -fork]).ravel() + rng.normal(0, 0.1, 2 * len(turn))
        )
        side_of = np.repeat(side_of, 2)
        width, length = 0.66 * width, 0.83 * length
    return groups[::-1]
