"""Cores that are given, not cores that are there."""

import subprocess
import sys

import pytest

from ray_cxr.cores import usable_cores

_PINNED = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nfrom ray_cxr.cores import usable_cores\nprint(usable_cores())"


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_a_process_that_is_pinned_to_a_core_has_one() -> None:
    done = subprocess.run([sys.executable, "-c", _PINNED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_batch_system_may_say_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert usable_cores() == 1
