"""What the pixels of a sample of films are like, and the films that the page shows. Pure but for reading films.

Reads: a `FilmSource` and the frame explored. Gives: `PixelFacts`, without any film's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.axes import Pixels, Rows
from ray_cxr.films.codec import encode
from ray_cxr.report.explore.films import Film, FilmSource
from ray_cxr.stream.augment import augment, draw_augmentation, shrink

NO_FINDING = "No finding"
GRID_COLUMNS = 6
SINGLE_PX = 352
DETAIL_PX = 32
STRIP_PX = 144
STRIP_EPOCHS = 6
FLAT_STD = 8.0
"""Below this spread of gray values (of 255) a film shows next to nothing."""


@dataclass(frozen=True)
class FilmFacts:
    """Gray values 0..255 of one film as stored, and the size of its file (None: known for the whole set only)."""

    row: int
    mean: float
    std: float
    least: int
    greatest: int
    original: tuple[int, int] | None


@dataclass(frozen=True)
class PixelFacts:
    """A sample of films. histogram [256]: pixels per gray value. grid: finding → rows of films that show it."""

    films: list[FilmFacts]
    histogram: NDArray[np.int64]
    refused: dict[str, int]
    grid: dict[str, list[int]]
    single: FilmFacts | None
    pictures: dict[int, Pixels] = field(repr=False)
    """Row → the film as stored, of the grid."""

    @property
    def mean_and_std(self) -> tuple[float, float]:
        """Of all pixels of the sample, 0..1."""
        return histogram_moments(self.histogram)

    @property
    def flat_rows(self) -> list[int]:
        """Rows of films that are nearly one gray value."""
        return [f.row for f in self.films if f.std < FLAT_STD]


def look_at_films(
    films: FilmSource, frame: pd.DataFrame, findings: Sequence[str], count: int, seed: int,
    start: Callable[[str, int], None], advance: Callable[[int], None],
) -> PixelFacts:  # fmt: skip
    """Reads `count` films for the statistics, and those of the grid. A film that cannot be read is counted."""
    order = films.order(seed)
    sample, grid = order[:count], choose_grid(frame, findings, order)
    in_grid = {row for rows in grid.values() for row in rows}
    facts: dict[int, FilmFacts] = {}
    histogram, refused, pictures = _empty(), dict[str, int](), dict[int, Pixels]()
    in_sample = set(sample.tolist())
    start("films looked at", len(in_sample | in_grid))
    for film in films.read(np.array(sorted(in_sample | in_grid), np.int64)):
        advance(1)
        if film.refused is not None:
            refused[film.refused] = refused.get(film.refused, 0) + 1
            continue
        counts = gray_histogram(film.pixels)
        facts[film.row] = _facts(film, counts)
        histogram += counts * (film.row in in_sample)
        if film.row in in_grid:
            pictures[film.row] = film.pixels
    grid = {name: [r for r in rows if r in pictures] for name, rows in grid.items()}
    single = next((r for rows in grid.values() for r in rows), None)
    return PixelFacts(
        films=[facts[r] for r in sample.tolist() if r in facts],
        histogram=histogram,
        refused=refused,
        grid=grid,
        single=None if single is None else facts[single],
        pictures=pictures,
    )


def gray_histogram(pixels: Pixels) -> NDArray[np.int64]:
    """[256]: pixels per gray value of a film [H, W] uint8."""
    return np.bincount(pixels.ravel(), minlength=256)


def _empty() -> NDArray[np.int64]:
    return np.zeros(256, np.int64)


def _facts(film: Film, histogram: NDArray[np.int64]) -> FilmFacts:
    mean, std = histogram_moments(histogram)
    there = np.flatnonzero(histogram)
    return FilmFacts(film.row, 255 * mean, 255 * std, int(there[0]), int(there[-1]), film.original)


def choose_grid(frame: pd.DataFrame, findings: Sequence[str], order: Rows) -> dict[str, list[int]]:
    """NO_FINDING and each finding → rows of up to GRID_COLUMNS films, of different patients.

    Films on which the finding stands alone come first: on the others nobody knows what one is looking at.
    """
    labels = frame.loc[order, list(findings)].to_numpy(np.float32)
    patients = frame.loc[order, "patient_id"].to_numpy(object)
    shown = (labels == 1).sum(1)
    healthy = (shown == 0) & ~np.isnan(labels).any(1)
    chosen = {NO_FINDING: _of_different_patients(np.flatnonzero(healthy), patients, order)}
    for number, finding in enumerate(findings):
        positive = np.flatnonzero(labels[:, number] == 1)
        positive = positive[np.argsort(shown[positive], kind="stable")]
        chosen[finding] = _of_different_patients(positive, patients, order)
    return chosen


def _of_different_patients(places: Rows, patients: NDArray[np.object_], order: Rows) -> list[int]:
    first = pd.Series(places).loc[~pd.Series(patients[places]).duplicated()]
    return [int(row) for row in order[first.to_numpy(np.int64)[:GRID_COLUMNS]]]


def histogram_moments(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation (0..1) of the pixels that a histogram [256] of gray values counts; NaN if none."""
    if not histogram.sum():
        return float("nan"), float("nan")
    gray = np.arange(256) / 255
    mean = float(np.average(gray, weights=histogram))
    return mean, float(np.sqrt(np.average((gray - mean) ** 2, weights=histogram)))


def thumbnail(pixels: Pixels, image_px: int) -> bytes:
    """A film as PNG of this side, or of its own where that is smaller."""
    return encode(shrink(pixels, min(image_px, pixels.shape[0])), "png")


def enlarged_detail(pixels: Pixels) -> bytes:
    """Where the film's middle has most contrast, DETAIL_PX pixels square as PNG, so large that they can be seen."""
    places = range(pixels.shape[0] // 4, pixels.shape[0] * 3 // 4 - DETAIL_PX + 1, DETAIL_PX // 4)
    details = [pixels[y : y + DETAIL_PX, x : x + DETAIL_PX] for y in places for x in places]
    sharpest = max(details or [pixels[:DETAIL_PX, :DETAIL_PX]], key=np.std)
    return encode(np.kron(sharpest, np.ones((SINGLE_PX // DETAIL_PX,) * 2, np.uint8)), "png")


def augmented(pixels: Pixels, row: int, image_px: int, seed: int, strength: float) -> list[bytes]:
    """The film as training sees it in its first STRIP_EPOCHS epochs, as PNG: drawn by the same function."""
    rows, copies = np.array([row], np.int64), np.zeros(1, np.int64)
    return [
        thumbnail(
            augment(pixels, image_px, draw_augmentation(seed, epoch, rows, copies, strength), 0), STRIP_PX
        )
        for epoch in range(1, STRIP_EPOCHS + 1)
    ]


def pixel_summary(facts: PixelFacts) -> dict[str, Any]:
    """For explore.json: gray values 0..255."""
    means, stds = [f.mean for f in facts.films], [f.std for f in facts.films]
    mean, std = facts.mean_and_std
    quartiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    return {
        "films": len(facts.films),
        "refused": facts.refused,
        "mean": 255 * mean if facts.films else None,
        "std": 255 * std if facts.films else None,
        "film_mean_quantiles": {str(q): float(np.quantile(means, q)) for q in quartiles if means},
        "film_std_quantiles": {str(q): float(np.quantile(stds, q)) for q in quartiles if stds},
        "histogram": facts.histogram.tolist(),
        "flat_rows": facts.flat_rows,
        "grid_rows": facts.grid,
    }
