"""A data set as a fold sees it: each film validates once, patients stay apart, and folds are told apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.job import Job
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.shards.folds import fold_index
from ray_cxr.shards.prepare import prepare
from ray_cxr.storage import Folder
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream


@pytest.fixture(scope="module")
def dataset(nih_dataset: str) -> Dataset:
    return open_dataset(nih_dataset, ("train", "validation"))


def _patients(dataset: Dataset, split: str) -> set[str]:
    return set(dataset.index["patient_id"].iloc[dataset.rows(split)])


def test_every_film_validates_in_one_fold_and_trains_in_the_others(dataset: Dataset) -> None:
    assert dataset.folds == 5
    views = [dataset.with_fold(k) for k in range(5)]
    both = np.sort(np.concatenate([dataset.rows("train"), dataset.rows("validation")]))
    assert np.sort(np.concatenate([v.rows("validation") for v in views])).tolist() == both.tolist()
    for view in views:
        assert (
            np.sort(np.concatenate([view.rows(s) for s in ("train", "validation")])).tolist() == both.tolist()
        )
        assert view.rows("test").tolist() == dataset.rows("test").tolist()
        assert not _patients(view, "train") & _patients(view, "validation")
        assert view.manifest["splits"]["validation"]["images"] == len(view.rows("validation"))
        assert view.manifest["protocol"] == "kfold"
        assert view.manifest["protocol_details"]["films"]["train"] == len(view.rows("train"))
    assert len({dataset.fingerprint, *(v.fingerprint for v in views)}) == 6
    assert dataset.manifest["protocol"] == "sampled", "a view changes nothing of the data set"


def test_fingerprint_of_a_fold_is_of_who_is_in_it(dataset: Dataset) -> None:
    moved = dataset.index.copy()
    moved["fold"] = (moved["fold"] + 1) % 5
    other = Dataset(dataset.folder, dataset.manifest, moved)
    assert other.with_fold(1).rows("validation").tolist() == dataset.with_fold(0).rows("validation").tolist()
    prints = [
        other.with_fold(1).fingerprint,
        dataset.with_fold(0).fingerprint,
        dataset.with_fold(1).fingerprint,
    ]
    assert len(set(prints)) == 3
    assert dataset.with_fold(1).fingerprint == open_dataset(dataset.folder.url, ("train",), 1).fingerprint


def test_patients_shared_between_folds_are_refused(dataset: Dataset) -> None:
    index = dataset.index.copy()
    mine = index[index["fold"] == 0]["patient_id"].value_counts()
    film = index[index["patient_id"] == mine.index[mine > 1][0]].index[0]
    index.loc[film, "fold"] = 1
    leaky = Dataset(dataset.folder, dataset.manifest, index)
    with pytest.raises(
        RefusedError, match=r"1 patients are in more than one split \(1 in train and validation\)"
    ):
        leaky.with_fold(0)
    leaky.with_fold(2)


@pytest.mark.parametrize(
    ("folds", "fold", "sentence"),
    [
        ("null", 0, r"fold: got 0, but the data set \S+ was prepared without folds; prepare it with split\.folds=5"),
        ("3", 3, r"fold: got 3, but the data set \S+ has the folds 0 to 2; use one of these"),
    ],
)  # fmt: skip
def test_fold_that_is_not_there_is_told(
    nih_job: Callable[..., Job], nih_dataset: str, dataset: Dataset, folds: str, fold: int, sentence: str
) -> None:
    index = dataset.index.copy()
    index["fold"] = pd.array([pd.NA] * len(index), "Int8") if folds == "null" else index["fold"].clip(upper=2)
    with pytest.raises(InputError, match=sentence):
        Dataset(dataset.folder, dataset.manifest, index).with_fold(fold)


def test_weights_of_both_sets_are_put_on_one_scale() -> None:
    index = pd.DataFrame(
        {
            "split": ["train", "train", "validation", "validation", "test"],
            "fold": pd.array([0, 1, 0, 1, pd.NA], "Int8"),
            "sampling_weight": [1.0, 3.0, 10.0, 30.0, 7.0],
        }
    )
    view = fold_index(index, 0)
    assert view["split"].tolist() == ["validation", "train", "validation", "train", "test"]
    assert view["sampling_weight"].tolist() == [0.5, 1.5, 0.5, 1.5, 7.0]


def test_stream_reads_a_fold_across_shards_and_shows_its_films_only(dataset: Dataset) -> None:
    view = dataset.with_fold(3)
    settings = StreamSettings(image_px=64, batch_size=24, augmentation="none")
    whole = {
        split: {int(r): p for b in Stream.open(dataset, split, settings, seed=1).score()
                for r, p in zip(b.rows, b.pixels, strict=True)}
        for split in ("train", "validation")
    }  # fmt: skip
    pixels = whole["train"] | whole["validation"]
    for split in ("train", "validation"):
        stream = Stream.open(view, split, settings, seed=1)
        shards = {path.split("/")[1] for path, _ in stream.layout.groups}
        assert shards == {"train", "validation"}
        batches = list(stream.score()) if split == "validation" else list(stream.train(stream.plan(1)))
        rows = np.concatenate([b.rows for b in batches])
        assert np.sort(rows).tolist() == view.rows(split).tolist()
        for batch in batches:
            for row, film in zip(batch.rows, batch.pixels, strict=True):
                assert np.array_equal(film, pixels[int(row)])


def test_orders_of_films_differ_between_folds(dataset: Dataset) -> None:
    settings = StreamSettings(image_px=64, batch_size=24)
    plans = {Stream.open(dataset.with_fold(k), "train", settings, seed=1).plan(1).hash for k in range(5)}
    assert len(plans) == 5


def test_shards_that_lack_are_those_that_the_index_names(nih_job: Callable[..., Job], silent: Any) -> None:
    job = nih_job()
    prepare(job, silent)
    folder = Folder(job.dataset)
    folder.remove("shards/test")
    open_dataset(job.dataset, ("train", "validation"), 0)
    folder.remove("shards/validation")
    with pytest.raises(InputError, match="lacks shards/validation/part-"):
        open_dataset(job.dataset, ("train",), 0)
    open_dataset(job.dataset, ("train",))
