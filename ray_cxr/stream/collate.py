"""The collate step of a worker: encoded films in, decoded and augmented batches out, on threads of its own.

Reads: the encoded films of each step of a `RankWork`. Gives: a `Batch` per step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeAlias, cast

import cv2
import numpy as np

from ray_cxr.axes import Pixels, Rows
from ray_cxr.stream.ahead import ahead
from ray_cxr.stream.augment import Augmentation, Warps, draw_augmentation, shrink, warp, warps
from ray_cxr.stream.decode import FilmDecoder
from ray_cxr.stream.plan import RankWork

Film: TypeAlias = Callable[[int], Pixels]
"""Gives film number i of a step, decoded."""
_READY_BATCHES = 8
"""Decoded batches that wait at most for the model."""
_DRAWN_STEPS = 16
_BEGUN_BATCHES = 2
"""Batches that threads may begin before the one that they work on is whole."""


@dataclass(frozen=True)
class Batch:
    """A rank's films of one step: pixels [B, H, W] uint8, rows [B] of the index.

    pending: the augmentation that the device shall still apply (`augment_device.on_device`); None: as the model sees it.
    """

    pixels: Pixels
    rows: Rows
    pending: Augmentation | None = None

    def of(self, films: Rows) -> Batch:
        """Some films of the batch, by their number in it."""
        pending = None if self.pending is None else self.pending.of(films)
        return Batch(self.pixels[films], self.rows[films], pending)


@dataclass(frozen=True)
class Collate:
    """Decodes and augments; the same films give the same pixels on any worker.

    image_px: side of films as the model sees them. augmentation_seed: None for no augmentation.
    """

    decoder: FilmDecoder
    image_px: int
    augmentation_seed: int | None
    threads: int
    augment_here: bool = True
    """False: batches hold stored films and the augmentation that the device applies."""
    augmentation_strength: float = 1.0

    def batches(self, steps: Iterable[Sequence[memoryview]], works: Iterable[RankWork]) -> Iterator[Batch]:
        """A batch per step of each of `works` from the step's encoded films, decoded ahead in the background."""
        return ahead(lambda: self._batches(self._decoding(steps, works)), _READY_BATCHES)

    def cached_batches(self, films: Pixels, works: Iterable[RankWork]) -> Iterator[Batch]:
        """The same batches from decoded films [N, H, W] in the order of the layout."""
        return ahead(lambda: self._batches(self._looking_up(films, works)), _READY_BATCHES)

    def _decoding(
        self, steps: Iterable[Sequence[memoryview]], works: Iterable[RankWork]
    ) -> Iterator[tuple[Film, _Step]]:
        for encoded, step in zip(steps, self._steps(works), strict=True):
            yield partial(_decoded, self.decoder, encoded, step.positions), step

    def _looking_up(self, films: Pixels, works: Iterable[RankWork]) -> Iterator[tuple[Film, _Step]]:
        for step in self._steps(works):
            yield partial(_looked_up, films, step.positions), step

    def _steps(self, works: Iterable[RankWork]) -> Iterator[_Step]:
        for work in works:
            positions, ends = work.positions, np.cumsum([0, *work.step_sizes])
            for first in range(0, len(ends) - 1, _DRAWN_STEPS):
                cuts = ends[first : first + _DRAWN_STEPS + 1]
                drawn = slice(cuts[0], cuts[-1])
                yield from self._drawn(work.epoch, positions[drawn], work.copies[drawn], cuts - cuts[0])

    def _drawn(self, epoch: int, positions: Rows, copies: Rows, cuts: Rows) -> Iterator[_Step]:
        """The steps between `cuts`, with what is drawn for their films; for several at once that takes a quarter of the time."""
        rows, seed, drawn, how = self.decoder.layout.rows[positions], self.augmentation_seed, None, None
        if seed is not None:
            drawn = draw_augmentation(seed, epoch, rows, copies, self.augmentation_strength)
            how = warps(drawn, self.decoder.stored_px, self.image_px) if self.augment_here else None
        for first, end in pairwise(cuts.tolist()):
            step = slice(first, end)
            yield _Step(
                positions[step].tolist(),
                rows[step],
                drawn.of(step) if drawn is not None and how is None else None,
                how.of(step) if how is not None else None,
            )

    def _batches(self, steps: Iterator[tuple[Film, _Step]]) -> Iterator[Batch]:
        # Films are spread over threads already; OpenCV's own ones would only stand in their way.
        cv2.setNumThreads(1)
        # The next batches are begun before one is whole, or threads would wait at its end for the slowest of them.
        begun = deque[tuple[Batch, list[Future[None]]]]()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            for film, step in steps:
                begun.append(self._begin(pool, film, step))
                if len(begun) > _BEGUN_BATCHES:
                    yield _whole(*begun.popleft())
            while begun:
                yield _whole(*begun.popleft())

    def _begin(self, pool: ThreadPoolExecutor, film: Film, step: _Step) -> tuple[Batch, list[Future[None]]]:
        """A batch without pixels yet, and the work that fills it."""
        side = self.image_px if step.pending is None else self.decoder.stored_px
        films = len(step.positions)
        pixels = np.empty((films, side, side), np.uint8)
        # Chunks, since one pool task a film costs a third of the throughput.
        edges = [films * n // self.threads for n in range(self.threads + 1)]
        filling = [pool.submit(_fill, film, range(*chunk), step.how, pixels) for chunk in pairwise(edges)]
        return Batch(pixels, step.rows, step.pending), filling


@dataclass(frozen=True)
class _Step:
    """The films of one step; pending: what the device shall draw on them, how: what is done to them here."""

    positions: list[int]
    rows: Rows
    pending: Augmentation | None
    how: Warps | None


def _fill(film: Film, chunk: range, how: Warps | None, out: Pixels) -> None:
    """Puts these films of a batch into `out` [B, H, W], augmented or only resized."""
    for i in chunk:
        if how is None:
            out[i] = shrink(film(i), out.shape[1])
        else:
            warp(film(i), how, i, out[i])


def _whole(batch: Batch, filling: Sequence[Future[None]]) -> Batch:
    """The batch, once it is filled; an error of a film is raised here."""
    for part in filling:
        part.result()
    return batch


def _decoded(
    decoder: FilmDecoder, encoded: Sequence[memoryview], positions: list[int], number: int
) -> Pixels:
    return decoder(positions[number], encoded[number])


def _looked_up(films: Pixels, positions: list[int], number: int) -> Pixels:
    return cast(Pixels, films[positions[number]])
