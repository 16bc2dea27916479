"""A disk that is full while a run is saved: one clear end, the last good checkpoint stays, and with room the run goes on."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.job import Job
from ray_cxr.storage import Folder
from ray_cxr.train.checkpoint import newest_state

SETTINGS = ("train.epochs=2", "train.checkpoint_every_steps=5")
ROOM_KIB = 8 * 1024
"""For what is kept of the model and the first checkpoints, of 3.2 MiB each, but not for all."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which `mount -o remount` can make larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_KIB}k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system to fill, and not in every container")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [0, 2])
def test_it_ends_by_a_sentence_and_goes_on_once_there_is_room(
    nih_job: Callable[..., Job], nih_dataset: str, drive: Callable[..., Any], small_disk: Path,
    assert_same_run: Callable[[Job, Job], None], workers: int,
) -> None:  # fmt: skip
    settings = (f"dataset={nih_dataset}", *SETTINGS, f"train.workers={workers}")
    undisturbed, job = nih_job(*settings), nih_job(*settings, f"out={small_disk}/run")
    drive(undisturbed).end()
    full = drive(job)
    assert full.process.wait(timeout=300) == 2
    *_, sentence = full.said.splitlines()
    assert sentence.startswith(f"ray-cxr: {small_disk}/run/checkpoints/step-000000")
    assert "cannot be written (No space left on device: " in sentence
    assert sentence.endswith(
        "make room or rights there and give the same command again, or give another place."
    )
    assert "Traceback" not in full.said
    state = newest_state(Folder(job.out) / "checkpoints")
    assert state is not None and state.step > 0
    assert list(small_disk.rglob(".writing-*")) == [], "a half of a file takes the room that is left"

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = drive(job)
    again.end()
    assert min(again.trained()) == (state.plan_epoch, state.so_far.steps)
    assert_same_run(job, undisturbed)
