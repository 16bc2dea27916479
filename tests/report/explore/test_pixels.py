"""Gray values and the films that are shown."""

import cv2
import numpy as np
import pandas as pd
import pytest

from ray_cxr.report.explore.films import Film
from ray_cxr.report.explore.pixels import (
    NO_FINDING,
    STRIP_EPOCHS,
    augmented,
    choose_grid,
    enlarged_detail,
    gray_histogram,
    histogram_moments,
    look_at_films,
    pixel_summary,
    thumbnail,
)
from ray_cxr.stream.augment import augment, draw_augmentation

from .conftest import GivenFilms

RNG = np.random.default_rng(2)


def png(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_moments_of_a_histogram_are_those_of_the_pixels() -> None:
    film = RNG.integers(0, 256, (50, 40), dtype=np.uint8)
    mean, std = histogram_moments(gray_histogram(film))
    assert 255 * mean == pytest.approx(film.mean())
    assert 255 * std == pytest.approx(film.std())
    assert np.isnan(histogram_moments(np.zeros(256, np.int64))).all()


def test_the_grid_prefers_lone_findings_and_different_patients() -> None:
    frame = pd.DataFrame({
        "patient_id": ["a", "a", "b", "c", "d", "e"],
        "Mass": [1, 1, 1, 0, 0, 0.0], "Edema": [0, 0, 1, 1, 0, np.nan],
    })  # fmt: skip
    grid = choose_grid(frame, ["Mass", "Edema"], np.array([2, 5, 1, 0, 4, 3]))
    # 0 and 1 are of one patient; on 2 the mass is not alone; 5 is not labelled for Edema, so nobody calls it healthy.
    assert grid == {NO_FINDING: [4], "Mass": [1, 2], "Edema": [3, 2]}


def test_what_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"patient_id": list("abcd"), "Mass": [0, 1, 0, 0.0]})
    noisy = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
    films = [
        Film(3, np.zeros((0, 0), np.uint8), refused="empty file"),
        Film(0, np.full((64, 64), 100, np.uint8), (480, 640)),
        Film(2, noisy, (64, 64)),
        Film(1, noisy // 2, (64, 64)),
    ]
    told: list[int] = []
    facts = look_at_films(
        GivenFilms(films), frame, ["Mass"], 3, 0, lambda what, n: told.append(n), told.append
    )
    assert facts.refused == {"empty file": 1}
    assert [f.row for f in facts.films] == [0, 2], "film 1 is not in the sample, only in the grid"
    assert facts.grid == {NO_FINDING: [0, 2], "Mass": [1]}
    assert facts.flat_rows == [0]
    first = facts.films[0]
    assert (first.mean, first.std, first.least, first.greatest) == (
        pytest.approx(100),
        pytest.approx(0, abs=1e-5),
        100,
        100,
    )
    assert first.original == (480, 640)
    assert facts.histogram.sum() == 2 * 64 * 64
    assert told == [4, 1, 1, 1, 1]
    summary = pixel_summary(facts)
    assert summary["films"] == 2
    assert summary["mean"] == pytest.approx(np.mean([100, noisy.mean()]))


def test_no_film_can_be_read() -> None:
    frame = pd.DataFrame({"patient_id": ["a"], "Mass": [1.0]})
    bad = [Film(0, np.zeros((0, 0), np.uint8), refused="not a PNG or JPEG file")]
    facts = look_at_films(GivenFilms(bad), frame, ["Mass"], 5, 0, lambda what, n: None, lambda n: None)
    assert facts.single is None
    assert pixel_summary(facts)["mean"] is None


def test_pictures_are_png_of_the_film() -> None:
    film = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
    assert np.array_equal(png(thumbnail(film, 200)), film)
    assert png(thumbnail(film, 32)).shape == (32, 32)


def test_the_detail_is_the_part_with_most_contrast() -> None:
    film = np.full((128, 128), 90, np.uint8)
    film[48:80, 56:72], film[48:80, 72:88] = 30, 200
    assert np.array_equal(png(enlarged_detail(film))[::11, ::11], film[48:80, 56:88])
    assert png(enlarged_detail(film[:32, :32])).shape == (352, 352)


def test_the_strip_is_what_training_would_see() -> None:
    film = RNG.integers(0, 256, (80, 80), dtype=np.uint8)
    strip = [png(data) for data in augmented(film, row=17, image_px=64, seed=5, strength=2.0)]
    assert len(strip) == STRIP_EPOCHS
    drawn = draw_augmentation(5, 2, np.array([17]), np.array([0]), 2.0)
    assert np.array_equal(strip[1], augment(film, 64, drawn, 0))
    assert not np.array_equal(strip[0], strip[1])
