"""The body of a phantom patient in centimetres: where the lungs end, how wide the heart is, what he wears.

Reads a random generator, writes frozen dataclasses. Frame: x to the viewer's right (the patient's left is
positive), y downwards, spine at x = 0; the field of view is a square of `FIELD_CM`, x in [-20, 20] and y in
[0, 40].
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FIELD_CM = 40.0
RIGHT, LEFT = -1, 1  # the sign of x on that side of the patient

CTR_NORMAL = (0.40, 0.48)
CTR_CARDIOMEGALY = (0.54, 0.65)
# Fleischner Society glossary (Hansell 2008): a mass is larger than 30 mm, a nodule up to 30 mm.
MASS_CM = (3.2, 7.0)
NODULE_CM = (0.8, 2.8)

MARK_KINDS = ("necklace", "port", "pacemaker", "sternal wires", "clips", "electrodes")

FloatArray = npt.NDArray[np.float64]

# Lateral border of a lung: height below the apex (1 = dome at full breath) against share of the half width.
_LATERAL_HEIGHT = np.array([0.00, 0.015, 0.05, 0.11, 0.20, 0.32, 0.46, 0.62, 0.80, 1.00, 1.25])
_LATERAL_SHARE = np.array([0.385, 0.46, 0.545, 0.635, 0.73, 0.815, 0.885, 0.94, 0.98, 1.00, 0.995])


@dataclass(frozen=True)
class Anatomy:
    """What all films of a patient share. Lengths in cm, y from the top of the field."""

    half_width_cm: float
    """Half of the inner width of the thorax, the denominator of the cardiothoracic ratio."""
    apex_y_cm: float
    lung_height_cm: float
    """Apex to right dome at full breath."""
    breath_cm: float
    """How far the domes sit below full breath: negative = shallow breath. 0 for the patient, set by the film.
    """
    left_dome_drop_cm: float
    sulcus_cm: float
    """Depth of the costophrenic angle below the dome."""
    cardiothoracic_ratio: float
    heart_left_share: float
    """Share of the heart's width left of the midline, about two thirds."""
    knob_cm: float
    """How far the aortic knob reaches to the left."""
    spine_bend_cm: float
    rib_spacing_cm: float
    rib_drop: float
    rib_width_cm: float
    clavicle_tilt: float
    fat: float
    """0 = slim, 1 = stout."""
    breast_cm: float
    """Radius of the breast shadows, 0 = none."""
    stomach_cm: float
    vascularity: float
    """Strength of the vessel markings, 1 = average. Plump vessels are not edema."""
    fat_pad_cm: float
    """How far the fat at the heart's apex reaches beyond it, 0 = none. It is paler than the heart it widens.
    """
    scar_cm: float
    """Height of an old pleural scar in one costophrenic angle, 0 = none. Straight, where fluid is curved."""
    scar_side: int
    texture_seed: int
    """Vessels and parenchymal texture."""

    @property
    def heart_width_cm(self) -> float:
        return self.cardiothoracic_ratio * 2 * self.half_width_cm

    def dome_y_cm(self, side: int) -> float:
        drop = self.left_dome_drop_cm if side == LEFT else 0.0
        return self.apex_y_cm + self.lung_height_cm + self.breath_cm + drop

    def sulcus_y_cm(self, side: int) -> float:
        """The tip of the costophrenic angle."""
        return self.dome_y_cm(side) + self.sulcus_cm

    def lateral_cm(self, y_cm: npt.ArrayLike) -> FloatArray:
        """Distance of the inner chest wall from the midline at the heights `y_cm`."""
        height = (np.asarray(y_cm, np.float64) - self.apex_y_cm) / self.lung_height_cm
        return np.asarray(self.half_width_cm * np.interp(height, _LATERAL_HEIGHT, _LATERAL_SHARE), np.float64)

    def mediastinum_border(self, side: int) -> FloatArray:
        """Right or left contour of mediastinum and heart, top to bottom: [N, 2] cm, x signed as `side`."""
        points = self._left_heart_border() if side == LEFT else self._right_heart_border()
        border = np.array(points)
        border[:, 1] = np.maximum.accumulate(border[:, 1])
        border[:, 0] *= side
        return border

    # The heart keeps its size however shallow the breath: its heights hang on the dome, not on the apex.

    def _right_heart_border(self) -> list[tuple[float, float]]:
        """Superior vena cava, then right atrium."""
        top, dome = self.apex_y_cm, self.dome_y_cm(RIGHT)
        base, reach = dome - 0.5, self.heart_width_cm * (1 - self.heart_left_share)
        return [
            (3.2, -1.0), (2.7, top), (2.5, top + 3), (2.6, top + 6), (2.8, top + 8.5),
            (0.80 * reach, base - 8.5), (0.95 * reach, base - 6), (reach, base - 3.6),
            (0.96 * reach, base - 1), (0.82 * reach, dome + 1.6), (0.60 * reach, dome + 4.0),
        ]  # fmt: skip

    def _left_heart_border(self) -> list[tuple[float, float]]:
        """Subclavian artery, aortic knob, pulmonary trunk, left ventricle down to the apex of the heart."""
        top, dome = self.apex_y_cm, self.dome_y_cm(LEFT)
        base, reach = self.dome_y_cm(RIGHT) - 0.5, self.heart_width_cm * self.heart_left_share
        knob = self.knob_cm
        return [
            (3.2, -1.0), (2.5, top), (2.3, top + 3), (0.80 * knob, top + 4.8), (knob, top + 6.1),
            (0.86 * knob, top + 7.5), (0.84 * knob, top + 8.4), (0.40 * reach + 0.6, base - 9.6),
            (0.62 * reach, base - 7.2), (0.84 * reach, base - 4.4), (0.97 * reach, base - 1.6),
            (reach, base + 0.2), (0.94 * reach, base + 1.8), (0.78 * reach, dome + 2.2),
            (0.45 * reach, dome + 4.2),
        ]  # fmt: skip


@dataclass(frozen=True)
class Lesion:
    """A mass or a nodule: a lobulated disc that stays where it is on the patient's later films."""

    x_cm: float
    y_cm: float
    diameter_cm: float
    lobes: tuple[float, ...]
    """Amplitude and phase of three contour waves, alternating."""
    opacity: float
    """Added density at the centre, in units of the film's density scale (lung to heart is about 0.5)."""


@dataclass(frozen=True)
class Mark:
    """A thing that this patient wears or carries on every film."""

    kind: str
    x_cm: float
    y_cm: float
    length_cm: float
    wobble: tuple[float, ...]
    """Twelve standard normal numbers, clipped to +-2, that the drawing turns into the mark's own shape."""


def sample_anatomy(rng: np.random.Generator, sex: str, cardiomegaly: bool) -> Anatomy:
    """One body; `cardiomegaly` picks the range of the cardiothoracic ratio."""
    female = sex == "F"
    return Anatomy(
        half_width_cm=rng.uniform(12.9, 14.9) if female else rng.uniform(14.0, 16.2),
        apex_y_cm=rng.uniform(4.0, 5.6),
        lung_height_cm=rng.uniform(20.5, 23.0) if female else rng.uniform(21.5, 24.5),
        breath_cm=0.0,
        left_dome_drop_cm=rng.uniform(0.7, 2.0),
        sulcus_cm=rng.uniform(3.2, 5.2),
        cardiothoracic_ratio=_cardiothoracic_ratio(rng, cardiomegaly),
        heart_left_share=rng.uniform(0.65, 0.71),
        knob_cm=rng.uniform(3.0, 4.1),
        spine_bend_cm=float(np.clip(rng.normal(0.0, 0.35), -0.9, 0.9)),
        rib_spacing_cm=rng.uniform(2.35, 2.75),
        rib_drop=rng.uniform(0.85, 1.12),
        rib_width_cm=rng.uniform(1.05, 1.4),
        clavicle_tilt=rng.uniform(-0.6, 1.4),
        fat=rng.uniform(0.0, 1.0),
        breast_cm=rng.uniform(4.8, 6.8) if female else 0.0,
        stomach_cm=rng.uniform(0.9, 2.5),
        vascularity=rng.uniform(0.7, 1.35),
        fat_pad_cm=rng.uniform(0.6, 2.6) if rng.random() < 0.5 else 0.0,
        scar_cm=rng.uniform(1.2, 2.2) if rng.random() < 0.18 else 0.0,
        scar_side=LEFT if rng.random() < 0.5 else RIGHT,
        texture_seed=int(rng.integers(2**31)),
    )


def _cardiothoracic_ratio(rng: np.random.Generator, cardiomegaly: bool) -> float:
    """Both ranges lean towards the border between them, 0.5: moderate enlargement is the common one."""
    low, high = CTR_CARDIOMEGALY if cardiomegaly else CTR_NORMAL
    share = rng.beta(1.0, 3.5) if cardiomegaly else rng.beta(1.8, 1.2)
    return low + (high - low) * float(share)


def sample_mark(rng: np.random.Generator, anatomy: Anatomy) -> Mark:
    """Kind, place and shape, drawn apart from the findings: it tells who a patient is, not what he has."""
    kind = MARK_KINDS[int(rng.integers(len(MARK_KINDS)))]
    side = LEFT if rng.random() < 0.5 else RIGHT
    width, top = anatomy.half_width_cm, anatomy.apex_y_cm
    x_cm, y_cm, length_cm = {
        "necklace": (rng.uniform(-0.8, 0.8), top + rng.uniform(1.0, 12.0), rng.uniform(3.6, 7.2)),
        "port": (side * width * rng.uniform(0.45, 0.72), top + rng.uniform(4.5, 8.5), rng.uniform(2.2, 3.0)),
        "pacemaker": (
            side * width * rng.uniform(0.5, 0.78),
            top + rng.uniform(2.5, 6.5),
            rng.uniform(3.6, 5.0),
        ),
        "sternal wires": (rng.uniform(-0.7, 0.7), top + rng.uniform(4.5, 6.5), rng.uniform(10.0, 14.0)),
        "clips": (
            side * width * rng.uniform(0.15, 1.05),
            top + rng.uniform(1.0, 25.0),
            rng.uniform(1.5, 3.0),
        ),
        "electrodes": (rng.uniform(-1.5, 1.5), top + rng.uniform(8.0, 12.0), rng.uniform(7.0, 10.5)),
    }[kind]
    wobble = np.clip(rng.standard_normal(12), -2, 2)
    return Mark(kind, float(x_cm), float(y_cm), float(length_cm), tuple(wobble.tolist()))


def sample_lesion(
    rng: np.random.Generator, anatomy: Anatomy, diameter_range_cm: tuple[float, float]
) -> Lesion:
    """A lesion wholly inside the visible lung: clear of chest wall, heart, mediastinum and domes."""
    # Small lesions are commoner than large ones.
    low, high = diameter_range_cm
    diameter = low + (high - low) * float(rng.beta(1.4, 1.6))
    amplitudes, phases = rng.uniform(0.0, 0.07, 3), rng.uniform(0, 2 * math.pi, 3)
    lobes = tuple(np.column_stack([amplitudes, phases]).ravel().tolist())
    x_cm, y_cm = _place(rng, anatomy, diameter / 2)
    # A small nodule is only ever seen on a film if it is dense for its size.
    opacity = rng.uniform(0.22, 0.36) + 0.08 * max(0.0, 1.8 - diameter) + 0.07 * (diameter > NODULE_CM[1])
    return Lesion(x_cm, y_cm, diameter, lobes, float(opacity))


def _place(rng: np.random.Generator, anatomy: Anatomy, radius_cm: float) -> tuple[float, float]:
    """A centre such that a disc of `radius_cm` lies in one lung; the roomiest of the tries if none does."""
    best, best_room = (0.0, 0.0), -math.inf
    angles = np.linspace(0, 2 * math.pi, 16, endpoint=False)
    borders = {side: anatomy.mediastinum_border(side) for side in (RIGHT, LEFT)}
    for _ in range(80):
        side = LEFT if rng.random() < 0.45 else RIGHT
        y = rng.uniform(anatomy.apex_y_cm + 1.2 + radius_cm, anatomy.dome_y_cm(side) - 2.6 - radius_cm)
        rim_x, rim_y = radius_cm * np.cos(angles), y + radius_cm * np.sin(angles)
        border = borders[side]
        outer = float((anatomy.lateral_cm(rim_y) - rim_x).min()) - 0.3
        inner = float((np.interp(rim_y, border[:, 1], np.abs(border[:, 0])) - rim_x).max()) + 0.3
        x = (inner + outer) / 2 + rng.uniform(-0.5, 0.5) * max(outer - inner, 0.0)
        if outer - inner > best_room:
            best, best_room = (float(side * x), float(y)), outer - inner
        if best_room >= 0:
            break
    return best
