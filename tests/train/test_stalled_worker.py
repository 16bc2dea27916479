"""A worker under Ray that is stopped in the middle of a training: named within a minute, and nothing is lost when it goes on."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.job import Job

NAMED = re.compile(
    r"worker (\d) of 2 \(rank (\d), node [\d.]+, process (\d+)\) has not answered for \d+ s: its process is stopped, or cut off from "
    r"the cluster; the others wait for it at step \d+ of epoch \d"
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stopped_worker_is_named_within_a_minute_and_training_ends_as_planned(
    nih_job: Callable[..., Job], nih_dataset: str, drive: Callable[..., Any]
) -> None:
    job = nih_job(f"dataset={nih_dataset}", "train.workers=2", "train.epochs=2", "stream.batch_size=32")
    run = drive(job)
    run.until(lambda: run.steps() >= 20)
    worker, stopped = run.workers()[0], time.monotonic()
    worker.suspend()
    run.until_it_said("has not answered")
    took = time.monotonic() - stopped
    worker.resume()
    run.end()
    found = NAMED.search(run.said)
    assert found, run.said
    assert int(found[3]) == worker.pid and int(found[1]) == int(found[2]) + 1
    assert 15 < took < 60
    assert f"process {worker.pid}) goes on, after" in run.said
    assert len(re.findall(r"worker \d", run.said)) == 2, run.said  # and nothing of the other

    lines = [json.loads(line) for line in (Path(job.out) / "log.jsonl").read_text().splitlines()]
    told = [(line["level"], line["text"]) for line in lines if "process" in line.get("text", "")]
    assert [level for level, _ in told] == ["warning", "info"] and NAMED.search(told[0][1])
    assert lines[-1]["event"] == "ended"
    assert len(run.trained()) == 2 * 18
