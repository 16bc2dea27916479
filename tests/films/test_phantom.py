"""The phantom's films: what the labels say is measured here in the drawn pixels."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from ray_cxr.films.phantom import draw_density, draw_film, draw_phantom
from ray_cxr.films.phantom_body import lung_outline
from ray_cxr.films.phantom_canvas import Canvas, pose_matrix, to_px
from ray_cxr.labels.phantom import Film, Patient, describe, phantom_table
from ray_cxr.labels.phantom_anatomy import FIELD_CM, LEFT, RIGHT, Anatomy

SEED = 5
PX = 256
Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return phantom_table(600, SEED)


def _showing(table: pd.DataFrame, finding: str, films: int) -> Iterator[tuple[Patient, Film]]:
    """The first films with the finding, of different patients."""
    chosen = table[table[finding] == 1].drop_duplicates("patient_id")["locator"].iloc[:films]
    assert len(chosen) == films
    return map(describe, chosen)


def _gray_at(film: Film, image: npt.NDArray[Any], x_cm: npt.ArrayLike, y_cm: npt.ArrayLike) -> float:
    """Mean gray value at anatomical points."""
    points = np.stack(np.broadcast_arrays(np.asarray(x_cm, float), np.asarray(y_cm, float)), axis=-1)
    columns, rows = np.rint(to_px(pose_matrix(film.technique, image.shape[0]), points)).astype(int).T
    inside = (columns >= 0) & (rows >= 0) & (columns < image.shape[1]) & (rows < image.shape[0])
    return float(image[rows[inside], columns[inside]].mean())


def _as_drawn(patient: Patient, film: Film) -> Anatomy:
    return replace(patient.anatomy, breath_cm=film.technique.breath_cm)


def _plain(film: Film) -> Film:
    """No shutters or letters, which may lie over what is measured."""
    return replace(film, technique=replace(film.technique, collimation_cm=None, marker=None))


def _difference(film: Film, without: Film, patient: Patient) -> tuple[Array, Array]:
    """Gray values of both films, [H, W] float64."""
    film, without = _plain(film), _plain(without)
    return draw_film(patient, film, PX).astype(float), draw_film(patient, without, PX).astype(float)


@pytest.mark.parametrize("image_px", [64, 100, 256, 1024])
def test_film_is_gray_square_and_the_same_on_each_call(image_px: int) -> None:
    film = draw_phantom(f"phantom:{SEED}/3/0", image_px)
    assert film.shape == (image_px, image_px)
    assert film.dtype == np.uint8
    assert film.tobytes() == draw_phantom(f"phantom:{SEED}/3/0", image_px).tobytes()
    assert film.std() > 30


def test_films_differ_between_patients_films_and_seeds(table: pd.DataFrame) -> None:
    several = table.groupby("patient_id").size().ge(2).idxmax()
    number = int(str(several).rsplit("-", 1)[1])
    films = [
        draw_phantom(locator, 64).tobytes()
        for locator in (
            f"phantom:{SEED}/{number}/0",
            f"phantom:{SEED}/{number}/1",
            f"phantom:{SEED}/{number + 1}/0",
            "phantom:6/0/0",
        )
    ]
    assert len(set(films)) == 4


def test_bones_are_bright_lungs_dark_and_the_heart_is_left(table: pd.DataFrame) -> None:
    healthy = table[table.iloc[:, 6:].sum(axis=1) == 0].drop_duplicates("patient_id")["locator"].iloc[:12]
    for patient, film in map(describe, healthy):
        patient, film = replace(patient, mark=None), _plain(film)
        image, anatomy = draw_film(patient, film, PX), _as_drawn(patient, film)
        lung_y = anatomy.apex_y_cm + np.linspace(5, 12, 15)
        lungs = _gray_at(film, image, [[-0.65], [0.65]] * anatomy.lateral_cm(lung_y), lung_y)
        heart_y = anatomy.dome_y_cm(RIGHT) - np.linspace(2, 5, 10)
        heart = _gray_at(film, image, 0.33 * anatomy.half_width_cm, heart_y)
        mirror = _gray_at(film, image, -0.33 * anatomy.half_width_cm, heart_y)
        liver = _gray_at(
            film, image, -0.4 * anatomy.half_width_cm, anatomy.sulcus_y_cm(RIGHT) + np.linspace(0, 2, 5)
        )
        spine = _gray_at(film, image, np.linspace(-1, 1, 9), anatomy.sulcus_y_cm(RIGHT))
        assert lungs < 95
        assert 130 < heart < spine
        assert lungs + 60 < liver
        assert mirror < heart - 30
        assert image[:6, :6].mean() < 25


@pytest.mark.parametrize(("cardiomegaly", "low", "high"), [(0.0, 0.38, 0.50), (1.0, 0.52, 0.67)])
def test_cardiothoracic_ratio_measured_in_pixels(
    table: pd.DataFrame, cardiomegaly: float, low: float, high: float
) -> None:
    chosen = table[table["Cardiomegaly"] == cardiomegaly].drop_duplicates("patient_id")["locator"].iloc[:8]
    for patient, film in map(describe, chosen):
        # The fat pad at the apex is not heart, and a reader leaves it out.
        patient = replace(patient, anatomy=replace(patient.anatomy, fat_pad_cm=0.0))
        level = replace(film.technique, rotation_deg=0.0)
        film = Film(film.image_id, film.age, film.findings, level)
        anatomy = _as_drawn(patient, film)
        lungs = Canvas(512, level).fill([lung_outline(anatomy, side) for side in (RIGHT, LEFT)])
        thorax_px = np.ptp(np.flatnonzero((lungs > 0.5).any(axis=0)))
        # The heart's silhouette is where density goes when the heart is all but taken out.
        tiny = replace(patient, anatomy=replace(patient.anatomy, cardiothoracic_ratio=0.1))
        heart = draw_density(patient, film, 512) - draw_density(tiny, film, 512)
        _, bottom = to_px(pose_matrix(level, 512), np.array([0.0, anatomy.dome_y_cm(RIGHT)]))
        heart_px = np.ptp(np.flatnonzero((heart[: int(bottom)] > 0.12).any(axis=0)))
        assert low <= heart_px / thorax_px <= high
        assert heart_px / thorax_px == pytest.approx(patient.anatomy.cardiothoracic_ratio, abs=0.02)


@pytest.mark.parametrize(("finding", "low", "high"), [("Mass", 3.0, 7.5), ("Nodule", 0.7, 3.0)])
def test_lesion_diameter_and_place_measured_in_pixels(
    table: pd.DataFrame, finding: str, low: float, high: float
) -> None:
    px = 512
    for patient, film in _showing(table, finding, 6):
        lesion = (film.masses if finding == "Mass" else film.nodules)[0]
        bare = Film(film.image_id, film.age, film.findings, film.technique)
        shown = replace(bare, masses=(lesion,))
        added = draw_density(patient, shown, px) - draw_density(patient, bare, px)
        # Vessels vanish in a lesion, which tears holes into the difference: its hull is measured.
        rim = cv2.convexHull(np.argwhere(added > lesion.opacity / 2).astype(np.int32))
        px_per_cm = px / FIELD_CM * film.technique.zoom
        diameter_cm = 2 * np.sqrt(cv2.contourArea(rim) / np.pi) / px_per_cm
        assert low <= diameter_cm <= high
        assert diameter_cm == pytest.approx(lesion.diameter_cm, rel=0.1, abs=0.1)
        lungs = Canvas(px, film.technique).fill(
            [lung_outline(_as_drawn(patient, film), side) for side in (RIGHT, LEFT)]
        )
        assert lungs[added > lesion.opacity / 2].min() > 0.5


def test_effusion_fills_the_costophrenic_angle(table: pd.DataFrame) -> None:
    for patient, film in _showing(table, "Effusion", 8):
        # An old scar in the angle would leave the fluid nothing to fill.
        patient = replace(patient, mark=None, anatomy=replace(patient.anatomy, scar_cm=0.0))
        wet, dry = _difference(film, replace(film, effusions=()), patient)
        anatomy = _as_drawn(patient, film)
        for effusion in film.effusions:
            y = anatomy.sulcus_y_cm(effusion.side) - np.linspace(0.6, 1.6, 8)
            x = effusion.side * (anatomy.lateral_cm(y) - 0.6)
            assert _gray_at(film, wet, x, y) > _gray_at(film, dry, x, y) + 25
        apex_y = anatomy.apex_y_cm + 3
        assert _gray_at(film, wet, 5.0, apex_y) == pytest.approx(_gray_at(film, dry, 5.0, apex_y), abs=2)


def test_pneumothorax_darkens_the_apex_and_draws_a_pleural_line(table: pd.DataFrame) -> None:
    for patient, film in _showing(table, "Pneumothorax", 8):
        assert film.pneumothorax is not None
        side, gap_cm = film.pneumothorax.side, film.pneumothorax.gap_cm
        collapsed, whole = _difference(film, replace(film, pneumothorax=None), replace(patient, mark=None))
        anatomy = _as_drawn(patient, film)
        y = anatomy.apex_y_cm + np.linspace(2.5, 6, 12)
        x = side * (anatomy.lateral_cm(y) - 0.3 * gap_cm)
        assert _gray_at(film, collapsed, x, y) < _gray_at(film, whole, x, y) - 5
        half = slice(0, PX // 2) if side == RIGHT else slice(PX // 2, PX)
        assert (collapsed - whole)[:, half].max() > 8
        assert _gray_at(film, collapsed, -x, y) == pytest.approx(_gray_at(film, whole, -x, y), abs=2)


def test_edema_veils_both_hilar_regions(table: pd.DataFrame) -> None:
    for patient, film in _showing(table, "Edema", 6):
        wet, dry = _difference(film, replace(film, edema=None), replace(patient, mark=None))
        anatomy = _as_drawn(patient, film)
        y = anatomy.apex_y_cm + 0.5 * anatomy.lung_height_cm + np.linspace(-2, 2, 12)[:, None]
        for side in (RIGHT, LEFT):
            x = side * np.linspace(4.5, 8.0, 12)
            assert _gray_at(film, wet, x, y) > _gray_at(film, dry, x, y) + 8


def test_consolidation_is_dense_at_its_centre_and_stays_local(table: pd.DataFrame) -> None:
    for patient, film in _showing(table, "Consolidation", 6):
        only = replace(film, effusions=(), edema=None, pneumothorax=None)
        dense, clear = _difference(only, replace(only, consolidations=()), replace(patient, mark=None))
        for patch in film.consolidations:
            x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
            assert (
                _gray_at(film, dense, patch.x_cm + x, patch.y_cm + y)
                > _gray_at(film, clear, patch.x_cm + x, patch.y_cm + y) + 15
            )
            assert _gray_at(film, dense, -patch.x_cm + x, patch.y_cm + y) == pytest.approx(
                _gray_at(film, clear, -patch.x_cm + x, patch.y_cm + y), abs=2
            )


def test_mark_tells_patients_apart(table: pd.DataFrame) -> None:
    """In the body's frame a mark covers the same ground on each film; another of its kind does not."""
    films_of = table.groupby("patient_id")["locator"].apply(list)
    by_kind: dict[str, list[list[npt.NDArray[np.bool_]]]] = {}
    for locators in films_of[films_of.str.len() >= 2].iloc[:40]:
        patient, _ = describe(locators[0])
        assert patient.mark is not None
        group = by_kind.setdefault(patient.mark.kind, [])
        if len(group) < 3:
            group.append([_mark_in_body_frame(locator) for locator in locators[:2]])
    assert len(by_kind) == 6
    for kind, patients in by_kind.items():
        assert len(patients) >= 2
        for number, (first, second) in enumerate(patients):
            others = [_overlap(first, other[1]) for k, other in enumerate(patients) if k != number]
            assert _overlap(first, second) > max(0.6, max(others) + 0.15), kind


def _mark_in_body_frame(locator: str) -> npt.NDArray[np.bool_]:
    patient, film = describe(locator)
    with_mark = draw_density(patient, film, PX)
    mark = with_mark - draw_density(replace(patient, mark=None), film, PX)
    upright = np.array([[PX / FIELD_CM, 0, PX / 2 - 0.5], [0, PX / FIELD_CM, -0.5], [0, 0, 1]])
    back = upright @ np.linalg.inv(np.vstack([pose_matrix(film.technique, PX), [0, 0, 1]]))
    # The outer 3 cm leave the field on some films.
    return (cv2.warpAffine(mark, back[:2], (PX, PX)) > 0.1)[20:-20, 20:-20]


def _overlap(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Intersection over union."""
    assert first.any()
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("locator", ["phantom:1/2", "dicom:1/2/0", "phantom:1/2/99"])
def test_bad_locator_is_refused(locator: str) -> None:
    with pytest.raises(ValueError, match="locator"):
        draw_phantom(locator, 64)


@pytest.mark.parametrize("image_px", [0, 31, 5000])
def test_impossible_film_size_is_refused(image_px: int) -> None:
    with pytest.raises(ValueError, match=f"image_px={image_px}"):
        draw_phantom(f"phantom:{SEED}/0/0", image_px)
