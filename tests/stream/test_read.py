"""Reading row groups: in the plan's order however they come, from storage that fails for a while, or for good."""

import errno
from collections.abc import Callable
from typing import IO

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.storage import Folder, UnreachableError
from ray_cxr.stream import read
from ray_cxr.stream.layout import Layout, split_layout
from ray_cxr.stream.plan import RankWork
from ray_cxr.stream.read import (
    RETRY_AFTER_S,
    Read,
    ReadHealth,
    new_groups,
    parts_of,
    read_films,
    read_of,
    step_films,
)
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream


@pytest.fixture(scope="module")
def dataset(nih_dataset: str) -> Dataset:
    return open_dataset(nih_dataset, ("train",))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(read.time, "sleep", taken.append)
    return taken


class _Failing:
    """An opened file whose reading fails."""

    closed = False

    def __init__(self, file: IO[bytes], error: Exception) -> None:
        self._file, self._error = file, error

    def read(self, *_: object) -> bytes:
        raise self._error

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def __enter__(self) -> "_Failing":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.fixture(params=["opening", "reading"])
def failing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int, Exception], None]:
    """failing(times, error): the next `times` openings of a shard, or readings from it, raise this error."""
    left: list[Exception] = []
    opened = Folder.open

    def open_or_fail(self: Folder, name: str, *, ahead: bool = True) -> IO[bytes]:
        if not (left and name.startswith("shards/")):
            return opened(self, name, ahead=ahead)
        if request.param == "opening":
            raise left.pop()
        return _Failing(opened(self, name, ahead=ahead), left.pop())  # type: ignore[return-value]

    monkeypatch.setattr(Folder, "open", open_or_fail)
    return lambda times, error: left.extend([error] * times)


def _first_group(dataset: Dataset) -> Read:
    return read_of(split_layout(dataset.index, "train"), np.array([0]))


def _layout(group_films: list[int]) -> Layout:
    """Row groups of these sizes, three to a shard."""
    films = sum(group_films)
    return Layout(
        rows=np.arange(films),
        image_ids=pa.array([f"film-{n}" for n in range(films)]),
        group=np.repeat(np.arange(len(group_films)), group_films),
        row_in_group=np.concatenate([np.arange(n) for n in group_films]),
        groups=[(f"shards/train/part-{g // 3}.parquet", g % 3) for g in range(len(group_films))],
        group_films=np.array(group_films),
    )


def _table(layout: Layout, positions: NDArray[np.int64]) -> pa.Table:
    """As `read_films` would give them; a film's bytes are its position."""
    return pa.table(
        {
            "image_id": layout.image_ids.take(pa.array(positions)),
            "film": pa.array([str(p).encode() for p in positions], pa.binary()),
            "retries": pa.array(np.zeros(len(positions), np.int32)),
        }
    )


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 7), st.integers(1, 5), st.data(),
)  # fmt: skip
def test_steps_hold_their_films_however_the_tables_are_cut(
    group_films: list[int], step: int, steps_a_window: int, data: st.DataObject
) -> None:
    layout = _layout(group_films)
    films = layout.films
    order = np.array(data.draw(st.permutations(range(films))))
    sizes = [min(step, films - s) for s in range(0, films, step)] + [0]
    window = step * steps_a_window
    work = RankWork([order[s : s + window] for s in range(0, films, window)], order * 0, sizes, 1)
    groups = np.concatenate(new_groups(layout, work.windows))
    there = np.concatenate([np.flatnonzero(layout.group == g) for g in groups])
    cuts = sorted(data.draw(st.lists(st.integers(0, films), max_size=5)))
    tables = [_table(layout, part) for part in np.split(there, cuts)]
    steps = list(step_films(layout, [work], tables, ReadHealth()))
    assert [len(s) for s in steps] == sizes
    assert [int(bytes(film)) for s in steps for film in s] == order.tolist()


def test_reads_name_each_shard_once_with_its_row_groups_and_films() -> None:
    reads = read_of(_layout([4, 5, 6, 7]), np.array([0, 2, 3]))
    assert [(r.path, r.row_groups, r.films) for r in reads] == [
        ("shards/train/part-0.parquet", [0, 2], 10), ("shards/train/part-1.parquet", [0], 7),
    ]  # fmt: skip


def test_reads_keep_the_films_of_the_layout_where_others_lie_between_them() -> None:
    """Row groups of 4, 3 and 2 films; of the first only films 1 and 3 are of this set, of the last only film 0."""
    layout = Layout(
        rows=np.arange(6),
        image_ids=pa.array([f"film-{n}" for n in range(6)]),
        group=np.array([0, 0, 1, 1, 1, 2]),
        row_in_group=np.array([1, 3, 0, 1, 2, 0]),
        groups=[("shards/train/part-0.parquet", 0), ("shards/train/part-0.parquet", 2), ("shards/train/part-1.parquet", 0)],
        group_films=np.array([4, 3, 2]),
    )  # fmt: skip
    first, second = read_of(layout, np.array([0, 1, 2]))
    assert (first.films, second.films) == (7, 2)
    assert first.kept is not None and [k.tolist() for k in first.kept] == [[1, 3], [0, 1, 2]]
    assert second.kept is not None and [k.tolist() for k in second.kept] == [[0]]
    (whole,) = read_of(layout, np.array([1]))
    assert whole.kept is None


def test_a_read_in_parts_is_the_read() -> None:
    """Row groups of 4, 5 and 6 films in one shard, 7 and 3 in the next; about 8 films in a part."""
    read = read_of(_layout([4, 5, 6, 7, 3]), np.arange(5))
    parts = [[(shard.path[-9], shard.row_groups) for shard in part] for part in parts_of(read, 8)]
    assert parts == [[("0", [0, 1])], [("0", [2]), ("1", [0])], [("1", [1])]]


def test_a_reader_that_gives_too_little_or_too_much_is_an_error() -> None:
    layout = _layout([4, 4])
    work = RankWork([np.arange(8)], np.zeros(8, np.int64), [4, 4], 1)
    for films, words in ((7, "1 films less"), (9, "1 films more")):
        table = _table(layout, np.arange(films) % 8)
        with pytest.raises(RayCxrError, match=words):
            list(step_films(layout, [work], [table], ReadHealth()))


def test_a_passing_error_is_waited_out_and_counted(
    dataset: Dataset, failing: Callable[[int, Exception], None], pauses: list[float]
) -> None:
    stream = Stream.open(dataset, "train", StreamSettings(image_px=64, batch_size=24), seed=3)
    calm = [b.rows.tolist() for b in stream.train(stream.plan(1))]
    assert stream.health.retries == 0
    failing(2, TimeoutError("no answer"))
    assert [b.rows.tolist() for b in stream.train(stream.plan(1))] == calm
    assert stream.health.retries == 2
    assert pauses == list(RETRY_AFTER_S[:2])


class ClientError(Exception):
    """As the clients of object stores have them."""


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), ClientError("Input/output error")]
)
def test_storage_that_goes_on_failing_ends_the_job_with_the_shard(
    dataset: Dataset, failing: Callable[[int, Exception], None], pauses: list[float], error: Exception
) -> None:
    remote = Folder(dataset.folder.url)
    remote.is_local = False
    failing(100, error)
    with pytest.raises(
        InputError,
        match=r"shard shards/train/\S* cannot be read \(Input/output error, also 3 times later\); see that \S* can be",
    ):
        read_films(remote, _first_group(dataset))
    assert pauses == list(RETRY_AFTER_S)


def test_an_object_store_that_cannot_be_reached_for_a_while_is_asked_again(
    dataset: Dataset, failing: Callable[[int, Exception], None], pauses: list[float]
) -> None:
    remote = Folder(dataset.folder.url)
    remote.is_local = False
    failing(1, UnreachableError("s3://films cannot be reached"))
    table = read_films(remote, _first_group(dataset))
    assert table["retries"].to_pylist() == [1] + [0] * 15
    assert pauses == [RETRY_AFTER_S[0]]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("could not verify page integrity, CRC checksum verification failed"), "CRC checksum"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (FileNotFoundError(errno.ENOENT, "gone"), "it is not there"),
    ],
)
def test_what_does_not_pass_is_not_tried_again(
    dataset: Dataset,
    failing: Callable[[int, Exception], None],
    pauses: list[float],
    error: Exception,
    words: str,
) -> None:
    failing(1, error)
    with pytest.raises(InputError, match=words + r".*; remove it and prepare the data set again\.$"):
        read_films(dataset.folder, _first_group(dataset))
    assert pauses == []


def test_an_error_of_ours_is_not_taken_for_storage(
    dataset: Dataset, failing: Callable[[int, Exception], None], pauses: list[float]
) -> None:
    failing(1, KeyError("a mistake"))
    with pytest.raises(KeyError, match="a mistake"):
        read_films(dataset.folder, _first_group(dataset))
