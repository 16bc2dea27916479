"""Seconds from the command to the first step, with what they were spent on, as one JSON line.

    python benchmarks/train_start.py JOB KEY=VALUE …

Runs `ray-cxr train` with a clock at its places. Its first marks are of the driver, the others of worker 0.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

BEGUN, MARKS = "RAY_CXR_BENCHMARK_BEGUN", "RAY_CXR_BENCHMARK_MARKS"


def mark(name: str) -> None:
    """Writes that this has just happened."""
    with Path(os.environ[MARKS]).open("a") as file:
        file.write(json.dumps([name, time.time() - float(os.environ[BEGUN])]) + "\n")


def marked(module: Any, function: str, name: str, *, before: bool = False) -> None:
    """Marks each return of a module's function, or each call of it."""
    original: Callable[..., Any] = getattr(module, function)

    def call(*args: Any, **options: Any) -> Any:
        if before:
            mark(name)
        result = original(*args, **options)
        if not before:
            mark(name)
        return result

    setattr(module, function, call)


def mark_loop() -> None:
    """Marks the places of the training loop, in the process that runs it."""
    from ray_cxr.train import epoch, loop

    mark("imports of the training process")
    marked(loop, "open_session", "data set, model, checkpoint")
    marked(loop, "dry_run", "dry run")
    marked(epoch, "train_step", "first batch", before=True)
    marked(epoch, "train_step", "first step")


def worker_main(config: dict[str, Any]) -> None:
    """In place of `ray_trainer._worker_main`, which it calls."""
    os.environ.update(config.pop("marks"))
    mark("worker and process group")
    import threading

    from ray_cxr.stream.ray_loader import start_readers
    from ray_cxr.train import ray_trainer

    # What the worker does itself, begun before the imports that are marked here.
    threading.Thread(target=start_readers, daemon=True).start()
    ray_trainer.start_readers = lambda: None
    mark_loop()
    ray_trainer._worker_main(config)


def main() -> None:
    os.environ[BEGUN] = str(psutil.Process().create_time())
    os.environ.setdefault(MARKS, f"/tmp/ray-cxr-start-{os.getpid()}.jsonl")  # noqa: S108  removed below
    from ray_cxr import ray_session
    from ray_cxr.cli.main import run
    from ray_cxr.train import fit

    mark("Python and the command line")
    marked(fit, "check_training", "imports and checks")
    marked(ray_session, "start_ray", "Ray (beside the imports)")
    if "train.workers=0" in sys.argv:
        marked(fit, "fit_here", "run directory", before=True)
        original = fit.fit_here

        def fit_here(*args: Any) -> None:
            mark_loop()
            original(*args)

        fit.fit_here = fit_here
    else:
        with_paths = fit.with_absolute_paths

        def later(recipe: Any) -> Any:  # the trainer's module is imported by now
            from ray_cxr.train import ray_trainer

            mark("run directory")
            trainer = ray_trainer._Trainer
            marks = {name: os.environ[name] for name in (BEGUN, MARKS)}

            def make(function: Any, *, train_loop_config: dict[str, Any], **options: Any) -> Any:
                return trainer(worker_main, train_loop_config=train_loop_config | {"marks": marks}, **options)

            ray_trainer._Trainer = make
            return with_paths(recipe)

        fit.with_absolute_paths = later
    code = run(["train", *sys.argv[1:], "--json"])
    path = Path(os.environ[MARKS])
    found: dict[str, float] = {}
    for line in path.read_text().splitlines():
        name, at = json.loads(line)
        found.setdefault(name, at)  # the first time counts
    path.unlink()
    print(json.dumps({"exit_code": code, "marks": found}))


if __name__ == "__main__":
    main()
