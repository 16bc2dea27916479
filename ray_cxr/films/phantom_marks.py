"""What a phantom patient wears or carries on all his films, from a necklace to ECG electrodes."""

import math
from collections.abc import Callable

import numpy as np

from ray_cxr.films.phantom_canvas import Canvas, Mask, Points, ellipse, ribbon, smooth_curve
from ray_cxr.labels.phantom_anatomy import Anatomy, Mark


def mark_density(canvas: Canvas, mark: Mark, anatomy: Anatomy) -> Mask:
    """Density that the mark adds, [H, W] float32; its place depends on patient and pose alone."""
    return _DRAWINGS[mark.kind](canvas, mark, anatomy)


def _necklace(canvas: Canvas, mark: Mark, anatomy: Anatomy) -> Mask:
    """A chain of beads around the neck, some with a pendant; beads differ in number, size and sag."""
    w = mark.wobble
    t = np.linspace(-1, 1, 60)
    half, nape = mark.length_cm, anatomy.apex_y_cm - 5.0
    x = mark.x_cm * (1 - t**2) + half * np.sin(t * math.pi / 2) ** 3 * 0.3 + half * 0.7 * t
    y = mark.y_cm - (mark.y_cm - nape) * np.abs(t) ** (2.1 + 0.3 * w[3])
    line = np.column_stack([x, y])
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    stops = np.arange(0, way[-1], 0.72 + 0.14 * w[0])
    radius = 0.2 + 0.05 * w[4]
    beads = [ellipse(np.interp(stop, way, x), np.interp(stop, way, y), radius, radius, 12) for stop in stops]
    chain = 0.28 * canvas.stroke([line], 0.1) + 0.55 * canvas.fill(beads)
    if w[5] > -0.3:
        size = 0.55 + 0.15 * w[6]
        bottom = np.array([mark.x_cm, mark.y_cm + size])
        angle = np.linspace(0, 2 * math.pi, 3 + round(abs(2.4 * w[7])), endpoint=False) - math.pi / 2
        chain += 0.6 * canvas.fill([bottom + size * np.column_stack([np.cos(angle), np.sin(angle)])])
    return chain


def _port(canvas: Canvas, mark: Mark, anatomy: Anatomy) -> Mask:
    """A subcutaneous reservoir and its catheter, by way of the subclavian vein to the superior vena cava."""
    w, x, y, radius = mark.wobble, mark.x_cm, mark.y_cm, mark.length_cm / 2
    side = math.copysign(1.0, x)
    top = anatomy.apex_y_cm
    corners = 3 + round(1.5 * abs(w[0])) if w[1] > 0.4 else 28
    angle = np.linspace(0, 2 * math.pi, corners, endpoint=False) + w[2]
    plate = np.array([x, y]) + radius * np.column_stack([np.cos(angle), np.sin(angle)])
    catheter = [
        (x - side * radius, y), (x - side * (radius + 0.8), y - 1.5 + 0.4 * w[3]),
        (side * (5.2 + 0.6 * w[4]), top + 1.6 + 0.5 * w[5]), (side * 2.6, top + 2.6),
        (-1.6 + 0.2 * w[6], top + 4.5), (-2.0, top + 7.5), (-1.9 + 0.2 * w[7], top + 10.0 + 0.8 * w[8]),
    ]  # fmt: skip
    ring = ellipse(x, y, 0.58 * radius, 0.58 * radius)
    density: Mask = 0.30 * canvas.fill([plate])
    density += 0.35 * canvas.stroke([plate, ring], 0.22, closed=True)
    density += 0.32 * canvas.stroke([smooth_curve(catheter)], 0.2)
    return density


def _pacemaker(canvas: Canvas, mark: Mark, anatomy: Anatomy) -> Mask:
    """A generator below the clavicle with one or two leads into the right heart."""
    w, x, y, size = mark.wobble, mark.x_cm, mark.y_cm, mark.length_cm
    side = math.copysign(1.0, x)
    top = anatomy.apex_y_cm
    angle = np.linspace(0, 2 * math.pi, 36, endpoint=False)
    # A superellipse: between a disc and a rounded box, as the makers' cases are.
    case = np.column_stack(
        [np.sign(f) * np.abs(f) ** (0.55 + 0.12 * w[0]) for f in (np.cos(angle), np.sin(angle))]
    )
    tilt = 0.35 * w[1]
    case = case * np.array([size / 2, size * (0.42 + 0.03 * w[2])])
    case = case @ np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]]) + np.array(
        [x, y]
    )
    heart_y = top + anatomy.lung_height_cm
    vein = [
        (x - side * 0.3, y - 0.4 * size),
        (x - side * 1.6, y - 0.75 * size),
        (side * (4.6 + 0.5 * w[3]), top + 2.2),
        (-1.5, top + 5.5),
    ]
    ends = [
        [
            (-2.2, heart_y - 8),
            (0.2, heart_y - 3.2 + 0.5 * w[4]),
            (4.6 + 0.8 * w[5], heart_y - 2.2 + 0.6 * w[6]),
        ]
    ]
    if w[7] > 0:
        ends.append([(-2.6, heart_y - 8.5), (-2.8, heart_y - 5), (-1.2 + 0.3 * w[8], heart_y - 7.2)])
    leads = [smooth_curve([*vein, *end]) for end in ends]
    battery = np.array([x, y]) + 0.55 * (case - np.array([x, y])) + np.array([0.1, 0.12]) * size
    density: Mask = 0.34 * canvas.fill([case]) + 0.14 * canvas.fill([battery])
    density += 0.30 * canvas.stroke(leads, 0.16)
    density += 0.40 * canvas.stroke([lead[-3:] for lead in leads], 0.3)
    return density


def _sternal_wires(canvas: Canvas, mark: Mark, anatomy: Anatomy) -> Mask:
    """Five to eight twisted loops down the breastbone after open heart surgery."""
    w = mark.wobble
    count = 6 + round(0.8 * w[0])
    loops = []
    for number, y in enumerate(np.linspace(mark.y_cm, mark.y_cm + mark.length_cm, count)):
        own = w[1 + number % 11]
        x = mark.x_cm + 0.25 * own
        loop = ellipse(x, y + 0.1 * own, 0.75 + 0.12 * own, 0.42 + 0.08 * w[(number + 5) % 12], 20)
        twist = np.array([[x, y + 0.4], [x + 0.18 * own, y + 0.8], [x - 0.25 * own, y + 1.0]])
        loops += [loop, twist]
    return 0.42 * canvas.stroke(loops, 0.12)


def _clips(canvas: Canvas, mark: Mark, anatomy: Anatomy) -> Mask:
    """A scatter of small surgical clips."""
    w = mark.wobble
    angle = np.cumsum(np.array(w) + 1.7)
    count = 7 + round(2 * w[11])
    clips = []
    for number in range(count):
        own = angle[number % 12]
        centre = np.array([mark.x_cm, mark.y_cm]) + mark.length_cm * np.array(
            [math.cos(own), math.sin(own)]
        ) * abs(w[(number + 3) % 12])
        arm = 0.42 * np.array([math.cos(2.3 * own), math.sin(2.3 * own)])
        upper, lower = ribbon(np.array([centre - arm, centre + arm]), 0.26)
        clips.append(np.concatenate([upper, lower[::-1]]))
    return 0.75 * canvas.fill(clips)


def _electrodes(canvas: Canvas, mark: Mark, anatomy: Anatomy) -> Mask:
    """Adhesive ECG electrodes and their wires, which leave the film at the lower edge or the shoulder."""
    w, reach = mark.wobble, mark.length_cm
    usual = np.array([(-reach, -5.0), (reach, -5.5), (0.75 * reach, 9.0), (-0.6 * reach, 8.0)])
    spots = usual[: 4 if w[8] > 0 else 3]
    spots = spots + np.array([mark.x_cm, mark.y_cm]) + np.array(w[: 2 * len(spots)]).reshape(-1, 2) * 0.9
    exits = np.array([1.2 * w[9], 44.0])
    wires: list[Points] = []
    for number, spot in enumerate(spots):
        sway = 2.2 * w[(number + 4) % 12]
        way = [spot + np.array([sway * 0.5, 4.0]), (spot + exits) / 2 + np.array([sway, 3.0])]
        wires.append(smooth_curve([spot, *way, exits]))
    discs = [ellipse(x, y, 0.62, 0.62, 16) for x, y in spots]
    snaps = [ellipse(x, y, 0.26, 0.26, 12) for x, y in spots]
    density: Mask = 0.16 * canvas.stroke(wires, 0.16) + 0.16 * canvas.fill(discs)
    density += 0.5 * canvas.fill(snaps)
    return density


_DRAWINGS: dict[str, Callable[[Canvas, Mark, Anatomy], Mask]] = {
    "necklace": _necklace,
    "port": _port,
    "pacemaker": _pacemaker,
    "sternal wires": _sternal_wires,
    "clips": _clips,
    "electrodes": _electrodes,
}
