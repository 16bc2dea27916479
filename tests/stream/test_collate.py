"""Encoded films in, batches out: in the order of the plan, the same however the tables were cut."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.films.codec import encode
from ray_cxr.stream.augment import augment, draw_augmentation
from ray_cxr.stream.collate import Batch, Collate, ahead
from ray_cxr.stream.plan import RankWork

PX = 32
ROWS = np.arange(100, 140)
"""Rows of the index of forty films; a film's gray tells which it is."""
FILMS: list[NDArray[np.uint8]] = [np.full((PX, PX), 6 * n, np.uint8) for n in range(40)]
ENCODED = [encode(f, "png") for f in FILMS]


def _work(positions: list[int], sizes: list[int], copies: list[int] | None = None) -> RankWork:
    return RankWork([np.array(positions, np.int64)], np.array(copies or [0] * len(positions)), sizes, 1)


def _tables(positions: list[int], cuts: list[int]) -> Iterator[pa.Table]:
    """The films in this order, in tables that begin at the cuts."""
    edges = [0, *sorted(cuts), len(positions)]
    for start, end in pairwise(edges):
        yield pa.table({"film": pa.array([ENCODED[p] for p in positions[start:end]], pa.binary())})


def _collate(seed: int | None = None, threads: int = 2) -> Collate:
    return Collate(ROWS, "png", PX, PX, seed, threads)


def _equal(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.rows, b.rows) and np.array_equal(a.pixels, b.pixels)
        for a, b in zip(one, other, strict=True)
    )


def test_batches_hold_the_planned_films_and_their_rows() -> None:
    positions, sizes = [7, 3, 39, 0, 21], [2, 2, 1]
    batches = list(_collate().batches(_tables(positions, [3]), _work(positions, sizes)))
    assert [len(b.rows) for b in batches] == sizes
    assert np.concatenate([b.rows for b in batches]).tolist() == [107, 103, 139, 100, 121]
    for batch in batches:
        assert batch.pixels.shape == (len(batch.rows), PX, PX) and batch.pixels.dtype == np.uint8
        assert (batch.pixels == ((batch.rows - 100) * 6)[:, None, None]).all()


@settings(max_examples=30)
@given(
    st.permutations(range(40)),
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 12),
    st.integers(1, 5),
)
def test_batches_do_not_depend_on_how_tables_are_cut_or_on_threads(
    positions: list[int], cuts: list[int], batch: int, threads: int
) -> None:
    sizes = [min(batch, 40 - s) for s in range(0, 40, batch)]
    work = _work(positions, sizes, [n % 3 for n in range(40)])
    plain = list(_collate(5, 1).batches(_tables(positions, []), work))
    assert _equal(list(_collate(5, threads).batches(_tables(positions, cuts), work)), plain)


def test_step_without_films_is_an_empty_batch() -> None:
    batches = list(_collate(5).batches(_tables([1, 2], []), _work([1, 2], [2, 0])))
    assert [b.pixels.shape for b in batches] == [(2, PX, PX), (0, PX, PX)]
    assert len(batches[1].rows) == 0


def test_augmentation_is_keyed_by_row_of_the_index_epoch_and_copy() -> None:
    positions, copies = [4, 9, 4, 9], [0, 0, 1, 1]
    work = RankWork([np.array(positions)], np.array(copies), [2, 2], 6)
    batches = list(_collate(11).batches(_tables(positions, []), work))
    pixels = np.concatenate([b.pixels for b in batches])
    drawn = draw_augmentation(11, 6, ROWS[positions], np.array(copies))
    for i, position in enumerate(positions):
        assert np.array_equal(pixels[i], augment(FILMS[position], PX, drawn, i))
    assert not np.array_equal(pixels[0], pixels[2])


def test_film_that_cannot_be_decoded_is_named_by_its_row_only() -> None:
    films = pa.table({"film": pa.array([ENCODED[0], b"damaged"], pa.binary())})
    with pytest.raises(
        InputError, match=r"film of index row 121 cannot be decoded .*prepare the data set again"
    ):
        list(_collate().batches(iter([films]), _work([0, 21], [2])))


def test_stream_that_ends_early_is_an_error() -> None:
    with pytest.raises(RayCxrError, match="the stream ended 3 films before the end of a step"):
        list(_collate().batches(_tables([0, 1, 2], []), _work([0, 1, 2, 3, 4, 5], [2, 4])))


def test_what_is_made_ahead_comes_in_order_and_ends() -> None:
    assert list(ahead(lambda: iter(range(100)), 3)) == list(range(100))
    assert list(ahead(lambda: iter([]), 3)) == []


def test_error_is_raised_where_the_items_are_used_and_after_those_before_it() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise InputError("shard 3 is damaged")

    items = ahead(fails, 3)
    assert next(items) == 1
    with pytest.raises(InputError, match="shard 3 is damaged"):
        next(items)


def test_no_more_is_made_than_may_wait() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for n in range(1000):
            made.append(n)
            yield n

    items = ahead(make, 2)
    assert next(items) == 0
    time.sleep(0.1)
    assert len(made) <= 5  # one taken, two that wait, one in hand, one begun
    items.close()  # type: ignore[attr-defined]


def test_thread_ends_when_its_items_are_wanted_no_more() -> None:
    def threads() -> list[Any]:
        return [t for t in threading.enumerate() if t.name == "stream"]

    before = len(threads())
    items = ahead(lambda: iter(range(1000)), 2)
    next(items)
    assert len(threads()) == before + 1
    items.close()  # type: ignore[attr-defined]
    assert len(threads()) == before
