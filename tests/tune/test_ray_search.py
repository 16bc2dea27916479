"""Trials under Ray Tune: more than fit, stopped ones, failing ones. Their training is made up; tests/tune/test_tune.py trains."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import ray
from ray import cloudpickle
from ray.util import placement_group_table

from ray_cxr.config import to_yaml
from ray_cxr.storage import Folder
from ray_cxr.train.run import write_history
from ray_cxr.train.settings import Recipe
from ray_cxr.tune.ray_search import TrialProcess, run_on_ray, run_trials
from ray_cxr.tune.records import read_lines
from ray_cxr.tune.room import Need
from ray_cxr.tune.search import Search
from ray_cxr.tune.trial import Train
from tests.tune.conftest import Player, line

pytestmark = pytest.mark.usefixtures("ray_cluster")
Make = Callable[..., Player]
# Processes of trials cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Pretending(TrialProcess):
    """Writes what a training would. `train.weight_decay` says what becomes of it."""

    def training(self, config: Mapping[str, Any], workers: int) -> Train:
        if json.loads(config["plan"])["runs"][0]["train"]["weight_decay"] == 5:
            raise OSError("no place for films")
        return _pretend


def _pretend(recipe: Recipe, report: Callable[[dict[str, Any]], None], stopping: threading.Event) -> None:
    run, fate = Folder(recipe.out), recipe.train.weight_decay
    lines = read_lines(run)
    for epoch in range(len(lines) + 1, recipe.train.epochs + 1):
        if epoch == 2 and fate == 1:
            raise ValueError("an image has no side")
        if epoch == 2 and fate == 2:
            raise MemoryError("Unable to allocate 40 GiB")
        if epoch == 2 and fate == 3:
            os._exit(1)
        value = float("nan") if fate == 4 else 0.5 + recipe.train.learning_rate + 0.01 * epoch
        lines.append(_line(epoch, None if fate == 4 else value))
        write_history(run, lines)
        report({"kind": "epoch", "epochs": recipe.train.epochs, **lines[-1]})


def _line(epoch: int, value: float | None) -> dict[str, Any]:
    return {
        "epoch": epoch, "mean_auroc": value, "average_precision": {"Mass": value}, "best": True,
        "seconds": {"train": 2.0, "validate": 1.0},
    }  # fmt: skip


def searched(p: Player, at_once: int, need: Need) -> Search:
    search = p.open()
    run_trials(search, at_once, need, Pretending)
    return search


def table(p: Player) -> pd.DataFrame:
    return pd.read_parquet(Path(p.job.out) / "trials.parquet")


def never(*args: object) -> float:
    raise AssertionError("Ray runs the trials")


RATE = {"train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def held() -> dict[str, float]:
    """What Ray has given away, and how many processes of trials there are."""
    free, all_there = ray.available_resources(), ray.cluster_resources()
    groups = [g for g in placement_group_table().values() if g["state"] != "REMOVED"]
    # Of this Ray: another one on the machine may train, too.
    names = [_command(process) for process in psutil.Process().children(recursive=True)]
    processes = [n for n in names if any(word in n for word in ("Pretending", "TrialProcess", "TrainWorker"))]
    return {
        "cpus": all_there["CPU"] - free.get("CPU", 0),
        "store": float(
            round((all_there["object_store_memory"] - free.get("object_store_memory", 0)) / 2**20)
        ),
        "groups": len(groups),
        "processes": len(processes),
    }


def still_held(seconds: float) -> dict[str, float]:
    """What is not given back within so many seconds."""
    deadline = time.monotonic() + seconds
    while any((now := held()).values()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return {name: value for name, value in now.items() if value}


def test_more_trials_than_fit_all_end_and_leave_nothing_behind(player: Make) -> None:
    most = 0.0
    assert still_held(60) == {}
    p = player(never, "tune.trials=14", "tune.concurrency=10", "tune.cpus_per_trial=2", space=RATE)
    search = p.open()

    def watching(event: dict[str, Any]) -> None:
        nonlocal most
        p.events.append(event)
        most = max(most, len(search.running))

    search.show = watching
    run_on_ray(search, watching, Pretending)
    frame = table(p)
    assert search.done
    assert most == 2, "4 CPUs hold two trials of 2"
    notes = [e["text"] for e in p.events if e["kind"] == "note"]
    assert notes == ["tune.concurrency: 10 trials at a time do not fit, 2 do"]
    assert len(frame) == 14
    assert set(frame["state"]) <= {"complete", "pruned"}
    assert (frame["state"] == "pruned").sum() >= 3, "some are to be stopped, for they may leak"
    stopped = frame[frame["state"] == "pruned"]
    assert (stopped["epochs"] < 3).all()
    assert still_held(60) == {}


def test_trials_that_fail_are_recorded_and_the_search_goes_on(player: Make) -> None:
    space = {"train.weight_decay": {"choices": [0, 1, 2, 3, 4, 5, 6]}}
    settings = ("tune.sampler=grid", "tune.trials=7", "tune.max_failed=9", "train.max_failures=1")
    p = player(never, *settings, "tune.scheduler=none", space=space)
    searched(p, at_once=2, need=Need(cpus=1.0))
    frame = table(p)
    assert dict(zip(frame["param:train.weight_decay"].map(json.loads), frame["reason"], strict=True)) == {
        0: "",
        1: "ValueError: an image has no side",
        2: "out of memory (MemoryError: Unable to allocate 40 GiB)",
        3: "its process died, 2 times",
        4: "mean_auroc cannot be measured: it is None",
        5: "its process failed (OSError: no place for films), 2 times",
        6: "",
    }
    assert frame["state"].tolist() == ["complete", *["failed"] * 5, "complete"]
    assert frame["objective:mean_auroc"][[0, 6]].notna().all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trials_of_two_workers_each_take_turns_and_leave_nothing_behind(player: Make) -> None:
    """Trained for real: each trial starts a Ray Train of its own; the cluster has room for one at a time, or for two badly."""
    assert still_held(60) == {}
    settings = ("train.workers=2", "tune.trials=5", "tune.concurrency=4", "tune.reduction_factor=2")
    p = player(never, *settings, space=RATE)
    search = p.open()
    run_on_ray(search, p.events.append)
    frame = table(p)
    assert set(frame["state"]) == {"complete", "pruned"}
    assert len(frame) == 5
    for _, row in frame.iterrows():
        lines = read_lines(Folder(p.job.out) / row["run"])
        # Workers train on while the search decides: a stopped one may be an epoch further than what was decided on.
        assert row["epochs"] <= len(lines) <= 3
    assert still_held(60) == {}


@pytest.mark.slow
def test_too_many_failures_end_the_search(player: Make) -> None:
    space = {"train.weight_decay": {"choices": [1]}, **RATE}
    p = player(never, "tune.trials=30", "tune.max_failed=3", "tune.scheduler=none", space=space)
    search = searched(p, at_once=2, need=Need(cpus=1.0))
    assert search.aborted
    assert 3 <= search.failures.total() <= 4
    assert set(search.failures) == {"ValueError: an image has no side"}
    assert len(table(p)) <= 5, "those two that ran, or had just begun"


def test_a_search_goes_on_from_its_run_directories(player: Make) -> None:
    """A trial had come to its second epoch when the search was killed."""
    p = player(lambda plan, epoch: 0.6, "tune.trials=3", "tune.scheduler=none", space=RATE)
    search = p.open()
    plan = search.next()
    assert plan is not None
    epochs = p.epochs(search, plan)
    assert [next(epochs), next(epochs)] == [1, 2]
    (Path(plan.recipe.out) / "config.yaml").write_text(to_yaml(plan.recipe))
    again = Player(p.job, never)
    searched(again, at_once=1, need=Need(cpus=1.0))
    frame = table(again)
    assert frame["number"].tolist() == [0, 1, 2]
    assert frame["state"].tolist() == ["complete"] * 3
    assert frame["epochs"].tolist() == [3, 3, 3]
    lines = read_lines(Folder(p.job.out) / "trials/00000")
    assert [entry["mean_auroc"] for entry in lines[:2]] == [0.6, 0.6], "the epochs before stay"
    assert line(3, 0.6)["epoch"] == lines[2]["epoch"] == 3
