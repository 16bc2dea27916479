"""Trains the folds of a cross-validation as Ray tasks, as many at a time as there is room for.

The only module of this stage that uses Ray. A task asks for all that it needs at once, and only as many are begun as fit, so
none waits for another. Writes: the run directories, by the training loop in each task.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from ray_cxr.crossval.plan import FoldRun, lock_of
from ray_cxr.crossval.room import Node, Room, room_for_folds, room_for_trainers
from ray_cxr.errors import RayCxrError, count_text, reason_of
from ray_cxr.ray_session import errors_of_tasks, ray_session
from ray_cxr.storage import Folder
from ray_cxr.train.fit import Show, with_absolute_paths
from ray_cxr.train.progress import ProgressFile, ProgressFollower
from ray_cxr.train.ray_trainer import fit_with_ray
from ray_cxr.train.settings import Recipe
from ray_cxr.train.sizing import READING_CPUS

_LOOK_S = 1.0


class _DiedError(RayCxrError):
    """The process of a fold ended without a word."""


@dataclass
class _Running:
    run: FoldRun
    attempt: int
    followed: ExitStack


def run_on_ray(runs: Sequence[FoldRun], folds: int, show: Show) -> dict[int, RayCxrError]:
    """Trains each to its end; gives why by fold, for those that failed. folds: of the whole cross-validation.

    `show` gets the events of `Worker.report` with `fold`, from several threads. Raises InputError where there is no room.
    """
    recipe = runs[0].recipe
    workers = recipe.train.workers_of_each
    with ray_session(workers if workers > 1 else 0):
        nodes = ray_nodes()
        gpu = _wants_gpu(recipe, nodes)
        if workers > 1:
            room = room_for_trainers(nodes, folds, workers, READING_CPUS, gpu=gpu)
        else:
            room = room_for_folds(nodes, folds, gpu=gpu)
        together = min(room.at_once, len(runs))
        show({"kind": "note", "text": f"{count_text(len(runs), 'fold')} to train, {together} at a time"})
        return _train_all(runs, room, show, gpu=gpu)


def ray_nodes() -> list[Node]:
    """What the living machines of the Ray that runs have."""
    alive = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    return [Node(r.get("CPU", 0.0), r.get("GPU", 0.0), r.get("memory")) for r in alive]


def _wants_gpu(recipe: Recipe, nodes: Sequence[Node]) -> bool:
    if recipe.train.gpu != "auto":
        return recipe.train.gpu
    return sum(n.gpus for n in nodes) >= recipe.train.workers_of_each


def _train_all(runs: Sequence[FoldRun], room: Room, show: Show, *, gpu: bool) -> dict[int, RayCxrError]:
    waiting = deque((run, 1) for run in runs)
    running: dict[Any, _Running] = {}
    failed: dict[int, RayCxrError] = {}
    try:
        while waiting or running:
            while waiting and len(running) < room.at_once:
                one, task = _begin(*waiting.popleft(), room, show, gpu=gpu)
                running[task] = one
            ended, _ = ray.wait(list(running), timeout=_LOOK_S)
            for task in ended:
                one = running.pop(task)
                one.followed.close()
                error = _outcome(task, one.run.fold, show)
                if isinstance(error, _DiedError) and one.attempt <= one.run.recipe.train.max_failures:
                    text = f"{error.message}; it goes on from its last checkpoint ({one.attempt} of {one.run.recipe.train.max_failures})"
                    show({"kind": "note", "fold": one.run.fold, "text": text})
                    waiting.append((one.run, one.attempt + 1))
                    continue
                if error is not None:
                    failed[one.run.fold] = error
                show({"kind": "end", "fold": one.run.fold, "error": "" if error is None else error.message})
    finally:
        for task, one in running.items():
            ray.cancel(task, force=True)
            one.followed.close()
    return failed


def _begin(run: FoldRun, attempt: int, room: Room, show: Show, *, gpu: bool) -> tuple[_Running, Any]:
    """Starts a fold, and follows its progress."""
    settings = with_absolute_paths(run.recipe).model_dump(include=set(Recipe.model_fields))
    followed = ExitStack()
    followed.enter_context(ProgressFollower(run.run, lambda event: show(event | {"fold": run.fold})))
    if run.recipe.train.workers_of_each > 1:
        task = ray.remote(num_cpus=0, max_retries=0)(_train_with_workers).remote(settings, room.threads)
    else:
        needs = {"num_cpus": room.threads, "num_gpus": int(gpu), "max_retries": 0}
        task = ray.remote(**needs)(_train_as_one).remote(settings, room.threads, gpu=gpu)
    return _Running(run, attempt, followed), task


def _outcome(task: Any, fold: int, show: Show) -> RayCxrError | None:
    """Why a task failed; None where it did not. Tells what it noted."""
    try:
        with errors_of_tasks():
            for text in ray.get(task):
                show({"kind": "note", "fold": fold, "text": text})
    except RayCxrError as error:
        return error
    except OutOfMemoryError:
        return _DiedError("its process was ended by Ray, since the memory of the machine was full")
    except (WorkerCrashedError, NodeDiedError):
        return _DiedError("its process died")
    except RayTaskError as error:
        # A bug, or the machine: its place must be told.
        print(error, file=sys.stderr)
        cause = error.cause
        return RayCxrError(f"{type(cause).__name__}: {reason_of(cause)}")
    return None


def _train_as_one(settings: dict[str, Any], threads: int, *, gpu: bool) -> list[str]:
    """In the process of a task: the training loop, as its only worker."""
    import torch

    from ray_cxr.train.loop import train
    from ray_cxr.train.worker import Worker

    recipe = Recipe.model_validate(settings)
    run = Folder(recipe.out)
    with lock_of(run):
        device = torch.device("cuda" if gpu else "cpu")
        train(recipe, Worker(device=device, threads=threads, report=ProgressFile(run)))
    return []


def _train_with_workers(settings: dict[str, Any], threads: int) -> list[str]:
    """In the process of a task, which computes nothing itself: starts a trainer with workers; gives its notes."""
    notes: list[str] = []
    recipe = Recipe.model_validate(settings)
    with lock_of(Folder(recipe.out)):
        fit_with_ray(recipe, lambda event: notes.append(event["text"]), threads)
    return notes
