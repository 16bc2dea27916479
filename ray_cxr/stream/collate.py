"""The collate step of a worker: encoded films in, decoded and augmented batches out, on threads of its own.

Reads: Arrow tables of encoded films in the order of a `RankWork`. Gives: a `Batch` per step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import pyarrow as pa

from ray_cxr.axes import Pixels, Rows
from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.films.codec import decode
from ray_cxr.films.settings import Codec
from ray_cxr.stream.augment import Augmentation, augment, draw_augmentation, shrink
from ray_cxr.stream.plan import RankWork

T = TypeVar("T")
Film: TypeAlias = Callable[[int], Pixels]
"""Gives film number i of a step, decoded; ValueError where it is damaged."""
_READY_BATCHES = 8
"""Decoded batches that wait at most for the model."""


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

    rows: index row of each position of the layout. stored_px, image_px: sides of films as stored and as the model sees
    them. augmentation_seed: None for no augmentation.
    """

    rows: Rows
    codec: Codec
    stored_px: int
    image_px: int
    augmentation_seed: int | None
    threads: int
    augment_here: bool = True
    """False: batches hold stored films and the augmentation that the device applies."""

    def batches(self, tables: Iterable[pa.Table], work: RankWork) -> Iterator[Batch]:
        """A batch per step of `work`, decoded ahead in the background."""
        return ahead(lambda: self._batches(tables, work), _READY_BATCHES)

    def cached_batches(self, films: Pixels, work: RankWork) -> Iterator[Batch]:
        """The same batches from decoded films [N, H, W] in the order of the layout."""
        return ahead(lambda: self._cached_batches(films, work), _READY_BATCHES)

    def _batches(self, tables: Iterable[pa.Table], work: RankWork) -> Iterator[Batch]:
        def films_of(encoded: pa.Array) -> Film:
            return lambda i: decode(encoded[i].as_py(), self.codec)

        return self._steps((films_of(encoded) for encoded in _regroup(tables, work.step_sizes)), work)

    def _cached_batches(self, films: Pixels, work: RankWork) -> Iterator[Batch]:
        def films_of(positions: Rows) -> Film:
            return lambda i: cast(Pixels, films[positions[i]])

        ends = np.cumsum(work.step_sizes)
        parts = np.split(work.positions, ends[:-1])
        return self._steps((films_of(part) for part in parts), work)

    def _steps(self, sources: Iterator[Film], work: RankWork) -> Iterator[Batch]:
        positions, taken = work.positions, 0
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            for film, size in zip(sources, work.step_sizes, strict=True):
                here = slice(taken, taken + size)
                taken += size
                rows = self.rows[positions[here]]
                yield self._batch(pool, film, rows, work.copies[here], work.epoch)

    def _batch(self, pool: ThreadPoolExecutor, film: Film, rows: Rows, copies: Rows, epoch: int) -> Batch:
        drawn = (
            None
            if self.augmentation_seed is None
            else draw_augmentation(self.augmentation_seed, epoch, rows, copies)
        )
        pending = None if self.augment_here else drawn
        side = self.image_px if pending is None else self.stored_px
        pixels = np.empty((len(rows), side, side), np.uint8)
        # Chunks, since one pool task a film costs a third of the throughput.
        chunks = np.array_split(np.arange(len(rows)), self.threads)
        here = drawn if pending is None else None
        list(pool.map(lambda chunk: self._decode_chunk(film, chunk, rows, here, pixels), chunks))
        return Batch(pixels, rows, pending)

    def _decode_chunk(
        self, film: Film, chunk: Rows, rows: Rows, drawn: Augmentation | None, out: Pixels
    ) -> None:
        for i in chunk.tolist():
            try:
                pixels = film(i)
            except ValueError as error:
                raise InputError(
                    f"film of index row {rows[i]} cannot be decoded ({error}); prepare the data set again."
                ) from None
            out[i] = (
                shrink(pixels, out.shape[1]) if drawn is None else augment(pixels, self.image_px, drawn, i)
            )


def _regroup(tables: Iterable[pa.Table], sizes: Iterable[int]) -> Iterator[pa.Array]:
    """Cuts tables of any length into arrays of encoded films of exactly these sizes."""
    source = iter(tables)
    rest: pa.Array = pa.array([], pa.binary())
    for size in sizes:
        parts = [rest]
        while (have := sum(map(len, parts))) < size:
            table = next(source, None)
            if table is None:
                raise RayCxrError(f"the stream ended {size - have} films before the end of a step.")
            parts.append(table["film"].combine_chunks())
        joined = pa.concat_arrays(parts) if len(parts) > 1 else parts[0]
        yield joined[:size]
        rest = joined[size:]
    surplus = len(rest) + sum(table.num_rows for table in source)
    if surplus:
        raise RayCxrError(f"the stream gave {surplus} films more than were planned; this must not happen.")


def ahead(make: Callable[[], Iterator[T]], ready: int) -> Iterator[T]:
    """What the iterator gives, made in a thread up to `ready` items ahead; its error is raised here."""
    items: queue.Queue[tuple[bool, Any]] = queue.Queue(ready)
    stop = threading.Event()

    def put(item: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                items.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for value in make():
                if not put((True, value)):
                    return
            put((False, None))
        except BaseException as error:  # noqa: BLE001  carried over to the consumer, who raises it
            put((False, error))

    thread = threading.Thread(target=run, daemon=True, name="stream")
    thread.start()
    try:
        while True:
            more, value = items.get()
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        thread.join(timeout=10)
