"""Where the films of a split lie, from the index."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.shards.layout import lay_out
from ray_cxr.stream.layout import split_layout


def _index(*films: tuple[str, str, int, int]) -> pd.DataFrame:
    frame = pd.DataFrame(films, columns=["split", "shard", "row_group", "row"])
    return frame.assign(image_id=[f"film-{n}" for n in range(len(frame))])


def test_films_stand_in_shard_order_with_their_row_of_the_index() -> None:
    layout = split_layout(
        _index(
            ("train", "shards/train/part-00001.parquet", 0, 1), ("test", "shards/test/part-00000.parquet", 0, 0),
            ("train", "shards/train/part-00000.parquet", 1, 0), ("train", "shards/train/part-00001.parquet", 0, 0),
            ("train", "shards/train/part-00000.parquet", 0, 0), ("train", "shards/train/part-00000.parquet", 0, 1),
        ),
        "train",
    )  # fmt: skip
    assert layout.rows.tolist() == [4, 5, 2, 3, 0]
    assert layout.group.tolist() == [0, 0, 1, 2, 2]
    assert layout.row_in_group.tolist() == [0, 1, 0, 0, 1]
    assert layout.groups == [
        ("shards/train/part-00000.parquet", 0), ("shards/train/part-00000.parquet", 1),
        ("shards/train/part-00001.parquet", 0),
    ]  # fmt: skip
    assert layout.films == 5


def test_split_without_films_is_empty() -> None:
    layout = split_layout(_index(("test", "shards/test/part-00000.parquet", 0, 0)), "train")
    assert layout.films == 0 and layout.groups == [] and len(layout.group) == 0


@given(
    st.lists(st.sampled_from(["train", "validation", "test"]), min_size=1, max_size=200),
    st.integers(1, 40), st.sampled_from([1e-5, 1e-3, 64]),
)  # fmt: skip
def test_layout_finds_each_film_where_the_shards_put_it(
    splits: list[str], rows_per_group: int, shard_mib: float
) -> None:
    ids = [f"film-{n}" for n in range(len(splits))]
    index = pd.DataFrame({"split": splits, "film_bytes": 100, "image_id": ids})
    index = index.join(lay_out(index, rows_per_group, shard_mib))
    for split in set(splits):
        layout = split_layout(index, split)
        assert sorted(layout.rows.tolist()) == [i for i, s in enumerate(splits) if s == split]
        assert np.all(np.diff(layout.group) >= 0)
        for position, row in enumerate(layout.rows.tolist()):
            film = index.loc[row]
            assert layout.groups[layout.group[position]] == (film["shard"], film["row_group"])
            assert layout.row_in_group[position] == film["row"]
