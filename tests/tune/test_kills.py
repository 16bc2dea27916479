"""SIGKILL of a search at random moments: started again, it comes to the number of trials asked for, and none runs twice.

The moments are drawn from a seed, so that they fall as well into the start as into an epoch, a trial's end or the writing of the
journal.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.job import Job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TRIALS = 8
SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "stream.resampling": {"choices": ["none", "oversample"]},
    "stream.resampling_strength": {"low": 0.2, "high": 1.0},
}


def started(job: Job, folder: Path) -> subprocess.Popen[bytes]:
    (folder / "job.yaml").write_text(to_yaml(job))
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    with (folder / "stderr").open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "ray_cxr", "tune", str(folder / "job.yaml"), "--json"],
            env=environment, stderr=errors, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip


def ended_trials(out: Path) -> dict[int, tuple[object, ...]]:
    """What a trial that has ended is known by."""
    if not (out / "trials.parquet").exists():
        return {}
    frame = pd.read_parquet(out / "trials.parquet")
    ended = frame[frame["state"].isin(["complete", "pruned", "failed"])]
    names = [
        "state",
        *(c for c in frame if c.startswith(("param:", "objective:"))),
        "epochs",
        "started",
        "ended",
    ]
    return {row["number"]: tuple(map(str, row[names])) for _, row in ended.iterrows()}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_search_that_is_killed_again_and_again(
    tune_job: Callable[..., Job], tmp_path: Path, seed: int
) -> None:
    job = tune_job(f"tune.trials={TRIALS}", "tune.concurrency=2", "train.epochs=3", space=SPACE)
    out, draw = Path(job.out), random.Random(seed)
    known: dict[int, tuple[object, ...]] = {}
    drawn: dict[int, tuple[object, ...]] = {}
    for _ in range(4):
        with started(job, tmp_path) as process:
            end = time.monotonic() + draw.uniform(3, 40)
            while time.monotonic() < end and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        now = ended_trials(out)
        assert {n: now[n] for n in known} == known, "what has ended stays as it is"
        known = now
        for number, row in now.items():
            assert drawn.setdefault(number, row) == row
    process = started(job, tmp_path)
    result, _ = process.communicate(timeout=600)
    assert process.returncode == 0, (tmp_path / "stderr").read_text()
    summary = json.loads(result)
    frame = pd.read_parquet(out / "trials.parquet")
    assert frame["number"].tolist() == list(range(TRIALS))
    assert set(frame["state"]) <= {"complete", "pruned"}
    assert sum(summary["states"].values()) == TRIALS
    final = ended_trials(out)
    assert {n: final[n] for n in known} == known
    params = [c for c in frame if c.startswith("param:")]
    assert not frame[params].astype(str).duplicated().any(), "none twice"
    for _, row in frame.iterrows():
        lines = [json.loads(text) for text in (out / row["run"] / "history.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(1, row["epochs"] + 1))
        assert row["epochs"] == 3 or row["state"] == "pruned"
    assert len(list((out / "trials").glob("0*"))) == TRIALS
    assert "Traceback" not in (tmp_path / "stderr").read_text()


def test_the_same_search_twice_at_one_trial_at_a_time(tune_job: Callable[..., Job], tmp_path: Path) -> None:
    """Trained for real: drawn settings, stops and scores are the same to the last digit."""
    frames = []
    for name in ("a", "b"):
        job = tune_job(
            f"out={tmp_path / name}",
            "tune.trials=6",
            "tune.startup_trials=3",
            "tune.concurrency=1",
            space=SPACE,
        )
        (tmp_path / f"of-{name}").mkdir()
        process = started(job, tmp_path / f"of-{name}")
        process.communicate(timeout=600)
        assert process.returncode == 0
        frames.append(pd.read_parquet(tmp_path / name / "trials.parquet"))
    same = [
        c for c in frames[0] if c.startswith(("param:", "objective:")) or c in ("number", "state", "epochs")
    ]
    pd.testing.assert_frame_equal(frames[0][same], frames[1][same])
