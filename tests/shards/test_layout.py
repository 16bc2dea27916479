"""Which film goes where: every film once, in film order, in whole row groups."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.shards.layout import lay_out, name_by_content, shard_tasks

MIB = 2**20


def _index(splits: list[str], film_bytes: int = 1000) -> pd.DataFrame:
    films = len(splits)
    return pd.DataFrame(
        {
            "split": splits,
            "film_bytes": film_bytes,
            "image_id": [f"film-{n}" for n in range(films)],
            "pixel_sha256": [f"pixels-{n}" for n in range(films)],
            "part": [f"part-{n // 100}" for n in range(films)],
            "part_row": np.arange(films) % 100,
        }
    )


def _laid_out(index: pd.DataFrame, rows_per_group: int = 4, shard_mib: float = 64) -> pd.DataFrame:
    return index.join(lay_out(index, rows_per_group, shard_mib))


def test_shards_are_stretches_of_a_split_in_film_order() -> None:
    index = _laid_out(_index(["train", "test", "train", "train", "test", "train", "train"]), rows_per_group=2)
    train = index[index["split"] == "train"]
    assert set(train["shard"]) == {"shards/train/part-00000.parquet"}
    assert train["row_group"].tolist() == [0, 0, 1, 1, 2]
    assert train["row"].tolist() == [0, 1, 0, 1, 0]
    assert index.loc[index["split"] == "test", "shard"].tolist() == ["shards/test/part-00000.parquet"] * 2


def test_shard_is_about_as_large_as_asked_for_in_whole_row_groups() -> None:
    # 100 KiB a film and 16 films a row group: 1.5625 MiB; 10 MiB are 6.4 groups, so 6 of them, 96 films.
    index = _laid_out(_index(["train"] * 1000, film_bytes=100 * 1024), rows_per_group=16, shard_mib=10)
    sizes = index["shard"].value_counts().sort_index().tolist()
    assert sizes == [96] * 10 + [40]
    assert index.groupby("shard")["film_bytes"].sum().max() == pytest.approx(10 * MIB, rel=0.1)


def test_shard_holds_a_row_group_at_least() -> None:
    index = _laid_out(_index(["train"] * 10, film_bytes=MIB), rows_per_group=4, shard_mib=0.001)
    assert index["shard"].value_counts().sort_index().tolist() == [4, 4, 2]


@given(
    st.lists(st.sampled_from(["train", "validation", "test", "unused"]), min_size=1, max_size=300),
    st.integers(1, 50), st.sampled_from([1e-5, 0.01, 64]),
)  # fmt: skip
def test_every_film_has_a_place_of_its_own_in_a_shard_of_its_split(
    splits: list[str], rows_per_group: int, shard_mib: float
) -> None:
    index = _laid_out(_index(splits), rows_per_group, shard_mib)
    assert not index.duplicated(["shard", "row_group", "row"]).any()
    assert (index["shard"].str.split("/").str[1] == index["split"]).all()
    assert index["row"].between(0, rows_per_group - 1).all()
    for _, films in index.groupby("shard"):
        # A Parquet file written with this row group size has exactly these groups and rows.
        place = np.arange(len(films))
        assert films["row_group"].tolist() == (place // rows_per_group).tolist()
        assert films["row"].tolist() == (place % rows_per_group).tolist()


def test_tasks_say_where_each_film_lies_in_the_film_store() -> None:
    splits = ["test" if n % 5 == 0 else "train" for n in range(210)]
    tasks = shard_tasks(_laid_out(_index(splits), rows_per_group=32))
    assert [t.path for t in tasks] == ["shards/test/part-00000.parquet", "shards/train/part-00000.parquet"]
    for task, split in zip(tasks, ("test", "train"), strict=True):
        assert task.parts == ["part-0", "part-1", "part-2"]
        found = [
            100 * int(p[-1]) + row for p, rows in zip(task.parts, task.rows, strict=True) for row in rows
        ]
        assert found == [n for n, s in enumerate(splits) if s == split]
        assert task.image_ids == [f"film-{n}" for n in found]


def test_films_that_were_refused_leave_gaps_in_the_store_not_in_the_shards() -> None:
    index = _index(["train"] * 6).assign(part=["a"] * 4 + ["c"] * 2, part_row=[0, 1, 4, 5, 0, 7])
    (task,) = shard_tasks(_laid_out(index, rows_per_group=4))
    assert task.parts == ["a", "c"]
    assert task.rows == [[0, 1, 4, 5], [0, 7]]


def test_the_name_of_a_shard_changes_with_what_is_in_it_and_with_nothing_else() -> None:
    index = _laid_out(_index(["train"] * 6 + ["test"] * 2))

    def names(changed: pd.DataFrame, codec: str = "png", rows_per_group: int = 4) -> list[str]:
        return list(dict.fromkeys(name_by_content(changed, codec, rows_per_group)))  # type: ignore[arg-type]

    train, test = names(index)
    assert train.startswith("shards/train/part-00000-") and test.startswith("shards/test/part-00000-")
    assert names(index.assign(patient_id="x", part="y")) == [train, test]
    other = index["pixel_sha256"].where(index.index != 7, "changed")
    assert names(index.assign(pixel_sha256=other))[0] == train
    assert names(index.assign(pixel_sha256=other))[1] != test
    renamed = index["image_id"].where(index.index != 0, "renamed")
    assert names(index.assign(image_id=renamed))[0] != train
    assert names(index, "jpeg")[0] != train and names(index, rows_per_group=8)[0] != train
