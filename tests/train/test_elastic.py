"""Trainings on a cluster of several nodes that change: workers and nodes die, come, and are taken away, in real processes.

The cluster is that of cluster/one-machine.sh. After each loss: every film as planned, figures like those of a training that nobody
disturbed, nothing left. `pytest -s` shows the seconds from each loss to the next step.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ray_cxr.job import Job
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.stream.stream import Stream

SCRIPT = Path(__file__).resolve().parents[2] / "cluster/one-machine.sh"
SETTINGS = (
    "train.epochs=8",
    "train.checkpoint_every_steps=3",
    "stream.batch_size=32",
    "train.grow_after_s=3",
)
"""test_convnext has no BatchNorm, so any number of workers trains the same model but for rounding."""
STEPS = 8 * 18
"""557 training films."""
Drives = Callable[..., Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Nodes:
    """A head, where the command runs, and nodes of one worker each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "DIR": str(folder), "CPUS": "1", "HEAD_CPUS": "1", "RAY": shutil.which("ray", path=Path(sys.executable).parent)
            or "ray",
        }  # fmt: skip
        self._environment.pop("RAY_AUTH_MODE", None)

    def do(self, *words: str) -> str:
        done = subprocess.run(
            [str(SCRIPT), *words], env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def command(self) -> list[str]:
        """What runs a command on the head."""
        return ["env", "-u", "RAY_AUTH_MODE", f"DIR={self.folder}", str(SCRIPT), "run"]

    def workers(self) -> dict[psutil.Process, str]:
        """Training workers, and the number of the node of each."""
        found = {}
        for process in psutil.process_iter():
            try:
                node = process.environ().get("RAY_CXR_NODE", "")
                if node.startswith(f"{self.folder}/") and "RayTrainWorker" in " ".join(process.cmdline()):
                    found[process] = node.rpartition("-")[2]
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                pass
        return found

    def node_of_a_worker(self) -> str:
        """One that is not the head."""
        return next(node for node in self.workers().values() if node != "0")

    def have(self, number: int) -> None:
        """Adds nodes until there are so many beside the head that Ray gives work to."""
        while len(self.ids()) < number + 1:
            self.do("add")

    def ids(self) -> dict[str, str]:
        """Ray's ids of the living nodes that will stay, by number."""
        code = (
            "import ray; from ray._private.state import state; ray.init(logging_level='ERROR'); "
            "leaving = state.get_draining_nodes(); "
            "print('>', *(n['NodeManagerAddress'].split('.')[3] + ',' + n['NodeID'] for n in ray.nodes() "
            "if n['Alive'] and n['NodeID'] not in leaving))"
        )
        told = self.do("run", sys.executable, "-c", code).rpartition("> ")[2].split()
        return {str(int(last) - 10): name for last, _, name in (one.partition(",") for one in told)}

    def drain(self, node: str, seconds: int) -> None:
        """Gives notice that a node will be taken away."""
        why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"]
        self.do(
            "run",
            self._environment["RAY"],
            "drain-node",
            "--node-id",
            self.ids()[node],
            *why,
            "--deadline-remaining-seconds",
            str(seconds),
        )

    def resources_in_use(self) -> str:
        """What Ray says that somebody has, placement groups among it."""
        code = (
            "import ray; ray.init(logging_level='ERROR'); a, t = ray.available_resources(), ray.cluster_resources(); "
            "from ray.util.state import list_placement_groups as l; "
            "print('>', {k: t[k] - a.get(k, 0) for k in ('CPU',)}, [g.state for g in l() if g.state != 'REMOVED'])"
        )
        return self.do("run", sys.executable, "-c", code).rpartition("> ")[2].strip()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    # Sockets lie below it, and their paths are short.
    cluster = Nodes(Path(f"/tmp/rcxr-t{os.getpid()}"))
    try:
        cluster.do("up", "2")
        yield cluster
    finally:
        cluster.do("down")


@pytest.fixture(scope="module")
def undisturbed(nih_job: Callable[..., Job], nih_dataset: str, module_drive: Drives) -> Job:
    job = nih_job(f"dataset={nih_dataset}", *SETTINGS, "train.workers=0")
    module_drive(job).end()
    return job


def _recovery_s(run: Any, since: float, what: str) -> None:
    """Prints the seconds until the next step."""
    before = run.steps()
    run.until(lambda: run.steps() > before)
    print(f"\n{what}: {time.monotonic() - since:.1f} s to the next step")


def _until_workers(nodes: Nodes, run: Any, number: int) -> None:
    """Until so many train, which is more than being there: each writes its own log."""
    run.until(lambda: len(nodes.workers()) == number)
    steps = run.steps()
    run.until(lambda: run.steps() > steps)


def _assert_all_as_planned(run: Any, undisturbed: Job, before: Any = None) -> None:
    """Each step of the plan was trained on, on exactly its films, and the figures are those of nobody's disturbance.

    before: the command whose run this one went on with.
    """
    recipe = run.job
    dataset = open_dataset(recipe.dataset, ("train",))
    stream = Stream.open(dataset, "train", recipe.stream, seed=recipe.seed)
    planned = {}
    for epoch in range(1, recipe.train.epochs + 1):
        plan = stream.plan(epoch)
        for step in range(plan.steps):
            planned[epoch, step] = sorted(stream.layout.rows[plan.step_positions(step)].tolist())
    trained = run.trained()
    for place, rows in before.trained().items() if before else ():
        trained[place] = trained.get(place, []) + rows
    assert set(trained) == set(planned) and len(planned) == STEPS
    for place, rows in planned.items():
        # A step after the last checkpoint was done again, by each of the trainings that came to it.
        once, times = np.unique(trained[place], return_counts=True)
        assert once.tolist() == rows and len(set(times.tolist())) == 1, place
    ours, theirs = (
        [json.loads(line) for line in (Path(job.out) / "history.jsonl").read_text().splitlines()]
        for job in (run.job, undisturbed)
    )
    for line, other in zip(ours, theirs, strict=True):
        for name in ("train_loss", "validation_loss", "mean_auroc"):
            assert line[name] == pytest.approx(other[name], abs=1e-4), (line["epoch"], name)


@pytest.fixture
def training(
    nodes: Nodes, nih_job: Callable[..., Job], nih_dataset: str, drive: Drives
) -> Callable[..., Any]:
    """Starts a training on the cluster, with as many nodes as workers."""

    def start(*settings: str, workers: str = "[1, 2]") -> Any:
        nodes.have(2)
        job = nih_job(f"dataset={nih_dataset}", *SETTINGS, f"train.workers={workers}", *settings)
        run = drive(job, before=nodes.command)
        _until_workers(nodes, run, 2)
        return run

    return start


def _assert_nothing_is_left(nodes: Nodes, run: Any) -> None:
    assert run.left_after(20) == []
    assert nodes.workers() == {}
    end = time.monotonic() + 20
    while (used := nodes.resources_in_use()) != "{'CPU': 0.0} []":
        assert time.monotonic() < end, used


def test_a_worker_is_killed(nodes: Nodes, training: Callable[..., Any], undisturbed: Job) -> None:
    run = training()
    worker = next(iter(nodes.workers()))
    worker.kill()
    _recovery_s(run, time.monotonic(), "a worker killed")
    run.end()
    assert "a worker died; training is started again from the last checkpoint (1 of 2)" in run.said
    _assert_all_as_planned(run, undisturbed)
    _assert_nothing_is_left(nodes, run)


def test_a_node_is_lost_and_another_comes(
    nodes: Nodes, training: Callable[..., Any], undisturbed: Job
) -> None:
    """Training goes on with one worker, and grows back."""
    run = training()
    nodes.do("lose", nodes.node_of_a_worker())
    _recovery_s(run, time.monotonic(), "a node lost")
    assert len(nodes.workers()) == 1
    nodes.do("add")
    run.until_it_said("the cluster has room for 2 workers: training has saved and moves")
    _recovery_s(run, time.monotonic(), "moved to a node that came")
    assert len(nodes.workers()) == 2
    run.end()
    _assert_all_as_planned(run, undisturbed)
    _assert_nothing_is_left(nodes, run)


def test_a_node_is_lost_and_replaced_at_once(
    nodes: Nodes, training: Callable[..., Any], undisturbed: Job
) -> None:
    """A fixed number of workers waits for the node."""
    run = training("train.wait_s=120", workers="2")
    nodes.do("lose", nodes.node_of_a_worker())
    lost = time.monotonic()
    nodes.do("add")
    _recovery_s(run, lost, "a node lost and replaced")
    run.end()
    _assert_all_as_planned(run, undisturbed)
    _assert_nothing_is_left(nodes, run)


def test_a_node_will_be_taken_away(nodes: Nodes, training: Callable[..., Any], undisturbed: Job) -> None:
    """A spot machine's notice: training saves, moves, and repeats no step."""
    run = training()
    node = nodes.node_of_a_worker()
    noticed = time.monotonic()
    nodes.drain(node, seconds=60)
    run.until_it_said("a node of the cluster will be taken away: training has saved and moves")
    _recovery_s(run, noticed, "a node that will be taken away")
    assert node not in nodes.workers().values()
    run.end()
    assert "a worker died" not in run.said
    assert all(len(rows) == len(set(rows)) for rows in run.trained().values())
    _assert_all_as_planned(run, undisturbed)
    _assert_nothing_is_left(nodes, run)


def test_the_command_is_killed_and_given_again(
    nodes: Nodes, training: Callable[..., Any], undisturbed: Job, drive: Drives
) -> None:
    run = training()
    run.kill([p for p in run.processes() if "driver.py" in " ".join(p.cmdline())])
    again = drive(run.job, before=nodes.command)
    again.end()
    _assert_all_as_planned(again, undisturbed, before=run)
    _assert_nothing_is_left(nodes, again)


@pytest.mark.skipif(
    not os.environ.get("RAY_CXR_SOAK"), reason="takes half an hour; RAY_CXR_SOAK=1 asks for it"
)
@pytest.mark.timeout(7200)
def test_twenty_kills_at_random_moments(
    nodes: Nodes, nih_job: Callable[..., Job], nih_dataset: str, drive: Drives
) -> None:
    """Workers and whole nodes; another node comes for each that is lost. Nothing is lost."""
    settings = [*SETTINGS, "train.epochs=60", "train.max_failures=40", "train.workers=[1, 2]"]
    other = nih_job(f"dataset={nih_dataset}", *settings, "train.workers=0")
    drive(other).end()
    nodes.have(2)
    run, draw = drive(nih_job(f"dataset={nih_dataset}", *settings), before=nodes.command), random.Random(9)
    for kill in range(20):
        run.until(nodes.workers)
        run.wait(draw.uniform(0, 12))
        run.until(nodes.workers)
        worker, node = draw.choice(list(nodes.workers().items()))
        if node != "0" and draw.random() < 0.4:
            nodes.do("lose", node)
            nodes.do("add")
            what = "a node"
        else:
            worker.kill()
            what = "a worker"
        _recovery_s(run, time.monotonic(), f"{kill + 1} of 20, {what}")
    run.end()
    _assert_all_as_planned(run, other)
    _assert_nothing_is_left(nodes, run)
