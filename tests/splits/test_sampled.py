"""The sampled split: whole patients, sizes as asked, the same each time."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ray_cxr.errors import InputError
from ray_cxr.splits.deal import deal
from ray_cxr.splits.settings import SplitSettings


def _patients(films_of_each: list[int], seed: int = 0) -> list[str]:
    """Patient ids of films, in mixed order."""
    ids = np.repeat([f"{n:08d}" for n in range(len(films_of_each))], films_of_each)
    return np.random.default_rng(seed).permutation(ids).tolist()


def _labels(films: int, prevalence: float = 0.2, findings: int = 3) -> NDArray[np.float32]:
    rng = np.random.default_rng(films)
    labels = (rng.random((films, findings)) < prevalence).astype(np.float32)
    labels[rng.random((films, findings)) < 0.1] = np.nan
    return labels


def _deal(
    ids: list[str], labels: NDArray[np.float32], settings: SplitSettings, seed: int
) -> NDArray[np.object_]:
    """The split of films in the order of a table; the findings have numbers for names."""
    films = pd.DataFrame(labels, columns=[str(f) for f in range(labels.shape[1])])
    films["image_id"] = [f"{n:06d}" for n in range(len(ids))]
    films["patient_id"] = ids
    return deal(films, [str(f) for f in range(labels.shape[1])], settings, seed, {}).split


def _split(films_of_each: list[int], seed: int = 0, **sizes: float) -> tuple[list[str], NDArray[np.object_]]:
    ids = _patients(films_of_each)
    return ids, _deal(ids, _labels(len(ids)), SplitSettings(**sizes), seed)


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 9), min_size=12, max_size=60),
    st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_each_patient_is_in_one_split_and_sizes_are_near_those_asked_for(
    films_of_each: list[int], test: float, validation: float, seed: int
) -> None:
    ids, split = _split(films_of_each, seed, test=test, validation=validation)
    assert len(split) == len(ids) and set(split) == {"test", "validation", "train"}
    splits_of = {p: {s for q, s in zip(ids, split, strict=True) if q == p} for p in set(ids)}
    assert all(len(s) == 1 for s in splits_of.values())
    for name, fraction in (("test", test), ("validation", validation)):
        # Whole patients: the size nearest to the one asked for is at most a patient away.
        assert abs((split == name).sum() - fraction * len(ids)) <= max(films_of_each)


def test_sizes_are_exact_where_each_patient_has_one_film() -> None:
    _, split = _split([1] * 200, test=0.2, validation=0.1)
    assert {n: int((split == n).sum()) for n in ("test", "validation", "train")} == {
        "test": 40, "validation": 20, "train": 140,
    }  # fmt: skip


def test_a_number_of_films_may_be_asked_for() -> None:
    _, split = _split([1] * 200, test=33, validation=7)
    assert ((split == "test").sum(), (split == "validation").sum()) == (33, 7)


def test_split_is_a_function_of_its_arguments() -> None:
    _, first = _split([2] * 100, seed=5)
    _, again = _split([2] * 100, seed=5)
    _, other = _split([2] * 100, seed=6)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_test_set_does_not_depend_on_the_size_of_the_validation_set() -> None:
    _, small = _split([2] * 100, test=0.2, validation=0.05)
    _, large = _split([2] * 100, test=0.2, validation=0.4)
    assert np.array_equal(small == "test", large == "test")


def test_order_of_the_films_of_a_table_does_not_matter() -> None:
    ids = _patients([1, 2, 3] * 20)
    labels = _labels(len(ids))
    order = np.random.default_rng(1).permutation(len(ids))
    straight = _deal(ids, labels, SplitSettings(), 3)
    shuffled = _deal([ids[i] for i in order], labels[order], SplitSettings(), 3)
    assert np.array_equal(straight[order], shuffled)


def test_findings_are_spread_better_than_by_chance() -> None:
    """A finding of 12 of 300 patients: one draw leaves a test set of 60 without any in 6.5 % of seeds."""
    ids = [f"{n:08d}" for n in range(300)]
    labels = np.zeros((300, 2), np.float32)
    labels[::25, 0] = 1
    labels[::2, 1] = 1
    for seed in range(30):
        test = _deal(ids, labels, SplitSettings(test=0.2, validation=0.1), seed) == "test"
        rare, common = labels[test].sum(0)
        assert 1 <= rare <= 4, seed  # expected 2.4
        assert 27 <= common <= 33, seed  # expected 30


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"test": 50}, "split.test: got 50 films, but there are only 20; ask for less"),
        ({"test": 20}, "split.test: got 20 films"),
        ({"test": 0.5, "validation": 10}, r"split.validation: 10 takes every patient that is left"),
        ({"test": 5, "validation": 15}, "split.validation: 15 takes every patient that is left"),
    ],
)
def test_sizes_that_leave_nobody_to_train_on_are_refused(sizes: dict[str, float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        _split([1] * 20, **sizes)


@pytest.mark.parametrize(("test", "validation"), [(0.5, 0.5), (0.95, 0.1)])
def test_fractions_that_leave_nothing_are_refused_by_the_settings(test: float, validation: float) -> None:
    with pytest.raises(ValueError, match="together leave no film for training"):
        SplitSettings(test=test, validation=validation)


def test_a_number_of_films_is_whole() -> None:
    with pytest.raises(ValueError, match="a number of films is whole"):
        SplitSettings(test=1.5)


def test_one_patient_cannot_be_split() -> None:
    with pytest.raises(InputError, match="there are 20 films of 1 patients"):
        _split([20])
