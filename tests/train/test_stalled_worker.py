"""A worker under Ray that is stopped in the middle of a training: named within a minute, and nothing is lost when it goes on."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.job import Job

WHO = r"warning: worker (\d) of 2 \(rank (\d), node [\d.]+, process (\d+)\)"
STOPPED = re.compile(
    WHO
    + r" has not answered for \d+ s: its process is stopped, or cut off from the cluster; the others wait for it at step \d+ of "
    r"epoch \d\n"
)
NO_FILMS = re.compile(
    WHO
    + r" has been at step 10 of epoch 2 for \d+ s while the others wait for it in the all-reduce: it is waiting for films, and "
    r"none has come since\n"
)
Drives = Callable[..., Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def job(nih_job: Callable[..., Job], nih_dataset: str) -> Job:
    return nih_job(f"dataset={nih_dataset}", "train.workers=2", "train.epochs=2", "stream.batch_size=32")


def _assert_told_and_ended(run: Any, named: re.Match[str] | None) -> int:
    """That one worker was named once, in the log too, and that the training is whole; gives the worker's process."""
    assert named, run.said
    rank, process = int(named[2]), int(named[3])
    assert int(named[1]) == rank + 1
    assert len(re.findall(r"worker \d", run.said)) == 2 and f"process {process}) goes on, after" in run.said
    lines = [json.loads(line) for line in (Path(run.job.out) / "log.jsonl").read_text().splitlines()]
    told = [(line["level"], line["text"]) for line in lines if f"process {process}" in line.get("text", "")]
    assert [level for level, _ in told] == ["warning", "info"] and told[0][1] == named[0].strip()
    assert lines[-1]["event"] == "ended" and len(run.trained()) == 2 * 18
    return process


def test_a_stopped_worker_is_named_within_a_minute_and_training_ends_as_planned(
    job: Job, drive: Drives
) -> None:
    run = drive(job)
    run.until(lambda: run.steps() >= 20)
    worker, stopped = run.workers()[0], time.monotonic()
    worker.suspend()
    run.until_it_said("has not answered")
    took = time.monotonic() - stopped
    worker.resume()
    run.end()
    assert _assert_told_and_ended(run, STOPPED.search(run.said)) == worker.pid
    assert 15 < took < 60


def test_a_worker_that_gets_no_films_is_named_within_a_minute_and_goes_on(job: Job, drive: Drives) -> None:
    run = drive(job, "films", 40)
    run.until_at("films")
    hangs = time.monotonic()
    run.until_it_said("waiting for films, and none has come")
    took = time.monotonic() - hangs
    run.end()
    named = NO_FILMS.search(run.said)
    _assert_told_and_ended(run, named)
    assert named and named[2] == "1" and 15 < took < 40
