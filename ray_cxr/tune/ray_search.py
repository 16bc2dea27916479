"""Runs a search's trials under Ray Tune: Tune starts, feeds and ends their processes, `Search` decides.

The only module that knows Tune's controller. Nothing is restored from Tune's own files, which lie in a temporary directory.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.tune
import torch
from ray import cloudpickle
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import PlacementGroupFactory, Stopper, Trainable
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ray_cxr.crossval.room import Node
from ray_cxr.crossval.run_on_ray import ray_nodes
from ray_cxr.ray_session import ray_session, set_environment
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.cache import NodeCache, open_cache
from ray_cxr.stream.layout import split_layout
from ray_cxr.train.ray_trainer import wants_gpu
from ray_cxr.train.settings import Recipe
from ray_cxr.train.sizing import CPUS_PER_WORKER, READING_CPUS
from ray_cxr.tune.nested import train_with_workers
from ray_cxr.tune.room import Need, cpus_of_trial, trials_at_once
from ray_cxr.tune.search import Plan, Search, Show
from ray_cxr.tune.trial import Train, TrialRun, train_here

_ENVIRONMENT = {
    # Tune's own result files are no artifact of ours.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    # The search is resumed from its own study: Tune need not save its state.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    # Ctrl-C is the command line's.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
_OF_THE_DRIVER = 0.01
"""CPUs of a process that starts workers and waits for them: Tune wants to reserve something."""


def run_on_ray(search: Search, show: Show, process: type[TrialProcess] | None = None) -> None:
    """Starts Ray, or joins the cluster of RAY_ADDRESS, and runs all trials of a search there. Raises InputError without room.

    process: what runs them; None: what trains.
    """
    tune = search.job.tune
    workers = search.job.train.workers_of_each
    with ray_session(workers if workers > 1 else 0):
        nodes = ray_nodes()
        need = _need(search, nodes)
        at_once = trials_at_once(nodes, need, tune.concurrency)
        if tune.concurrency != "auto" and at_once < tune.concurrency:
            text = f"tune.concurrency: {tune.concurrency} trials at a time do not fit, {at_once} do"
            show({"kind": "note", "text": text})
        show(
            {"kind": "search", "trials": tune.trials, "epochs": search.most_epochs(), "concurrent": at_once,
             "objective": tune.objectives[0], "known": search.known}
        )  # fmt: skip
        run_trials(search, at_once, need, process)


def _need(search: Search, nodes: list[Node]) -> Need:
    """What a trial takes."""
    tune, train = search.job.tune, search.job.train
    if train.workers_of_each > 1:
        gpus = float(wants_gpu(train, train.workers_of_each))
        return Need(CPUS_PER_WORKER, gpus, train.workers_of_each, READING_CPUS + _OF_THE_DRIVER)
    some_gpus = train.gpu is True or (train.gpu == "auto" and any(node.gpus for node in nodes))
    gpus = float(some_gpus) if tune.gpus_per_trial == "auto" else tune.gpus_per_trial
    if tune.cpus_per_trial != "auto":
        return Need(tune.cpus_per_trial, gpus)
    return Need(cpus_of_trial(nodes, gpus, tune.concurrency), gpus)


def run_trials(search: Search, at_once: int, need: Need, process: type[TrialProcess] | None = None) -> None:
    """Runs all trials of a search to their end, so many at a time, in such processes."""
    for name, value in _ENVIRONMENT.items():
        os.environ[name] = value
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    cpus = sum(node.cpus for node in ray_nodes())
    takes = {
        "cpus": need.cpus if need.workers == 1 else _OF_THE_DRIVER,
        "gpus": need.gpus if need.workers == 1 else 0.0,
        "threads": max(1, int(need.cpus if need.workers == 1 else cpus / at_once / need.workers)),
    }
    ends = _Ends(search)
    with tempfile.TemporaryDirectory(prefix="ray-cxr-") as scratch, _trials_may_run_out_of_memory():
        ray.tune.run(
            process or TrialProcess,
            name="ray-cxr",
            storage_path=scratch,
            search_alg=_SearcherAdapter(ends, takes),
            scheduler=_SchedulerAdapter(ends),
            stop=_StopAll(search),
            num_samples=-1,
            max_concurrent_trials=at_once,
            reuse_actors=True,
            raise_on_failed_trial=False,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            verbose=0,
        )


class _MemoryWasFullError(RayActorError):  # type: ignore[misc]
    """The process of a trial is no more: Ray ended it, since the memory of its node was full."""


@contextmanager
def _trials_may_run_out_of_memory() -> Iterator[None]:
    """Lets Tune take a process that Ray ended for want of memory for a dead one: in Ray 2.60 it would end the whole search."""
    known = RayActorManager._actor_task_failed

    def failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = _MemoryWasFullError(error_msg=str(exception))
        known(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = known


@dataclass
class _Ends:
    """What the searcher and the scheduler that Tune talks to know together."""

    search: Search
    numbers: dict[str, int] = field(default_factory=dict)
    """Tune's name of a trial → its number."""
    stopped: set[int] = field(default_factory=set)
    """Trials that the search has stopped."""


class _SearcherAdapter(Searcher):  # type: ignore[misc]
    """Gives Tune the next trial, and tells the search how each ended."""

    def __init__(self, ends: _Ends, takes: Mapping[str, float]) -> None:
        super().__init__()
        self._ends, self._takes = ends, takes

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        search = self._ends.search
        plan = search.next()
        if plan is None:
            return str(Searcher.FINISHED) if search.done else None
        self._ends.numbers[trial_id] = plan.number
        return {"plan": _packed(plan), **self._takes}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        search, number = self._ends.search, self._ends.numbers[trial_id]
        if number not in search.running or (error and not search.aborted):
            return  # _SchedulerAdapter has said why
        event = json.loads(result["event"]) if result else {"kind": "nothing"}
        if event["kind"] == "end":
            search.end(number)
        elif event["kind"] == "failed":
            search.fail(number, event["reason"])
        elif number in self._ends.stopped:
            search.prune(number)
        else:
            search.leave(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is kept elsewhere."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is kept elsewhere."""


class _SchedulerAdapter(FIFOScheduler):  # type: ignore[misc]
    """Passes on what a trial reports, and stops it where the search says so."""

    def __init__(self, ends: _Ends) -> None:
        super().__init__()
        self._ends = ends

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        event, number = json.loads(result["event"]), self._ends.numbers[trial.trial_id]
        if event["kind"] != "epoch" or not self._ends.search.report(number, event["line"], event["run"]):
            return str(TrialScheduler.CONTINUE)
        self._ends.stopped.add(number)
        return str(TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        search, number = self._ends.search, self._ends.numbers[trial.trial_id]
        error = _error_of(trial)
        if isinstance(error, _MemoryWasFullError):
            search.fail(number, "out of memory (Ray ended its process, since the node's memory was full)")
        else:
            search.died(number, _why_it_died(error))


class _StopAll(Stopper):  # type: ignore[misc]
    """Ends the search when too many trials have failed."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._search.aborted

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it with its own state, of which nothing is ever restored


def _error_of(trial: Trial) -> Exception:
    """What Tune has just written into its session's folder; its own `get_pickled_error` looks where that is copied to later."""
    error: Exception = TuneError("Ray Tune gave no reason")
    if trial.pickled_error_file is not None:
        with open(trial.pickled_error_file, "rb") as file:
            error = cloudpickle.load(file)
    return error


def _why_it_died(error: Exception) -> str:
    # Ray counts what is raised while a process sets itself up as its death.
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return "its process died"
    lines = [line for line in str(error).strip().splitlines() if line]
    return f"its process failed ({lines[-1] if lines else type(error).__name__})"


def _packed(plan: Plan) -> str:
    """As text, which Tune passes on as it is; it would look for search spaces of its own in anything nested."""
    runs = [run.model_dump(mode="json", include=set(Recipe.model_fields)) for run in plan.runs]
    return json.dumps({"trial": plan.recipe.out, "runs": runs})


class TrialProcess(Trainable):  # type: ignore[misc]
    """A process that runs one trial after another: the next one finds everything imported, and the films decoded."""

    _run: TrialRun | None = None
    _films: list[NodeCache] | None = None

    @classmethod
    def default_resource_request(cls, config: Mapping[str, Any]) -> PlacementGroupFactory:
        return PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])

    def setup(self, config: Mapping[str, Any]) -> None:
        self._begin(config)

    def step(self) -> dict[str, Any]:
        assert self._run is not None
        event = self._run.next()
        return {"event": json.dumps(event), "done": event["kind"] != "epoch"}

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        if self._run is not None and not self._run.stop():
            return False
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        if self._run is not None:
            self._run.stop()
        for films in self._films or []:
            films.close()

    def _begin(self, config: Mapping[str, Any]) -> None:
        plan = json.loads(config["plan"])
        runs = [Recipe.model_validate(run) for run in plan["runs"]]
        if runs[0].stream.cache == "node" and self._films is None:
            self._films = [films for run in runs for films in _hold_films(run, int(config["threads"]))]
        workers = runs[0].train.workers_of_each
        train = self.training(config, workers)
        self._run = TrialRun(Folder(plan["trial"]), runs, train, waits=workers <= 1)

    def training(self, config: Mapping[str, Any], workers: int) -> Train:
        """What trains a run of a trial."""
        if workers > 1:
            set_environment()
            return train_with_workers(int(config["threads"]))
        return train_here(torch.device("cuda" if config["gpus"] else "cpu"), int(config["threads"]))


def _hold_films(recipe: Recipe, threads: int) -> list[NodeCache]:
    """The decoded films of the data set, which stay in the node's memory as long as one process holds them."""
    dataset = open_dataset(recipe.dataset, ("train", "validation"), recipe.fold)
    return [
        open_cache(dataset, split, split_layout(dataset.index, split), threads)
        for split in ("train", "validation")
    ]
