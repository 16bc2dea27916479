"""Decodes stored films, and holds each against the index when it is first seen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Pixels
from ray_cxr.errors import InputError
from ray_cxr.films.codec import decode
from ray_cxr.films.settings import Codec
from ray_cxr.shards.dataset import Dataset
from ray_cxr.shards.texts import digests
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.read import damaged


@dataclass(frozen=True)
class FilmDecoder:
    """Gives films by their position in the layout; several threads may call it.

    pixel_sha256 [N, 32] uint8: of each film as it was prepared; None where the codec is lossy and decoders may differ.
    checked [N] bool: films that were compared already, since a hash costs a tenth of the decoding.
    """

    layout: Layout
    codec: Codec
    stored_px: int
    pixel_sha256: NDArray[np.uint8] | None
    checked: NDArray[np.bool_]

    @classmethod
    def of(cls, dataset: Dataset, layout: Layout) -> FilmDecoder:
        """The decoder of one split's films."""
        lossless = dataset.codec != "jpeg"
        hashes = digests(dataset.index["pixel_sha256"].iloc[layout.rows]) if lossless else None
        checked = np.zeros(layout.films, bool)
        return cls(layout, dataset.codec, dataset.image_px, hashes, checked)

    def __call__(self, position: int, data: memoryview) -> Pixels:
        """The film [H, W] uint8 at this position. InputError names its shard and row where it is not that film."""
        try:
            film = decode(data, self.codec)
            if not self.checked[position]:
                self._check(position, film)
                self.checked[position] = True
        except ValueError as error:
            path, row = self.layout.groups[self.layout.group[position]][0], self.layout.rows[position]
            raise InputError(damaged(path, f"film of index row {row}: {error}")) from None
        return film

    def _check(self, position: int, film: Pixels) -> None:
        if film.shape != (self.stored_px, self.stored_px):
            raise ValueError(f"it has {film.shape[1]} × {film.shape[0]} pixels, not {self.stored_px}")
        if (
            self.pixel_sha256 is not None
            and hashlib.sha256(film.data).digest() != self.pixel_sha256[position].tobytes()
        ):
            raise ValueError("other pixels than the index says")
