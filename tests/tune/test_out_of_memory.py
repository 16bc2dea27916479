"""A trial whose process Ray ends, because the memory of the node is full."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.job import Job

DRIVER = Path(__file__).with_name("memory_driver.py")
ROOM = 4 * 2**30
"""Memory of the machine that the search may take, Ray's processes included, before it counts as full."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_is_recorded_with_that_reason_and_the_search_goes_on(
    tune_job: Callable[..., Job], tmp_path: Path
) -> None:
    memory = psutil.virtual_memory()
    if memory.available < 2 * ROOM:
        pytest.skip(f"needs {2 * ROOM / 2**30:.0f} GiB of free memory")
    space = {"train.weight_decay": {"choices": [0.1, 0.0]}}
    job = tmp_path / "job.yaml"
    settings = ("tune.sampler=grid", "tune.trials=2", "tune.concurrency=1", "tune.scheduler=none")
    job.write_text(to_yaml(tune_job(*settings, "train.workers=1", "train.max_failures=0", space=space)))
    full = (memory.total - memory.available + ROOM) / memory.total
    environment = os.environ | {
        "RAY_memory_usage_threshold": f"{full:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, DRIVER, job], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "study/trials.parquet")
    reasons = dict(zip(frame["param:train.weight_decay"], frame["reason"], strict=True))
    assert reasons == {
        "0.1": "out of memory (Ray ended its process, since the node's memory was full)",
        "0.0": "",
    }
    assert set(frame["state"]) == {"failed", "complete"}
