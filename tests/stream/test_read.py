"""Reading from storage that fails for a while, or for good."""

import errno
from collections.abc import Callable
from typing import IO

import numpy as np
import pytest

from ray_cxr.errors import InputError
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream import read
from ray_cxr.stream.layout import split_layout
from ray_cxr.stream.read import RETRY_AFTER_S, read_groups
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


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, OSError], None]:
    """failing(times, error): the next `times` openings of a shard raise this error."""
    left: list[OSError] = []
    opened = Folder.open

    def open_or_fail(self: Folder, name: str) -> IO[bytes]:
        if left and name.startswith("shards/"):
            raise left.pop()
        return opened(self, name)

    monkeypatch.setattr(Folder, "open", open_or_fail)
    return lambda times, error: left.extend([error] * times)


def test_a_passing_error_is_waited_out_and_counted(
    dataset: Dataset, failing: Callable[[int, OSError], None], pauses: list[float]
) -> None:
    stream = Stream.open(dataset, "train", StreamSettings(image_px=64, batch_size=24), seed=3)
    calm = [b.rows.tolist() for b in stream.train(stream.plan(1))]
    assert stream.health.retries == 0
    failing(2, TimeoutError("no answer"))
    assert [b.rows.tolist() for b in stream.train(stream.plan(1))] == calm
    assert stream.health.retries == 2
    assert pauses == list(RETRY_AFTER_S[:2])


def test_storage_that_goes_on_failing_ends_the_job_with_the_shard(
    dataset: Dataset, failing: Callable[[int, OSError], None], pauses: list[float]
) -> None:
    failing(100, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(InputError, match=r"shard shards/train/.* cannot be read \(.*Input/output error\)"):
        read_groups(dataset.folder, split_layout(dataset.index, "train"), np.array([0]))
    assert pauses == list(RETRY_AFTER_S)


def test_damage_is_not_tried_again(
    dataset: Dataset, failing: Callable[[int, OSError], None], pauses: list[float]
) -> None:
    failing(1, OSError("could not verify page integrity, CRC checksum verification failed"))
    with pytest.raises(InputError, match="CRC checksum"):
        read_groups(dataset.folder, split_layout(dataset.index, "train"), np.array([0]))
    assert pauses == []
