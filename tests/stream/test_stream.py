import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_cxr.errors import InputError
from ray_cxr.films.codec import decode
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.stream.collate import Batch
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.plan import ALONE, World
from ray_cxr.stream.ray_loader import ray_tables
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream, TableReader


@pytest.fixture(scope="module")
def dataset(nih_dataset: str) -> Dataset:
    return open_dataset(nih_dataset, ("train", "validation"))


def stream(
    dataset: Dataset, world: World = ALONE, reader: TableReader = local_tables, split: str = "train"
) -> Stream:
    settings = StreamSettings(image_px=64, batch_size=24)
    return Stream.open(dataset, split, settings, seed=3, world=world, threads=2, reader=reader)


def epoch(one: Stream, number: int = 1) -> Iterator[Batch]:
    return one.train(one.plan(number))


def by_row(batches: list[Batch]) -> dict[int, bytes]:
    return {int(r): p.tobytes() for b in batches for r, p in zip(b.rows, b.pixels, strict=True)}


def test_every_training_film_once_in_the_order_of_the_plan(dataset: Dataset) -> None:
    one = stream(dataset)
    plan = one.plan(1)
    batches = list(one.train(plan))
    assert [len(b.rows) for b in batches[:-1]] == [24] * (plan.steps - 1)
    assert sorted(np.concatenate([b.rows for b in batches])) == dataset.rows("train").tolist()
    for step, batch in enumerate(batches):
        assert batch.rows.tolist() == one.layout.rows[plan.step_positions(step)].tolist()
        assert batch.pixels.shape[1:] == (64, 64)


def test_a_plan_is_made_once_and_two_are_kept(dataset: Dataset) -> None:
    one = stream(dataset)
    first = one.plan(1)
    assert one.plan(1) is first
    second, third = one.plan(2), one.plan(3)
    assert one.planned == {2: second, 3: third}
    assert one.plan(1) is not first and one.plan(1).hash == first.hash
    assert replace(one, seed=4).plan(3).hash != third.hash


def test_ray_data_gives_the_same_pixels_as_reading_here(dataset: Dataset, ray_cluster: None) -> None:
    here, there = list(epoch(stream(dataset))), list(epoch(stream(dataset, reader=ray_tables)))
    assert len(here) == len(there)
    for a, b in zip(here, there, strict=True):
        assert np.array_equal(a.rows, b.rows)
        assert np.array_equal(a.pixels, b.pixels)


def running() -> list[str]:
    """Threads that make batches."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("stream", "decode"))]


def in_a_row(one: Stream, first: int, steps: list[int], last: int) -> list[Batch]:
    """So many steps of each epoch, from step `first` of epoch 1 on."""
    batches = []
    for number, wanted in enumerate(steps, 1):
        taken = one.train(one.plan(number), first if number == 1 else 0, last)
        batches += [next(taken) for _ in range(wanted)]
    return batches


@pytest.mark.parametrize("how", ["here", "ray", "cache", "third of three workers"])
def test_epochs_in_a_row_are_those_taken_one_by_one(
    dataset: Dataset, ray_cluster: None, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a step in the middle of the first on; with nothing running once the last is over."""
    monkeypatch.setenv("RAY_CXR_CACHE_DIR", str(tmp_path))
    world = World(2, 3) if "third" in how else ALONE
    settings = StreamSettings(image_px=64, batch_size=24, cache="node" if how == "cache" else "none")
    one = Stream.open(
        dataset, "train", settings, seed=3, world=world, threads=2, reader=ray_tables if how == "ray" else local_tables
    )  # fmt: skip
    steps = one.plan(1).steps
    row = in_a_row(one, 2, [steps - 2, steps, steps], last=3)
    assert not running()
    single = [b for n in (1, 2, 3) for b in epoch(stream(dataset, world), n)][2:]
    assert len(row) == len(single)
    for a, b in zip(row, single, strict=True):
        assert np.array_equal(a.rows, b.rows) and np.array_equal(a.pixels, b.pixels)
    one.close()


def test_another_epoch_step_or_plan_than_was_begun_is_what_is_asked_for(dataset: Dataset) -> None:
    one = stream(dataset)
    in_a_row(one, 0, [one.plan(1).steps], last=9)
    assert running(), "epoch 2 is made ahead"
    other = Stream.open(dataset, "train", StreamSettings(image_px=64, batch_size=24), seed=4)
    for plan, first in ((one.plan(3), 0), (one.plan(4), 5), (other.plan(5), 0)):
        taken = one.train(plan, first, last_epoch=9)
        for step in range(first, plan.steps):
            assert next(taken).rows.tolist() == one.layout.rows[plan.step_positions(step)].tolist()
    one.close()
    assert not running(), "when the stream is closed"


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_workers_sees_the_same_films_and_pixels_in_each_step(
    dataset: Dataset, size: int
) -> None:
    alone = list(epoch(stream(dataset)))
    ranks = [list(epoch(stream(dataset, World(r, size)))) for r in range(size)]
    assert {len(r) for r in ranks} == {len(alone)}
    for step, whole in enumerate(alone):
        assert by_row([whole]) == by_row([r[step] for r in ranks])


@pytest.mark.parametrize("first", [1, 7, -1])
def test_a_stream_from_a_step_on_gives_the_rest_and_decodes_nothing_before(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    one = stream(dataset)
    plan = one.plan(2)
    first %= plan.steps
    whole = list(one.train(plan))
    decoded: list[bytes] = []

    def counted(film: bytes, codec: Any) -> Any:
        decoded.append(film)
        return decode(film, codec)

    monkeypatch.setattr("ray_cxr.stream.decode.decode", counted)
    rest = list(one.train(plan, first))
    assert len(rest) == plan.steps - first
    for a, b in zip(whole[first:], rest, strict=True):
        assert np.array_equal(a.rows, b.rows) and np.array_equal(a.pixels, b.pixels)
    assert len(decoded) == sum(len(b.rows) for b in rest)


def test_a_rank_that_the_last_step_leaves_without_films_reads_nothing(dataset: Dataset) -> None:
    plan = stream(dataset).plan(1)
    last = [next(stream(dataset, World(r, 12)).train(plan, plan.steps - 1)) for r in range(12)]
    assert sum(len(b.rows) for b in last) == plan.films - (plan.steps - 1) * 24
    assert 0 in [len(b.rows) for b in last]
    assert list(ray_tables(dataset.folder, [[]], 25_000)) == [], "and asks no Ray for it"


def test_augmentation_changes_with_the_epoch_and_never_flips(dataset: Dataset) -> None:
    first, second = by_row(list(epoch(stream(dataset), 1))), by_row(list(epoch(stream(dataset), 2)))
    changed = [row for row in first if first[row] != second[row]]
    assert len(changed) > 0.99 * len(first)


def test_augmentation_without_strength_changes_nothing(dataset: Dataset) -> None:
    plain = StreamSettings(image_px=72, augmentation="none", batch_size=16)
    weak = plain.model_copy(update={"augmentation": "chest-xray", "augmentation_strength": 0.0})
    films = [
        by_row(list(epoch(Stream.open(dataset, "train", settings, seed=3, threads=2), 1)))
        for settings in (plain, weak)
    ]
    assert films[0] == films[1]


def test_scoring_takes_every_film_once_unchanged(dataset: Dataset, nih_dataset: str) -> None:
    ranks = [list(stream(dataset, World(r, 3), split="validation").score()) for r in range(3)]
    rows = np.concatenate([b.rows for rank in ranks for b in rank])
    assert sorted(rows) == dataset.rows("validation").tolist()
    assert len(rows) == len(set(rows))
    same_size = Stream.open(
        dataset, "validation", StreamSettings(image_px=72, augmentation="none", batch_size=7), seed=0
    )
    batch = next(same_size.score())
    place = dataset.index.iloc[batch.rows[0]]
    group = pq.ParquetFile(Path(nih_dataset) / place["shard"]).read_row_group(place["row_group"])
    assert np.array_equal(batch.pixels[0], decode(group["film"][int(place["row"])].as_py(), dataset.codec))


def test_a_damaged_shard_stops_with_its_name(nih_dataset: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(nih_dataset, tmp_path / "dataset"))
    (shard,) = (copy / "shards/train").glob("part-00000-*.parquet")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(bytes(data))
    with pytest.raises(InputError, match="shards/train/part-00000"):
        list(epoch(stream(open_dataset(str(copy), ("train",)))))
    shard.write_bytes(bytes(data[: len(data) // 2]))
    with pytest.raises(InputError, match="shards/train/part-00000"):
        list(epoch(stream(open_dataset(str(copy), ("train",)))))


def test_films_exchanged_inside_a_shard_are_noticed(
    nih_dataset: str, tmp_path: Path, ray_cluster: None
) -> None:
    copy = Path(shutil.copytree(nih_dataset, tmp_path / "dataset"))
    (shard,) = (copy / "shards/train").glob("part-00000-*.parquet")
    table = pq.read_table(shard)
    exchanged = table.take(list(range(table.num_rows))[::-1])
    pq.write_table(exchanged, shard, row_group_size=16)
    opened = open_dataset(str(copy), ("train",))
    for reader in (local_tables, ray_tables):
        with pytest.raises(
            InputError, match=r"part-00000-\w+\.parquet cannot be read \(another film lies where"
        ):
            list(epoch(stream(opened, reader=reader)))
