"""Training runs on several workers without Ray: gloo processes, forked once the imports are done, so that these are paid for once.

gloo_workers.py SPEC: a JSON list of runs `{"job": a job file, "workers": n, "double": true or false}`, done one after the
other; double: weights and all that comes of them in float64. Beside the run each rank leaves `seen-<rank>.json`: for each
epoch and step, its films' rows of the index with a hash of their pixels.
"""

import hashlib
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ray_cxr.config import read_settings
from ray_cxr.job import Job
from ray_cxr.stream.collate import Batch
from ray_cxr.stream.plan import EpochPlan, World
from ray_cxr.train import epoch, session
from ray_cxr.train.loop import train
from ray_cxr.train.session import Session
from ray_cxr.train.worker import Worker


def seen_by(seen: list[Any]) -> None:
    """From now on each step's films are kept in `seen`."""
    whole = epoch.train_step

    def recorded(s: Session, plan: EpochPlan, step: int, batch: Batch) -> float | None:
        hashes = [hashlib.sha256(film.tobytes()).hexdigest()[:16] for film in batch.pixels]
        seen.append([plan.epoch, step, sorted(zip(batch.rows.tolist(), hashes, strict=True))])
        return whole(s, plan, step, batch)

    epoch.train_step = recorded  # type: ignore[assignment]


def in_double() -> None:
    """From now on models are made of float64: rounding then says nothing, where in float32 a network amplifies it."""
    whole = session.build_classifier
    session.build_classifier = lambda *rest: (whole(*rest)[0].double(), None)


def run_rank(job: Job, rank: int, workers: int, meeting: str, *, double: bool) -> None:
    torch.set_num_threads(1)
    if double:
        in_double()
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    seen: list[Any] = []
    seen_by(seen)
    train(job, Worker(World(rank, workers)))
    Path(job.out, f"seen-{rank}.json").write_text(json.dumps(seen))
    if workers > 1:
        dist.destroy_process_group()


def run_all(runs: list[dict[str, Any]]) -> int:
    """The worst exit code of any rank."""
    fork, worst = multiprocessing.get_context("fork"), 0
    for run in runs:
        job = read_settings(Job, run["job"])
        with tempfile.TemporaryDirectory() as folder:
            ranks = [
                fork.Process(
                    target=run_rank,
                    args=(job, rank, run["workers"], f"{folder}/meeting"),
                    kwargs={"double": run["double"]},
                )
                for rank in range(run["workers"])
            ]
            for process in ranks:
                process.start()
            for process in ranks:
                process.join()
            worst = max(worst, *(abs(process.exitcode or 0) for process in ranks))
    return worst


if __name__ == "__main__":
    sys.exit(run_all(json.loads(Path(sys.argv[1]).read_text())))
