"""What a death costs: seconds from SIGKILL to the next training step, of one worker, of all, of the driver.

    python benchmarks/recovery.py --workers 2 --times 3

A small network on drawn films, so that hardly a step is lost and what is left is Ray's and our own time. The driver's is
that from giving the same command again. A first step is seen by the file that the progress display reads, which is
written twice a second, so the figures are up to 0.5 s too high.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

JOB = """
source: {{kind: phantom, patients: 300}}
dataset: {here}/dataset
out: {here}/run
shards: {{image_px: 72}}
stream: {{image_px: 64}}
model: {{backbone: test_convnext, weights: none}}
train: {{epochs: 1000, workers: {workers}, checkpoint_every_steps: 5, max_failures: 1000}}
"""
LONGEST_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.yaml"
        job.write_text(JOB.format(here=folder, workers=arguments.workers))
        subprocess.run([sys.executable, "-m", "ray_cxr", "prepare", str(job)], check=True)
        print(
            f"{arguments.workers} workers on {os.cpu_count()} cores\n\n| killed | s to the next step | all |"
        )
        print("|---|---:|---|")
        for what, seconds in measured(job, arguments.times).items():
            print(f"| {what} | {statistics.median(seconds):.1f} | {', '.join(f'{s:.1f}' for s in seconds)} |")


def measured(job: Path, times: int) -> dict[str, list[float]]:
    """Seconds by what was killed."""
    found: dict[str, list[float]] = {
        "one worker": [],
        "all workers": [],
        "the driver, command given again": [],
    }
    with training(job):
        pass
    for _ in range(times):
        with training(job) as (process, first_step_s):
            found["the driver, command given again"].append(first_step_s)
            for what, how_many in (("one worker", 1), ("all workers", None)):
                before = attempt_that_steps(job.parent / "run")
                for worker in workers(process)[:how_many]:
                    worker.kill()
                started = time.monotonic()
                until(lambda before=before: attempt_that_steps(job.parent / "run") not in (None, before))
                found[what].append(time.monotonic() - started)
    return found


@contextmanager
def training(job: Path) -> Iterator[tuple[psutil.Process, float]]:
    """A training that has done a step, and the seconds until then; its driver is killed at the end."""
    before, started = attempt_that_steps(job.parent / "run"), time.monotonic()
    command = [sys.executable, "-m", "ray_cxr", "train", str(job)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: attempt_that_steps(job.parent / "run") not in (None, before))
        yield psutil.Process(process.pid), time.monotonic() - started
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Agents of Ray's try for a minute to tell that the driver is gone: they would cost the next one time.
        for agent in psutil.wait_procs(below, timeout=5)[1]:
            agent.kill()


def attempt_that_steps(run: Path) -> int | None:
    """The number of the workers' start whose first step is done."""
    try:
        written = json.loads((run / "progress.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    number: int = written["attempt"]
    return number if any(e["kind"] in ("step", "epoch") for e in written["events"]) else None


def workers(process: psutil.Process) -> list[psutil.Process]:
    return [p for p in process.children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]


def until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST_S
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"no step in {LONGEST_S:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
