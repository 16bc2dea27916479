"""Augmentation: keyed by film, within its ranges, in the directions that it says, and never a mirror image."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ray_cxr.stream.augment import Augmentation, augment, draw_augmentation, shrink

Pixels = NDArray[np.uint8]
FILM_PX, IMAGE_PX = 256, 224


def _draw(films: int, seed: int = 0, epoch: int = 1) -> Augmentation:
    return draw_augmentation(seed, epoch, np.arange(films), np.zeros(films, np.int64))


def _neutral(**chosen: float) -> Augmentation:
    """One film's parameters: those chosen, all others without effect."""
    values = {
        "rotation_degrees": 0.0,
        "shift_x": 0.0,
        "shift_y": 0.0,
        "zoom": 1.0,
        "brightness": 0.0,
        "contrast": 1.0,
    }
    return Augmentation(**{name: np.array([v]) for name, v in (values | chosen).items()})


def _dot(x: float, y: float, film_px: int = FILM_PX) -> Pixels:
    """A film with one soft spot, at x to the right of and y below the centre, in fractions of the side."""
    centre = (film_px - 1) / 2
    columns = np.arange(film_px) - (centre + x * film_px)
    rows = np.arange(film_px) - (centre + y * film_px)
    return (250 * np.exp(-(columns[None, :] ** 2 + rows[:, None] ** 2) / (2 * 4.0**2))).astype(np.uint8)


def _spot(film: Pixels) -> tuple[float, float]:
    """Where the spot is, as for `_dot`."""
    weight = np.where(film > 20, film, 0).astype(float)
    rows, columns = np.indices(film.shape)
    centre, side = (film.shape[0] - 1) / 2, film.shape[0]
    total = weight.sum()
    return ((weight * columns).sum() / total - centre) / side, ((weight * rows).sum() / total - centre) / side


def _moved(
    x: float, y: float, drawn: Augmentation, number: int = 0, image_px: int = IMAGE_PX
) -> tuple[float, float]:
    return _spot(augment(_dot(x, y), image_px, drawn, number))


def test_parameters_of_a_film_do_not_depend_on_the_batch_that_it_is_in() -> None:
    rows, copies = np.array([5, 900, 5, 17]), np.array([0, 0, 1, 3])
    together = draw_augmentation(3, 2, rows, copies)
    for i in range(4):
        alone = draw_augmentation(3, 2, rows[i : i + 1], copies[i : i + 1])
        for field in fields(Augmentation):
            assert getattr(alone, field.name)[0] == getattr(together, field.name)[i]


def test_strength_scales_every_range() -> None:
    rows, copies = np.arange(20), np.zeros(20, np.int64)
    drawn, half, none = (draw_augmentation(0, 1, rows, copies, s) for s in (1.0, 0.5, 0.0))
    for name in ("rotation_degrees", "shift_x", "shift_y", "brightness"):
        np.testing.assert_allclose(getattr(half, name), getattr(drawn, name) / 2)
    for name in ("zoom", "contrast"):
        np.testing.assert_allclose(getattr(half, name) ** 2, getattr(drawn, name))
    film = _dot(0.1, 0.2)
    np.testing.assert_array_equal(augment(film, FILM_PX, none, 3), film)


@pytest.mark.parametrize(
    "other",
    [_draw(20, seed=1), _draw(20, epoch=2), draw_augmentation(0, 1, np.arange(20), np.ones(20, np.int64)),
     draw_augmentation(0, 1, np.arange(20) + 20, np.zeros(20, np.int64))],
    ids=["seed", "epoch", "copy", "row"],
)  # fmt: skip
def test_another_seed_epoch_copy_or_row_has_other_parameters(other: Augmentation) -> None:
    for field in fields(Augmentation):
        assert not np.any(getattr(_draw(20), field.name) == getattr(other, field.name))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("rotation_degrees", -8, 8), ("shift_x", -0.05, 0.05), ("shift_y", -0.05, 0.05), ("zoom", 1 / 1.1, 1.1),
     ("brightness", -0.08, 0.08), ("contrast", 1 / 1.15, 1.15)],
)  # fmt: skip
def test_parameters_fill_their_ranges_evenly_and_never_leave_them(name: str, low: float, high: float) -> None:
    values = getattr(_draw(20_000), name)
    assert low <= values.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < values.max() <= high
    # Factors are symmetric as factors: as often half as twice.
    centred = np.log(values) if low > 0 else values
    assert abs(centred.mean()) < 0.02 * centred.max()
    assert abs(np.mean(centred > 0) - 0.5) < 0.02


def test_neutral_parameters_change_nothing() -> None:
    film = np.random.default_rng(0).integers(0, 256, (IMAGE_PX, IMAGE_PX), dtype=np.uint8)
    assert np.array_equal(augment(film, IMAGE_PX, _neutral(), 0), film)


@pytest.mark.parametrize("film_px", [128, 256, 512, 1000])
def test_neutral_augmentation_of_a_film_of_another_size_is_the_film_resized(film_px: int) -> None:
    smooth = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (film_px, film_px)).astype(np.float32), (0, 0), film_px / 20
    )
    film = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    difference = np.abs(augment(film, IMAGE_PX, _neutral(), 0).astype(int) - shrink(film, IMAGE_PX))
    inner = difference[2:-2, 2:-2]  # a warp meets black beyond the border, a resize does not
    assert inner.max() <= 4 and inner.mean() < 1


def test_large_film_is_averaged_before_the_warp_and_not_aliased() -> None:
    checks = (np.indices((1024, 1024)).sum(0) % 2 * 200).astype(np.uint8)
    turned = augment(checks, IMAGE_PX, _neutral(rotation_degrees=5.0), 0)
    inner = turned[20:-20, 20:-20].astype(int)
    assert np.abs(inner - 100).max() <= 2


def test_positive_rotation_is_anticlockwise() -> None:
    # A quarter turn anticlockwise takes what is on the right to the top.
    assert _moved(0.3, 0, _neutral(rotation_degrees=90.0)) == pytest.approx((0, -0.3), abs=0.003)


def test_positive_shift_is_to_the_right_and_down() -> None:
    assert _moved(0, 0, _neutral(shift_x=0.1)) == pytest.approx((0.1, 0), abs=0.003)
    assert _moved(0, 0, _neutral(shift_y=0.1)) == pytest.approx((0, 0.1), abs=0.003)


def test_zoom_above_one_enlarges() -> None:
    assert _moved(0.2, 0.1, _neutral(zoom=1.5)) == pytest.approx((0.3, 0.15), abs=0.003)
    lit = [(augment(_dot(0, 0), IMAGE_PX, _neutral(zoom=z), 0) > 100).sum() for z in (1.0, 1.5)]
    assert lit[1] == pytest.approx(lit[0] * 1.5**2, rel=0.1)


@pytest.mark.parametrize("image_px", [224, 256, 128])
def test_a_place_of_the_film_is_turned_zoomed_and_shifted_as_computed_by_hand(image_px: int) -> None:
    drawn = _draw(40, seed=9)
    for number in range(40):
        angle, zoom = np.deg2rad(drawn.rotation_degrees[number]), drawn.zoom[number]
        for x, y in ((0.25, 0.1), (-0.3, 0.2), (0.0, -0.35)):
            expected = (
                zoom * (x * np.cos(angle) + y * np.sin(angle)) + drawn.shift_x[number],
                zoom * (-x * np.sin(angle) + y * np.cos(angle)) + drawn.shift_y[number],
            )
            plain = replace(drawn, brightness=drawn.brightness * 0, contrast=drawn.contrast * 0 + 1)
            assert _moved(x, y, plain, number, image_px) == pytest.approx(expected, abs=0.006)


def test_no_film_is_ever_mirrored() -> None:
    """What is clockwise in the film is clockwise in each of 300 draws."""
    drawn = _draw(300)
    plain = replace(drawn, brightness=drawn.brightness * 0, contrast=drawn.contrast * 0 + 1)
    for number in range(300):
        origin, right, below = (
            np.array(_moved(x, y, plain, number, 64)) for x, y in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3))
        )
        (a, b), (c, d) = right - origin, below - origin
        assert a * d - b * c > 0.05  # 0.3 × 0.3 × zoom²; a mirror image has it below zero


def test_marker_in_the_corner_stays_in_its_corner() -> None:
    """The letter of the side is in the upper left; seen on the right it would mean a heart on the right."""
    film = np.full((FILM_PX, FILM_PX), 60, np.uint8)
    film[30:60, 30:50] = 255
    drawn = _draw(500, seed=4)
    for number in range(500):
        out = augment(film, IMAGE_PX, drawn, number).astype(int)
        brightest = out > (out.max() + np.median(out)) / 2
        rows, columns = np.nonzero(brightest)
        assert columns.max() < IMAGE_PX / 2 and rows.max() < IMAGE_PX / 2


def test_brightness_is_a_fraction_of_the_gray_range() -> None:
    film = np.full((64, 64), 100, np.uint8)
    assert np.unique(augment(film, 64, _neutral(brightness=0.08), 0)).tolist() == [120]  # 100 + 20.4
    assert np.unique(augment(film, 64, _neutral(brightness=-0.08), 0)).tolist() == [80]


def test_contrast_is_about_mid_gray() -> None:
    film = np.repeat(np.array([[0, 100, 127, 128, 200, 255]], np.uint8), 6, axis=0)
    out = augment(film, 6, _neutral(contrast=1.15), 0)
    # 127.5 + 1.15 (g - 127.5): -19.1, 95.9, 126.9, 128.1, 210.9, 274.1
    assert out[0].tolist() == [0, 96, 127, 128, 211, 255]


def test_gray_does_not_wrap_around() -> None:
    film = np.repeat(np.arange(256, dtype=np.uint8)[None, :], 256, axis=0)
    for chosen in ({"brightness": 0.5}, {"brightness": -0.5}, {"contrast": 3.0}):
        out = augment(film, 256, _neutral(**chosen), 0)
        assert np.all(np.diff(out[0].astype(int)) >= 0)


def test_what_lies_beyond_the_film_is_black() -> None:
    out = augment(np.full((64, 64), 200, np.uint8), 64, _neutral(shift_x=0.25), 0)
    assert not out[:, :15].any() and np.all(out[:, 17:] == 200)


@pytest.mark.parametrize("image_px", [64, 224, 300])
def test_output_is_a_gray_square_of_the_size_asked_for(image_px: int) -> None:
    for film in (augment(_dot(0, 0), image_px, _draw(1), 0), shrink(_dot(0, 0), image_px)):
        assert film.shape == (image_px, image_px) and film.dtype == np.uint8
