"""Films before and after `prepare`: the same pixels, whichever way they come."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from ray_cxr.films.phantom import draw_phantom
from ray_cxr.job import Job
from ray_cxr.labels.table import build_label_table
from ray_cxr.report.explore.films import PreparedFilms, UnpreparedFilms
from ray_cxr.shards.dataset import open_dataset


def test_prepared_films_are_those_of_the_index(drawn_job: Job) -> None:
    dataset = open_dataset(drawn_job.dataset, ())
    films = PreparedFilms(dataset, "train")
    order = films.order(3)
    assert sorted(order) == sorted(dataset.rows("train")), "every training film once, and no other"
    assert not np.array_equal(order, films.order(4))
    locators = build_label_table(drawn_job.source, None).frame.set_index("image_id")["locator"]
    wanted = order[::5]
    read = {film.row: film.pixels for film in films.read(wanted)}
    assert set(read) == set(wanted.tolist())
    for row in wanted[:6].tolist():
        assert np.array_equal(read[row], draw_phantom(locators[dataset.index.at[row, "image_id"]], 64))


def test_the_beginning_of_the_order_lies_in_few_row_groups(drawn_job: Job) -> None:
    dataset = open_dataset(drawn_job.dataset, ())
    first = dataset.index.loc[PreparedFilms(dataset, "train").order(0)[:24]]
    assert len(first.groupby(["shard", "row_group"])) <= 4


def test_unprepared_films_are_read_as_prepare_would(tmp_path: Path) -> None:
    wide = np.random.default_rng(1).integers(0, 256, (60, 120), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [str(tmp_path / name) for name in ("wide.png", "empty.png", "gone.png")]
    films = UnpreparedFilms(pd.Series([*paths, "phantom:0/1/0"], index=[4, 5, 6, 9]), 64)
    assert sorted(films.order(0)) == [4, 5, 6, 9]
    read = {film.row: film for film in films.read(np.array([4, 5, 6, 9]))}
    assert read[4].original == (60, 120)
    assert read[4].pixels.shape == (64, 64)
    assert not read[4].pixels[:16].any(), "black bars above a wide film"
    assert read[5].refused is not None
    assert read[6].refused is not None
    assert str(tmp_path) not in read[6].refused
    assert np.array_equal(read[9].pixels, draw_phantom("phantom:0/1/0", 64))


def test_real_films(shared_data: Path) -> None:
    paths = sorted((shared_data / "nih-originals/images").glob("*.png"))[:4]
    films = UnpreparedFilms(pd.Series([str(p) for p in paths]), 96)
    read = list(films.read(np.arange(4)))
    assert [f.original for f in read] == [(1024, 1024)] * 4
    assert all(f.pixels.std() > 20 for f in read)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_any_split_can_be_looked_at(drawn_job: Job, split: str) -> None:
    dataset = open_dataset(drawn_job.dataset, ())
    films = PreparedFilms(dataset, split)
    assert {f.row for f in films.read(films.order(0))} == set(dataset.rows(split).tolist())
