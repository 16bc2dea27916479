"""Films to look at, before or after `prepare`: a seeded order of them, and their pixels.

Reads: the films themselves where nothing is prepared yet, else the shards. Gives: a `Film` or its refusal, by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd

from ray_cxr.axes import Pixels, Rows
from ray_cxr.cores import usable_cores
from ray_cxr.films.phantom import draw_phantom
from ray_cxr.films.read import FilmRefused, read_file, read_film, reason_kind, resize_square
from ray_cxr.shards.dataset import Dataset
from ray_cxr.stream.layout import split_layout
from ray_cxr.stream.local import films_at

T = TypeVar("T")
_GROUPS_AT_ONCE = 8
"""Row groups in memory at a time."""
_FILMS_AT_ONCE = 16


@dataclass(frozen=True)
class Film:
    """pixels [H, W] uint8 as stored or as they would be; original: height and width of the file, where known here.

    refused: why there are no pixels (they are then [0, 0]), or None.
    """

    row: int
    pixels: Pixels
    original: tuple[int, int] | None = None
    refused: str | None = None


class FilmSource(Protocol):
    """Where films come from. Rows are those of the frame explored."""

    def order(self, seed: int) -> Rows:
        """Every film that may be looked at, in a random order from which any first part is a fair sample."""

    def read(self, rows: Rows) -> Iterator[Film]:
        """These films, in an order that suits the reading."""


class UnpreparedFilms:
    """Films where the source has them, resized as `prepare` would."""

    def __init__(self, locators: pd.Series, image_px: int) -> None:
        self._locators = locators
        self._image_px = image_px

    def order(self, seed: int) -> Rows:
        rows = self._locators.index.to_numpy(np.int64)
        return np.random.default_rng(seed).permutation(rows)

    def read(self, rows: Rows) -> Iterator[Film]:
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="films") as pool:
            for some in _batches(rows.tolist(), _FILMS_AT_ONCE):
                yield from pool.map(self._read, some)

    def _read(self, row: int) -> Film:
        locator = str(self._locators.at[row])
        if locator.startswith("phantom:"):
            return Film(row, draw_phantom(locator, self._image_px), (self._image_px, self._image_px))
        try:
            film = read_film(read_file(locator))
        except FilmRefused as reason:
            return Film(row, np.zeros((0, 0), np.uint8), refused=reason_kind(str(reason)))
        return Film(row, resize_square(film, self._image_px), (film.shape[0], film.shape[1]))


class PreparedFilms:
    """Films of one split of a data set, read from its shards by whole row groups.

    Films are stored in a fixed shuffle (docs/decisions.md, 3), so a few row groups are a fair sample already.
    """

    def __init__(self, dataset: Dataset, split: str) -> None:
        self._dataset = dataset
        self._layout = split_layout(dataset.index, split)

    def order(self, seed: int) -> Rows:
        groups = np.random.default_rng(seed).permutation(len(self._layout.groups))
        place = np.argsort(groups)[self._layout.group]
        return self._layout.rows[np.argsort(place, kind="stable")]

    def read(self, rows: Rows) -> Iterator[Film]:
        """The films of these rows of the index, in the order that they are stored in."""
        layout = self._layout
        at = {row: position for position, row in enumerate(layout.rows.tolist())}
        positions = np.sort(np.array([at[row] for row in rows.tolist()], np.int64))
        groups = np.unique(layout.group[positions]).tolist()
        windows = [
            positions[np.isin(layout.group[positions], some)] for some in _batches(groups, _GROUPS_AT_ONCE)
        ]
        for position, pixels in zip(
            positions.tolist(), films_at(self._dataset, layout, windows), strict=True
        ):
            yield Film(int(layout.rows[position]), pixels)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
