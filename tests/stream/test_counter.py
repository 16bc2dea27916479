"""Random numbers from counters: keyed, not drawn in turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ray_cxr.stream.counter import _mix, uniform

SEEDS = st.integers(0, 2**32 - 1)


def _rows(*rows: int) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def test_mixer_is_splitmix64() -> None:
    """The reference implementation's first numbers for the seed 1234567 (rosettacode.org, Splitmix64)."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + k * golden) % 2**64 for k in range(1, 6)], np.uint64)
    assert _mix(states).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


@given(SEEDS, st.integers(1, 10_000), st.lists(st.integers(0, 2**40), min_size=1, max_size=40), st.data())
def test_numbers_of_a_film_do_not_depend_on_the_batch_that_it_is_in(
    seed: int, epoch: int, rows: list[int], data: st.DataObject
) -> None:
    copies = data.draw(st.lists(st.integers(0, 5), min_size=len(rows), max_size=len(rows)))
    order = data.draw(st.permutations(range(len(rows))))
    together = uniform(seed, epoch, _rows(*rows), _rows(*copies), 6)
    turned = uniform(seed, epoch, _rows(*rows)[order], _rows(*copies)[order], 6)
    assert np.array_equal(turned, together[order])
    for i, (row, copy) in enumerate(zip(rows, copies, strict=True)):
        assert np.array_equal(uniform(seed, epoch, _rows(row), _rows(copy), 6)[0], together[i])


def test_more_columns_leave_the_first_as_they_are() -> None:
    rows = np.arange(50)
    six = uniform(1, 1, rows, rows * 0, 6)
    assert np.array_equal(uniform(1, 1, rows, rows * 0, 2), six[:, :2])


def test_every_part_of_the_key_counts() -> None:
    rows, copies = np.arange(1000), np.zeros(1000, np.int64)
    drawn = [
        uniform(0, 1, rows, copies, 4), uniform(1, 1, rows, copies, 4), uniform(0, 2, rows, copies, 4),
        uniform(0, 1, rows + 1000, copies, 4), uniform(0, 1, rows, copies + 1, 4), uniform(1, 0, rows, copies, 4),
        uniform(0, 1, copies, rows + 2, 4),
    ]  # fmt: skip
    everything = np.concatenate([d.ravel() for d in drawn])
    assert len(np.unique(everything)) == len(everything)


def test_numbers_are_uniform_in_each_column() -> None:
    rows = np.arange(50_000)
    drawn = uniform(7, 3, rows, rows * 0, 6)
    assert drawn.shape == (50_000, 6) and drawn.dtype == np.float64
    assert drawn.min() >= 0 and drawn.max() < 1
    for column in drawn.T:
        counts, _ = np.histogram(column, bins=100, range=(0, 1))
        chi_square = float(np.sum((counts - 500) ** 2 / 500))
        assert 50 < chi_square < 160  # 99 degrees of freedom: mean 99, standard deviation 14


@pytest.mark.parametrize("by", ["row", "epoch", "seed", "copy"])
def test_neighbouring_keys_give_unrelated_numbers(by: str) -> None:
    keys = np.arange(20_000)
    zero = np.zeros(1, np.int64)
    drawn = {
        "row": lambda: uniform(0, 1, keys, keys * 0, 1)[:, 0],
        "copy": lambda: uniform(0, 1, keys * 0, keys, 1)[:, 0],
        "epoch": lambda: np.array([uniform(0, int(e), zero, zero, 1)[0, 0] for e in keys[:4000]]),
        "seed": lambda: np.array([uniform(int(s), 1, zero, zero, 1)[0, 0] for s in keys[:4000]]),
    }[by]()
    # The correlation of n unrelated pairs has a standard deviation of 1/√n.
    for lag in (1, 2, 16):
        correlation = np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(len(drawn)), lag


def test_columns_are_unrelated() -> None:
    rows = np.arange(20_000)
    correlation = np.corrcoef(uniform(0, 1, rows, rows * 0, 6).T) - np.eye(6)
    assert np.abs(correlation).max() < 4 / np.sqrt(20_000)


def test_no_film_needs_no_numbers() -> None:
    assert uniform(0, 1, _rows(), _rows(), 6).shape == (0, 6)
