"""The collate step of a worker: encoded films in, decoded and augmented batches out, on threads of its own.

Reads: the encoded films of each step of a `RankWork`. Gives: a `Batch` per step.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from ray_cxr.axes import Pixels, Rows
from ray_cxr.stream.augment import Augmentation, Warps, draw_augmentation, shrink, warp, warps
from ray_cxr.stream.decode import FilmDecoder
from ray_cxr.stream.plan import RankWork

T = TypeVar("T")
Film: TypeAlias = Callable[[int], Pixels]
"""Gives film number i of a step, decoded."""
_END: Any = object()
_READY_BATCHES = 8
"""Decoded batches that wait at most for the model."""
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

    def batches(self, steps: Iterable[Sequence[memoryview]], work: RankWork) -> Iterator[Batch]:
        """A batch per step of `work` from the step's encoded films, decoded ahead in the background."""
        return ahead(lambda: self._steps(self._decoding(steps, work), work), _READY_BATCHES)

    def cached_batches(self, films: Pixels, work: RankWork) -> Iterator[Batch]:
        """The same batches from decoded films [N, H, W] in the order of the layout."""
        return ahead(lambda: self._steps(self._looking_up(films, work), work), _READY_BATCHES)

    def _decoding(self, steps: Iterable[Sequence[memoryview]], work: RankWork) -> Iterator[Film]:
        for encoded, positions in zip(steps, _by_step(work), strict=True):
            yield partial(_decoded, self.decoder, encoded, positions)

    def _looking_up(self, films: Pixels, work: RankWork) -> Iterator[Film]:
        for positions in _by_step(work):
            yield partial(_looked_up, films, positions)

    def _steps(self, sources: Iterator[Film], work: RankWork) -> Iterator[Batch]:
        # The next batches are begun before one is whole, or threads would wait at its end for the slowest of them.
        taken, begun = 0, deque[tuple[Batch, list[Future[None]]]]()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            for film, positions in zip(sources, _by_step(work), strict=True):
                here = slice(taken, taken + len(positions))
                taken += len(positions)
                rows = self.decoder.layout.rows[positions]
                begun.append(self._begin(pool, film, rows, work.copies[here], work.epoch))
                if len(begun) > _BEGUN_BATCHES:
                    yield _whole(*begun.popleft())
            while begun:
                yield _whole(*begun.popleft())

    def _begin(
        self, pool: ThreadPoolExecutor, film: Film, rows: Rows, copies: Rows, epoch: int
    ) -> tuple[Batch, list[Future[None]]]:
        """A batch without pixels yet, and the work that fills it."""
        drawn = (
            None
            if self.augmentation_seed is None
            else draw_augmentation(self.augmentation_seed, epoch, rows, copies, self.augmentation_strength)
        )
        pending = None if self.augment_here else drawn
        side = self.image_px if pending is None else self.decoder.stored_px
        pixels = np.empty((len(rows), side, side), np.uint8)
        # Chunks, since one pool task a film costs a third of the throughput.
        chunks = np.array_split(np.arange(len(rows)), self.threads)
        how = warps(drawn, self.decoder.stored_px, side) if drawn is not None and pending is None else None
        filling = [pool.submit(_fill, film, chunk, how, pixels) for chunk in chunks]
        return Batch(pixels, rows, pending), filling


def _fill(film: Film, chunk: Rows, how: Warps | None, out: Pixels) -> None:
    """Puts these films of a batch into `out` [B, H, W], augmented or only resized."""
    for i in chunk.tolist():
        out[i] = shrink(film(i), out.shape[1]) if how is None else warp(film(i), how, i)


def _whole(batch: Batch, filling: Sequence[Future[None]]) -> Batch:
    """The batch, once it is filled; an error of a film is raised here."""
    for part in filling:
        part.result()
    return batch


def _by_step(work: RankWork) -> list[Rows]:
    """The positions of each step."""
    return np.split(work.positions, np.cumsum(work.step_sizes)[:-1])


def _decoded(decoder: FilmDecoder, encoded: Sequence[memoryview], positions: Rows, number: int) -> Pixels:
    return decoder(int(positions[number]), encoded[number])


def _looked_up(films: Pixels, positions: Rows, number: int) -> Pixels:
    return cast(Pixels, films[positions[number]])


def ahead(make: Callable[[], Iterator[T]], ready: int) -> Iterator[T]:
    """What the iterator gives, made in a thread: `ready` items at most wait or are being made; its error is raised here."""
    items: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    room, stop = threading.Semaphore(ready), threading.Event()

    def run() -> None:
        try:
            source = make()
            while room.acquire() and not stop.is_set():
                value = next(source, _END)
                if value is _END:
                    return items.put((False, None))
                items.put((True, value))
                del value  # else the last item that was made would be held until the next
        except BaseException as error:  # noqa: BLE001  carried over to the consumer, who raises it
            items.put((False, error))

    thread = threading.Thread(target=run, daemon=True, name="stream")
    thread.start()
    try:
        while True:
            more, value = items.get()
            room.release()
            if more:
                yield value
                del value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        room.release()
        thread.join(timeout=10)
