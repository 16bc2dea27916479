"""The node's decoded films: the same pixels, filled once, shared, never left behind, never without room."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ray_cxr.errors import InputError
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.stream import cache
from ray_cxr.stream.cache import PLACE_VARIABLE, NodeCache, open_cache
from ray_cxr.stream.layout import split_layout
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream


@pytest.fixture(scope="module")
def dataset(nih_dataset: str) -> Dataset:
    return open_dataset(nih_dataset, ("train", "validation"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PLACE_VARIABLE, str(tmp_path))
    return tmp_path / f"ray-cxr-{os.getuid()}"


@pytest.fixture
def opened(dataset: Dataset) -> Iterator[NodeCache]:
    films = open_cache(dataset, "train", split_layout(dataset.index, "train"), 2)
    yield films
    films.close()


def _stream(dataset: Dataset, kept: str) -> Stream:
    settings = StreamSettings(image_px=64, batch_size=24, cache=kept)  # type: ignore[arg-type]
    return Stream.open(dataset, "train", settings, seed=3, threads=2)


def test_batches_are_the_same_as_without(dataset: Dataset, place: Path) -> None:
    plain, cached = _stream(dataset, "none"), _stream(dataset, "node")
    for a, b in zip(plain.train(plain.plan(2)), cached.train(cached.plan(2)), strict=True):
        assert np.array_equal(a.rows, b.rows)
        assert np.array_equal(a.pixels, b.pixels)
    for a, b in zip(plain.score(), cached.score(), strict=True):
        assert np.array_equal(a.pixels, b.pixels)
    cached.close()
    assert list(place.iterdir()) == []


def test_films_are_read_once_for_all_and_cannot_be_written(
    dataset: Dataset, opened: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(cache, "read_films", no_more)
    again = open_cache(dataset, "train", split_layout(dataset.index, "train"), 2)
    assert np.array_equal(again.films, opened.films)
    with pytest.raises(ValueError, match="read-only"):
        again.films[0] = 0
    again.close()
    assert opened.users.exists()


def _open_and_wait(url: str, ready: "multiprocessing.Queue[int]", go: "multiprocessing.Queue[bool]") -> None:
    dataset = open_dataset(url, ("train",))
    films = open_cache(dataset, "train", split_layout(dataset.index, "train"), 1)
    ready.put(os.fstat(films.file.fileno()).st_ino)
    go.get(timeout=60)
    films.close()


def test_processes_that_come_at_once_share_one_file(dataset: Dataset, place: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready: multiprocessing.Queue[int] = spawn.Queue()
    go: multiprocessing.Queue[bool] = spawn.Queue()
    workers = [spawn.Process(target=_open_and_wait, args=(dataset.folder.url, ready, go)) for _ in range(2)]
    for worker in workers:
        worker.start()
    first, second = (ready.get(timeout=60) for _ in workers)
    assert first == second
    for _ in workers:
        go.put(True)
    for worker in workers:
        worker.join()
    assert list(place.iterdir()) == []


def test_films_have_no_name_so_that_a_killed_process_leaves_none_behind(
    dataset: Dataset, place: Path
) -> None:
    code = (
        "import sys, time\nfrom ray_cxr.shards.dataset import open_dataset\nfrom ray_cxr.stream.cache import open_cache\n"
        "from ray_cxr.stream.layout import split_layout\nd = open_dataset(sys.argv[1], ('validation',))\n"
        "c = open_cache(d, 'validation', split_layout(d.index, 'validation'), 1)\nprint('ready', flush=True)\ntime.sleep(600)\n"
    )
    layout = split_layout(dataset.index, "validation")
    with subprocess.Popen(
        [sys.executable, "-c", code, dataset.folder.url], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        (left,) = place.iterdir()
        shared = open_cache(dataset, "validation", layout, 1)
        holder.send_signal(signal.SIGKILL)
    assert left.stat().st_size < 200
    assert os.fstat(shared.file.fileno()).st_nlink == 0
    assert shared.films.shape == (layout.films, 72, 72)
    assert shared.films.any()  # who is left keeps them
    again = open_cache(dataset, "validation", layout, 1)
    assert os.path.samestat(os.fstat(again.file.fileno()), os.fstat(shared.file.fileno()))
    again.close()
    shared.close()
    assert list(place.iterdir()) == []


def test_the_list_of_a_killed_process_is_removed_by_the_next(dataset: Dataset, place: Path) -> None:
    place.mkdir(mode=0o700)
    with subprocess.Popen(["true"]) as ended:
        pass
    (place / "0123.users").write_text(f"{ended.pid} 3 1 2\n")
    open_cache(dataset, "validation", split_layout(dataset.index, "validation"), 1).close()
    assert list(place.iterdir()) == []


def test_a_descriptor_that_means_another_file_by_now_is_not_taken(dataset: Dataset, place: Path) -> None:
    layout = split_layout(dataset.index, "validation")
    films = open_cache(dataset, "validation", layout, 1)
    with films.users.open() as users, (place / "other").open("wb") as other:
        words = users.read().split()
        other.truncate(films.films.size)
        films.users.write_text(" ".join([words[0], str(other.fileno()), *words[2:]]) + "\n")
        again = open_cache(dataset, "validation", layout, 1)
        assert np.array_equal(again.films, films.films)
    again.close()
    films.close()


def test_without_room_it_is_refused_with_figures(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_room", lambda place: 1000)
    with pytest.raises(InputError, match=r"stream.cache: the \d+ films of the train split need .* GiB"):
        open_cache(dataset, "train", split_layout(dataset.index, "train"), 2)


def test_too_little_shared_memory_spills_to_disk(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PLACE_VARIABLE)
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    monkeypatch.setattr(cache, "SHARED_MEMORY", str(memory))
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    monkeypatch.setattr(cache, "_room", lambda place: 0 if place.is_relative_to(memory) else 2**30)
    films = open_cache(dataset, "train", split_layout(dataset.index, "train"), 2)
    assert films.spilled
    assert films.users.is_relative_to(disk)
    films.close()


def test_room_that_another_took_meanwhile_spills_too(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PLACE_VARIABLE)
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    monkeypatch.setattr(cache, "SHARED_MEMORY", str(memory))
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    reserve, calls = os.posix_fallocate, []

    def full_at_first(file: int, start: int, size: int) -> None:
        calls.append(size)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(file, start, size)

    monkeypatch.setattr(cache.os, "posix_fallocate", full_at_first)
    films = open_cache(dataset, "validation", split_layout(dataset.index, "validation"), 2)
    assert films.users.is_relative_to(disk)
    films.close()
    assert [list(place.iterdir()) for p in (memory, disk) for place in p.iterdir()] == [[], []]


def test_a_folder_that_is_open_to_others_is_not_used(dataset: Dataset, place: Path) -> None:
    place.mkdir(mode=0o755)
    with pytest.raises(InputError, match="open to others"):
        open_cache(dataset, "train", split_layout(dataset.index, "train"), 2)


def test_other_pixels_than_the_index_says_are_refused(dataset: Dataset, place: Path) -> None:
    row = int(dataset.rows("train")[5])
    index = dataset.index.copy()
    index.loc[row, "pixel_sha256"] = "0" * 64
    changed = Dataset(dataset.folder, dataset.manifest, index)
    with pytest.raises(InputError, match=f"film of index row {row}: other pixels"):
        open_cache(changed, "train", split_layout(index, "train"), 2)
    assert list(place.iterdir()) == []
