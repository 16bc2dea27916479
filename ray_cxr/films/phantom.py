"""Draws a phantom's film: locator in, gray pixels out.

The film is a map of density (attenuation along the ray, in units where lung to heart is about 0.5): body,
less the air in the lungs, plus vessels, bones, lesions and metal. Findings change that map where the disease
would: fluid takes the place of air, a collapsed lung takes its vessels away from the chest wall. Then come
blur, quantum noise and the detector's sigmoid tone curve.
"""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from ray_cxr.films import phantom_findings as findings
from ray_cxr.films.phantom_body import (
    body_density,
    fat_pad_outline,
    lung_outline,
    mediastinum_outline,
    scar_outline,
    vessel_groups,
)
from ray_cxr.films.phantom_bones import bones_density, spine_density
from ray_cxr.films.phantom_canvas import Canvas, Mask, ellipse
from ray_cxr.films.phantom_marks import mark_density
from ray_cxr.films.phantom_scene import Scene
from ray_cxr.labels.phantom import Film, Patient, Technique, describe
from ray_cxr.labels.phantom_anatomy import FIELD_CM, LEFT, RIGHT, Anatomy

GrayImage = npt.NDArray[np.uint8]
MIN_PX, MAX_PX = 32, 4096
_DRAWN_PX = 256  # smaller films are drawn at this size and averaged down, as a detector would bin them


def draw_phantom(locator: str, image_px: int) -> GrayImage:
    """The film "phantom:<seed>/<patient>/<film>", the same bytes on each call.

    Returns uint8 [image_px, image_px], bright = dense (as in DICOM's MONOCHROME2). Raises ValueError for a
    malformed locator, a film that the patient does not have, or an image_px outside 32 to 4096.
    """
    patient, film = describe(locator)
    return draw_film(patient, film, image_px)


def draw_film(patient: Patient, film: Film, image_px: int) -> GrayImage:
    """Like `draw_phantom`, from a description, which may be edited first: a lesion left out, a mark off."""
    if not MIN_PX <= image_px <= MAX_PX:
        raise ValueError(
            f"image_px must be between {MIN_PX} and {MAX_PX} inclusive, but got image_px={image_px}."
        )
    drawn_px = max(image_px, _DRAWN_PX)
    image = _expose(draw_density(patient, film, drawn_px), film.technique)
    if drawn_px != image_px:
        image = np.asarray(cv2.resize(image, (image_px, image_px), interpolation=cv2.INTER_AREA), np.uint8)
    return image


def draw_density(patient: Patient, film: Film, image_px: int) -> Mask:
    """Density along each ray before the detector: [H, W] float32, about 0 (air) to 1.5 (metal)."""
    anatomy = replace(patient.anatomy, breath_cm=film.technique.breath_cm)
    canvas = Canvas(image_px, film.technique)
    scene = _healthy_chest(canvas, anatomy)
    _add_findings(scene, film)
    if patient.mark is not None:
        # A mark is worn on the skin or sewn in, so it stays where it is whatever the breath.
        scene.added += mark_density(canvas, patient.mark, patient.anatomy)
    body = body_density(canvas, anatomy)
    # Scatter from thick parts drowns bone contrast: ribs are plain over air, faint over heart and fluid.
    bones = bones_density(canvas, anatomy, arms_down=film.technique.view == "AP")
    bones *= (0.40 + 0.60 * np.clip(scene.air, 0, 1)) * np.minimum(2 * body, 1)
    depth = 0.41 + 0.18 * canvas.blurred(scene.lungs, 2.2)
    lungs = scene.air * (0.23 * scene.vessels - depth)
    return np.asarray(body + lungs + bones + spine_density(canvas, anatomy) + scene.added, np.float32)


def _healthy_chest(canvas: Canvas, anatomy: Anatomy) -> Scene:
    lungs = canvas.fill([lung_outline(anatomy, side) for side in (RIGHT, LEFT)], 0.07)
    heart = canvas.fill([mediastinum_outline(anatomy)], 0.13)
    hila = [ellipse(side * 3.1, anatomy.apex_y_cm + 9.9 - 0.4 * side, 1.3, 2.3) for side in (RIGHT, LEFT)]
    air = lungs * (1 - 0.84 * heart) * (1 - 0.36 * canvas.fill(hila, 0.6))
    if anatomy.fat_pad_cm:
        air *= 1 - 0.65 * canvas.fill([fat_pad_outline(anatomy)], 0.3) * (1 - heart)
    if anatomy.scar_cm:
        air *= 1 - 0.85 * canvas.fill([scar_outline(anatomy)], 0.12)
    # A shallow breath crowds the bases, which then look veiled without any water in them.
    bases = [ellipse(side * 8.0, anatomy.dome_y_cm(side), 7.0, 6.0) for side in (RIGHT, LEFT)]
    air *= 1 + 0.13 * min(anatomy.breath_cm, 0.0) * canvas.fill(bases, 2.0)
    air *= 1 + 0.035 * canvas.texture(anatomy.texture_seed, 0.35)
    vessels = anatomy.vascularity * canvas.strokes(vessel_groups(anatomy), 0.06)
    return Scene(canvas, anatomy, lungs, air, vessels, added=canvas.zeros())


def _add_findings(scene: Scene, film: Film) -> None:
    """Cardiomegaly is in the anatomy. Water first: what lies in the lungs lies in front of it."""
    if film.edema is not None:
        findings.add_edema(scene, film.edema)
    for consolidation in film.consolidations:
        findings.add_consolidation(scene, consolidation)
    for lesion in (*film.masses, *film.nodules):
        findings.add_lesion(scene, lesion)
    if film.pneumothorax is not None:
        findings.add_pneumothorax(scene, film.pneumothorax)
    for effusion in film.effusions:
        findings.add_effusion(scene, effusion)


def _expose(density: Mask, technique: Technique) -> GrayImage:
    """Blur, quantum noise, tone curve, shutters, lead marker: density [H, W] float32 to uint8 [H, W]."""
    px_per_cm = density.shape[0] / FIELD_CM
    blur_px = technique.blur_cm * px_per_cm
    if blur_px > 0.25:
        density = np.asarray(cv2.GaussianBlur(density, (0, 0), blur_px), np.float32)
    # Few quanta get through dense parts, fine pixels catch fewer each, and the scintillator smears them.
    rng = np.random.Generator(np.random.PCG64(technique.seed))
    quanta = cv2.GaussianBlur(rng.standard_normal(density.shape, np.float32), (0, 0), 0.55)
    amplitude = np.float32(0.016 * technique.noise * (px_per_cm / 6.4) ** 0.5)
    density = density + amplitude * (0.35 + density) * quanta
    tone = (density - np.float32(0.76 + technique.exposure)) * np.float32(technique.contrast / 0.225)
    image = 255 / (1 + np.exp(-tone))
    if technique.collimation_cm is not None:
        _shutter(image, technique.collimation_cm, px_per_cm)
    if technique.marker is not None:
        _stamp(image, technique.marker, px_per_cm)
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def _shutter(image: Mask, margins_cm: tuple[float, float, float, float], px_per_cm: float) -> None:
    left, top, right, bottom = (round(margin * px_per_cm) for margin in margins_cm)
    height, width = image.shape
    image[:top] = image[height - bottom :] = 2.0
    image[:, :left] = image[:, width - right :] = 2.0


def _stamp(image: Mask, marker: tuple[str, float, float], px_per_cm: float) -> None:
    """The lead letter belongs to the cassette, so it does not move with the patient."""
    letter, x_cm, y_cm = marker
    scale = 1.6 * px_per_cm / 22  # Hershey capitals are 22 units high; the letter is 1.6 cm
    origin = (round((x_cm + FIELD_CM / 2 - 0.6) * px_per_cm), round((y_cm + 0.8) * px_per_cm))
    stroke_px = max(1, round(0.28 * px_per_cm))
    stamp = np.zeros(image.shape, np.uint8)
    cv2.putText(stamp, letter, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 245, stroke_px, cv2.LINE_AA)
    np.maximum(image, stamp, out=image)
