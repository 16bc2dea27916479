"""Ctrl-C while training: one sentence, exit code 1, nothing left running, and the same command goes on."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from ray_cxr.job import Job
from ray_cxr.storage import Folder
from ray_cxr.train.checkpoint import newest_state

SENTENCE = "ray-cxr: interrupted; the same command goes on from what is done\n"
QUICK_S = 15.0
"""Some seconds, on a machine that has other work, too."""


def _assert_clean(run: Any, seconds: float) -> None:
    assert run.process.returncode == 1, run.said
    assert run.said.endswith(SENTENCE)
    assert run.said.count("ray-cxr:") == 1
    assert "Traceback" not in run.said and "Error" not in run.said
    assert seconds < QUICK_S
    assert run.left_after(QUICK_S) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("writing_s", "whole"), [(1.0, True), (60.0, False)])
def test_a_checkpoint_that_is_being_written_is_given_some_seconds(
    nih_job: Callable[..., Job], nih_dataset: str, drive: Callable[..., Any],
    assert_same_run: Callable[[Job, Job], None], writing_s: float, whole: bool,
) -> None:  # fmt: skip
    """The first of all, so that a half of it is nothing to go on from."""
    settings = (f"dataset={nih_dataset}", "train.checkpoint_every_steps=4")
    undisturbed, job = nih_job(*settings), nih_job(*settings)
    drive(undisturbed).end()
    run = drive(job, "checkpoint", writing_s)
    run.until_at("checkpoint")
    _assert_clean(run, run.interrupt())
    state = newest_state(Folder(job.out) / "checkpoints")
    assert (state is not None and state.step == 4) is whole
    drive(job).end()
    assert_same_run(job, undisturbed)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "moment", ["checkpoint", *(pytest.param(m, marks=pytest.mark.slow) for m in ("step", "validation"))]
)
def test_at_each_moment(
    nih_job: Callable[..., Job], nih_dataset: str, drive: Callable[..., Any], workers: int, moment: str
) -> None:
    job = nih_job(f"dataset={nih_dataset}", f"train.workers={workers}", "train.checkpoint_every_steps=4")
    run = drive(job, moment)
    run.until_at(moment)
    _assert_clean(run, run.interrupt())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [0.0, 0.7, 1.5, 3.0, 5.0, 7.0, 9.0, 12.0])
def test_while_ray_starts(
    nih_job: Callable[..., Job], nih_dataset: str, drive: Callable[..., Any], seconds: float
) -> None:
    run = drive(nih_job(f"dataset={nih_dataset}", "train.workers=2", "train.epochs=200"))
    run.until_it_said("starting Ray")
    time.sleep(seconds)
    _assert_clean(run, run.interrupt())
