"""Puts the findings into a phantom's film, each by what causes its look. All change the `Scene` in place."""

import math

import numpy as np

from ray_cxr.films.phantom_body import lateral_lung_border, lung_outline, mirrored
from ray_cxr.films.phantom_canvas import Points, ellipse, smooth_curve
from ray_cxr.films.phantom_scene import Scene
from ray_cxr.labels.phantom import Consolidation, Edema, Effusion, Pneumothorax
from ray_cxr.labels.phantom_anatomy import LEFT, RIGHT, Lesion


def add_lesion(scene: Scene, lesion: Lesion) -> None:
    """A mass or nodule: a nearly solid lobulated ball, so that its visible width is its diameter."""
    outline = lesion_outline(lesion)
    centre = np.array([lesion.x_cm, lesion.y_cm])
    shells = [centre + shrink * (outline - centre) for shrink in (1.0, 0.88, 0.7, 0.45)]
    soft_cm = 0.06 + 0.03 * lesion.diameter_cm
    ball = scene.canvas.fill(shells, soft_cm, levels=(0.78, 0.88, 0.95, 1.0))
    scene.added += lesion.opacity * ball
    scene.vessels *= 1 - 0.75 * ball  # vessels show against air, and here is none


def lesion_outline(lesion: Lesion) -> Points:
    """[N, 2] cm; scaled so that its mean diameter is the lesion's."""
    angle = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    radius = np.ones_like(angle)
    for waves, size, phase in zip((2, 3, 4), lesion.lobes[::2], lesion.lobes[1::2], strict=True):
        radius += size * np.cos(waves * angle + phase)
    radius *= lesion.diameter_cm / 2 / radius.mean()
    return np.column_stack([lesion.x_cm + radius * np.cos(angle), lesion.y_cm + radius * np.sin(angle)])


def add_effusion(scene: Scene, effusion: Effusion) -> None:
    """Free fluid: fills the costophrenic angle first and climbs the chest wall in a meniscus."""
    anatomy, side = scene.anatomy, effusion.side
    rim = anatomy.sulcus_y_cm(side) - effusion.height_cm
    wall = float(anatomy.lateral_cm(rim))
    away = np.array([-3.0, 0.0, 0.4, 0.9, 1.6, 2.6, 4.0, 6.0, 9.0, wall])
    sag = min(0.55 * effusion.height_cm, 3.4)
    surface = np.column_stack([wall - away, rim + sag * (1 - np.exp(-np.maximum(away, 0) / 2.2))])
    floor = np.array([[0.0, anatomy.sulcus_y_cm(side) + 2], [wall + 3.0, anatomy.sulcus_y_cm(side) + 2]])
    shape = mirrored(np.concatenate([smooth_curve(surface, 3), floor]), side)
    scene.air *= 1 - 0.94 * scene.canvas.fill([shape], 0.22)
    # The layer thins out upwards behind and before the lung, which veils the base above the meniscus.
    scene.air *= 1 - 0.22 * scene.canvas.fill([shape], 1.3)


def add_pneumothorax(scene: Scene, pneumothorax: Pneumothorax) -> None:
    """Air between chest wall and lung: no vessels, darker, and the visceral pleura as a thin white line."""
    side, gap_cm = pneumothorax.side, pneumothorax.gap_cm
    canvas, anatomy = scene.canvas, scene.anatomy
    half = canvas.fill([mirrored(np.array([[0.0, -2.0], [24, -2], [24, 44], [0, 44]]), side)])
    collapsed = canvas.fill([lung_outline(anatomy, side, gap_cm)], 0.06)
    space = half * (1 - collapsed) * scene.lungs
    scene.vessels *= 1 - space
    scene.added -= 0.095 * space * scene.air
    scene.added += 0.035 * collapsed * scene.air
    pleura = lateral_lung_border(anatomy, side, gap_cm)
    scene.added += 0.15 * canvas.stroke([pleura], 0.13, 0.03) * scene.lungs


def add_edema(scene: Scene, edema: Edema) -> None:
    """Water in the lungs: bat-wing haze at both hila, blurred vessels, Kerley B lines at the wall."""
    anatomy, canvas = scene.anatomy, scene.canvas
    height = anatomy.dome_y_cm(RIGHT) - anatomy.apex_y_cm
    wings = [
        ellipse(side * 5.6, anatomy.apex_y_cm + 0.54 * height, 4.0, 0.30 * height) for side in (RIGHT, LEFT)
    ]
    haze = canvas.fill(wings, 1.7) * (1 + 0.20 * canvas.texture(anatomy.texture_seed + 1, 0.45))
    scene.vessels[:] = canvas.blurred(scene.vessels, 0.03 + 0.13 * edema.severity) * (
        1 + 0.1 * edema.severity
    )
    scene.air *= np.clip(1 - (0.10 + 0.60 * haze) * edema.severity, 0, 1)
    scene.added += (0.02 + 0.065 * edema.severity) * canvas.stroke(_kerley_lines(scene), 0.11) * scene.lungs


def _kerley_lines(scene: Scene) -> list[Points]:
    """Short horizontal lines that end at the pleura, 1 to 2 cm long, over the costophrenic angles."""
    anatomy = scene.anatomy
    rng = np.random.Generator(np.random.PCG64(anatomy.texture_seed + 2))
    lines = []
    for side in (RIGHT, LEFT):
        for y in np.arange(anatomy.dome_y_cm(side) - 6.0, anatomy.sulcus_y_cm(side) - 1.5, 0.72):
            wall = float(anatomy.lateral_cm(y)) - 0.15
            if rng.random() < 0.4:
                continue
            length, tilt = rng.uniform(1.0, 2.0), rng.normal(0, 0.15)
            lines.append(mirrored(np.array([[wall, y], [wall - length, y + tilt]]), side))
    return lines


def add_consolidation(scene: Scene, consolidation: Consolidation) -> None:
    """Airspaces filled patch by patch: fluffy, ill-defined, with open bronchi as dark branches in it."""
    rng = np.random.Generator(np.random.PCG64(consolidation.seed))
    canvas, radius = scene.canvas, consolidation.radius_cm
    centres = rng.normal(0, 0.48 * radius, (14, 2)) * np.array([1.0, 1.15])
    patches = [
        ellipse(consolidation.x_cm + dx, consolidation.y_cm + dy, size, size * squash, 16)
        for (dx, dy), size, squash in zip(
            centres, radius * rng.uniform(0.22, 0.5, 14), rng.uniform(0.7, 1.2, 14), strict=True
        )
    ]
    cloud = canvas.fill(patches, 0.5) * (0.88 + 0.17 * canvas.texture(consolidation.seed, 0.4))
    filled = np.clip(consolidation.density * cloud, 0, 0.95)
    scene.vessels *= 1 - np.clip(cloud, 0, 1)
    scene.air *= 1 - filled
    bronchi = canvas.stroke(_bronchi(consolidation, rng), 0.22, 0.05)
    scene.air += 0.35 * bronchi * filled


def _bronchi(consolidation: Consolidation, rng: np.random.Generator) -> list[Points]:
    """A trunk from the hilar side with three branches."""
    radius, side = consolidation.radius_cm, consolidation.side
    start = np.array([consolidation.x_cm - side * 0.8 * radius, consolidation.y_cm - 0.3 * radius])
    lines = []
    for angle in np.radians([-25, 15, 50]) + rng.normal(0, 0.15, 3):
        tip = start + 1.5 * radius * np.array([side * math.cos(angle), math.sin(angle)])
        bend = (start + tip) / 2 + rng.normal(0, 0.12 * radius, 2)
        lines.append(smooth_curve(np.array([start, bend, tip]), 5))
    return lines
