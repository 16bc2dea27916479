"""Encoded films in, batches out: in the order of the plan, each film the one that was prepared."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ray_cxr.errors import InputError
from ray_cxr.films.codec import encode
from ray_cxr.stream.augment import augment, draw_augmentation
from ray_cxr.stream.collate import Batch, Collate
from ray_cxr.stream.decode import FilmDecoder
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.plan import RankWork

PX = 32
ROWS = np.arange(100, 140)
"""Rows of the index of forty films; a film's gray tells which it is."""
FILMS: list[NDArray[np.uint8]] = [np.full((PX, PX), 6 * n, np.uint8) for n in range(40)]
ENCODED = [encode(f, "png") for f in FILMS]


def _layout() -> Layout:
    """Twenty films to a row group, each group a shard of its own."""
    return Layout(
        rows=ROWS, image_ids=pa.array([f"film-{n}" for n in range(40)]), group=np.arange(40) // 20,
        row_in_group=np.arange(40) % 20, groups=[("shards/train/part-0.parquet", 0), ("shards/train/part-1.parquet", 0)],
        group_films=np.array([20, 20]),
    )  # fmt: skip


def _work(positions: list[int], sizes: list[int], copies: list[int] | None = None) -> RankWork:
    return RankWork([np.array(positions, np.int64)], np.array(copies or [0] * len(positions)), sizes, 1)


def _steps(positions: list[int], sizes: list[int]) -> Iterator[list[memoryview]]:
    for part in np.split(positions, np.cumsum(sizes)[:-1]):
        yield [memoryview(ENCODED[p]) for p in part]


def _collate(seed: int | None = None, threads: int = 2) -> Collate:
    hashes = np.array([list(hashlib.sha256(f.tobytes()).digest()) for f in FILMS], np.uint8)
    return Collate(FilmDecoder(_layout(), "png", PX, hashes, np.zeros(40, bool)), PX, seed, threads)


def _equal(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.rows, b.rows) and np.array_equal(a.pixels, b.pixels)
        for a, b in zip(one, other, strict=True)
    )


def test_batches_hold_the_planned_films_and_their_rows() -> None:
    positions, sizes = [7, 3, 39, 0, 21], [2, 2, 1]
    batches = list(_collate().batches(_steps(positions, sizes), [_work(positions, sizes)]))
    assert [len(b.rows) for b in batches] == sizes
    assert np.concatenate([b.rows for b in batches]).tolist() == [107, 103, 139, 100, 121]
    for batch in batches:
        assert batch.pixels.shape == (len(batch.rows), PX, PX) and batch.pixels.dtype == np.uint8
        assert (batch.pixels == ((batch.rows - 100) * 6)[:, None, None]).all()


@settings(max_examples=20)
@given(st.permutations(range(40)), st.integers(1, 12), st.integers(1, 5))
def test_batches_do_not_depend_on_threads_or_on_who_decoded(
    positions: list[int], batch: int, threads: int
) -> None:
    sizes = [min(batch, 40 - s) for s in range(0, 40, batch)]
    work = _work(positions, sizes, [n % 3 for n in range(40)])
    plain = list(_collate(5, 1).batches(_steps(positions, sizes), [work]))
    assert _equal(list(_collate(5, threads).batches(_steps(positions, sizes), [work])), plain)
    assert _equal(list(_collate(5, threads).cached_batches(np.stack(FILMS), [work])), plain)


def test_step_without_films_is_an_empty_batch() -> None:
    batches = list(_collate(5).batches(_steps([1, 2], [2, 0]), [_work([1, 2], [2, 0])]))
    assert [b.pixels.shape for b in batches] == [(2, PX, PX), (0, PX, PX)]
    assert len(batches[1].rows) == 0


def test_augmentation_is_keyed_by_row_of_the_index_epoch_and_copy() -> None:
    positions, copies = [4, 9, 4, 9], [0, 0, 1, 1]
    work = RankWork([np.array(positions)], np.array(copies), [2, 2], 6)
    batches = list(_collate(11).batches(_steps(positions, [2, 2]), [work]))
    pixels = np.concatenate([b.pixels for b in batches])
    drawn = draw_augmentation(11, 6, ROWS[positions], np.array(copies))
    for i, position in enumerate(positions):
        assert np.array_equal(pixels[i], augment(FILMS[position], PX, drawn, i))
    assert not np.array_equal(pixels[0], pixels[2])


def test_augmentation_is_as_strong_as_asked_for() -> None:
    work = RankWork([np.array([4, 9])], np.zeros(2, np.int64), [2], 6)
    collate = replace(_collate(11), augmentation_strength=2.0)
    (batch,) = collate.batches(_steps([4, 9], [2]), [work])
    drawn = draw_augmentation(11, 6, ROWS[[4, 9]], np.zeros(2, np.int64), 2.0)
    assert np.array_equal(batch.pixels[1], augment(FILMS[9], PX, drawn, 1))


def test_film_that_cannot_be_decoded_is_named_by_its_shard_and_row() -> None:
    with pytest.raises(
        InputError,
        match=r"shard shards/train/part-1.parquet cannot be read \(film of index row 121: .*remove it and prepare",
    ):
        list(
            _collate().batches(
                iter([[memoryview(ENCODED[0]), memoryview(b"damaged")]]), [_work([0, 21], [2])]
            )
        )


@pytest.mark.parametrize(
    ("film", "words"),
    [(FILMS[4], "row 103: other pixels than the index says"), (FILMS[3][:, :16], "row 103: it has 16 × 32 pixels")],
)  # fmt: skip
def test_another_film_than_was_prepared_is_found_by_its_hash(film: NDArray[np.uint8], words: str) -> None:
    steps = [[memoryview(encode(film, "png"))]]
    with pytest.raises(InputError, match=words):
        list(_collate().batches(steps, [_work([3], [1])]))


def test_a_film_is_hashed_when_first_seen_only() -> None:
    collate = _collate()
    list(collate.batches(_steps([3, 5], [2]), [_work([3, 5], [2])]))
    assert np.flatnonzero(collate.decoder.checked).tolist() == [3, 5]
    exchanged = [[memoryview(ENCODED[5])]]
    (batch,) = collate.batches(exchanged, [_work([3], [1])])
    assert np.array_equal(batch.pixels[0], FILMS[5])
