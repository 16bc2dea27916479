"""SIGKILL at random moments, of the driver, of one worker, of all: started again or retried, a run ends as an undisturbed one.

The moments are drawn from a seed, by steps done and a part of a second after, so that they fall as well into a step as into
validation, the writing of a checkpoint or of `best/`, and the start.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest

from ray_cxr.job import Job
from ray_cxr.storage import Folder
from ray_cxr.train.checkpoint import newest_state

SETTINGS = ("train.epochs=3", "train.checkpoint_every_steps=3", "train.ema_decay=0.9", "stream.batch_size=32")
STEPS = 3 * 18
"""557 training films."""
Drives = Callable[..., Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def undisturbed(nih_job: Callable[..., Job], nih_dataset: str, module_drive: Drives) -> Callable[[int], Job]:
    """The run that nobody killed, by its number of workers."""
    made: dict[int, Job] = {}

    def run(workers: int) -> Job:
        if workers not in made:
            made[workers] = nih_job(f"dataset={nih_dataset}", *SETTINGS, f"train.workers={workers}")
            ended = module_drive(made[workers])
            ended.end()
            assert len(ended.trained()) == STEPS
        return made[workers]

    return run


def _wait(run: Any, draw: random.Random, starting_s: float) -> None:
    """Waits for a moment of which the seed decides: one time in four while it starts, as always where few steps are left."""
    state = newest_state(Folder(run.job.out) / "checkpoints")
    # The last steps are left out, since the training could end before the moment comes.
    left = STEPS - 9 - (0 if state is None else state.step)
    if draw.random() < 0.25 or left < 1:
        run.wait(draw.uniform(0, starting_s))
        return
    steps = run.steps() + draw.randint(1, left)
    run.until(lambda: run.steps() >= steps)
    run.wait(draw.uniform(0, 0.5))


@pytest.mark.parametrize(("workers", "seed"), [(0, 1), (0, 2), (0, 3), (0, 4), (2, 5), (2, 6), (2, 7)])
def test_the_driver(
    nih_job: Callable[..., Job], nih_dataset: str, drive: Drives, undisturbed: Callable[[int], Job],
    assert_same_run: Callable[[Job, Job], None], workers: int, seed: int,
) -> None:  # fmt: skip
    """Started again at once, three times; what the dead driver has started may still run then, and does not disturb."""
    job, draw = nih_job(f"dataset={nih_dataset}", *SETTINGS, f"train.workers={workers}"), random.Random(seed)
    expected, killed = undisturbed(workers), []
    for _ in range(3):
        run = drive(job)
        _wait(run, draw, starting_s=12 if workers else 4)
        run.kill([run.driver])
        killed.append(run)
    drive(job).end()
    assert_same_run(job, expected)
    # Ray's two agents try for more than a minute to tell the control store, dead as well, that the raylet is gone.
    assert [name for run in killed for name in run.left_after(20, but="agent")] == []
    assert [name for run in killed for name in run.left_after(150)] == []


@pytest.mark.parametrize("seed", [11, 12, 13])
@pytest.mark.parametrize("who", ["one", "all"])
def test_workers(
    nih_job: Callable[..., Job], nih_dataset: str, drive: Drives, undisturbed: Callable[[int], Job],
    assert_same_run: Callable[[Job, Job], None], who: str, seed: int,
) -> None:  # fmt: skip
    """Twice in one training, as often as `train.max_failures` allows."""
    job, draw = (
        nih_job(f"dataset={nih_dataset}", *SETTINGS, "train.workers=2"),
        random.Random(f"{who} {seed}"),
    )
    expected, run, dead = undisturbed(2), drive(job), list[int]()

    def alive() -> list[Any]:
        return [worker for worker in run.workers() if worker.pid not in dead]

    for time in (1, 2):
        run.until(alive)
        _wait(run, draw, starting_s=3)
        now = alive()
        run.kill(now if who == "all" else [draw.choice(now)])
        dead += [worker.pid for worker in now]
        # Which of the two it says depends on whether the moment was in the start.
        again = f"training is started again from the last checkpoint ({time} of 2)"
        run.until(
            lambda again=again: (
                f"a worker died; {again}" in run.said or f"the workers did not start; {again}" in run.said
            )
        )
    run.end()
    assert_same_run(job, expected)
    assert run.left_after(20) == []
