"""The whole line on real films through the command line: prepare, train with Ray workers, evaluate, predict."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

JOB = """
source: {{kind: nih, images: {data}/nih/images, labels: {data}/nih/Data_Entry_2017_v2020.csv.gz}}
dataset: {here}/dataset
out: {here}/run
shards: {{image_px: 72}}
stream: {{image_px: 64, batch_size: 24}}
model: {{backbone: test_convnext}}
train: {{epochs: 2, workers: 2}}
"""


COMMAND = [sys.executable, "-c", "from ray_cxr.cli.main import main; main()"]
MARK = "RAY_CXR_END_TO_END"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {
    "RAY_AUTH_MODE": "disabled",
    MARK: str(os.getpid()),
}


def ray_cxr(*arguments: str) -> dict[str, Any]:
    """The command's one JSON object; stdout holds nothing else."""
    command = [*COMMAND, *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def job(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("end-to-end")
    path = here / "job.yaml"
    path.write_text(JOB.format(data=shared_data, here=here))
    return path


@pytest.fixture(scope="module")
def prepared(job: Path) -> dict[str, Any]:
    """What `prepare` said of the data set of all these tests."""
    return ray_cxr("prepare", str(job))


@pytest.fixture(scope="module")
def trained(job: Path, prepared: dict[str, Any]) -> dict[str, Any]:
    """What `train` said of the run on two workers that nobody disturbed."""
    return ray_cxr("train", str(job))


def page_before_scripts(run: Path) -> str:
    return (run / "report/index.html").read_text().partition("<script")[0]


def losses(run: Path) -> list[tuple[str, float, float]]:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [(line["plan"], line["train_loss"], line["validation_loss"]) for line in lines]


def own_ray_processes() -> list[int]:
    """Raylets that these tests have started: they inherit the mark in the environment."""
    found = psutil.process_iter(["name", "environ"])
    return [
        p.pid
        for p in found
        if p.info["name"] == "raylet" and (p.info["environ"] or {}).get(MARK) == ENVIRONMENT[MARK]
    ]


def test_from_films_to_a_tested_classifier(
    job: Path, prepared: dict[str, Any], trained: dict[str, Any], shared_data: Path
) -> None:
    here = job.parent

    assert prepared["leak_check"]["shared_patients"] == 0
    assert sum(s["images"] for s in prepared["splits"].values()) == 796

    assert trained["split"] == "validation"
    assert len(losses(here / "run")) == 2

    tested = ray_cxr("evaluate", str(here / "run"))
    assert tested["split"] == "test"
    assert tested["test_openings"] == 1
    assert tested["films"] == prepared["splits"]["test"]["images"]
    assert (here / "run/report/index.html").stat().st_size > 10_000
    assert json.loads((here / "run/metrics.json").read_text())["auroc"] == tested["auroc"]
    assert "data:image/png" not in page_before_scripts(here / "run")
    assert ray_cxr("evaluate", str(here / "run"), "--thumbnails")["test_openings"] == 2
    page = page_before_scripts(here / "run")
    assert "data:image/png" in page
    assert not re.search(r"\d{8}_\d{3}", page), "a film's name, which is its patient's id, is in the report"

    # New films are scored as the test films were: the same file, the same probability.
    expected = pd.read_parquet(here / "run/predictions-test.parquet")
    films = [str(shared_data / "nih/images" / i) for i in expected["image_id"][:5]]
    ray_cxr("predict", str(here / "run"), *films, "--out", str(here / "scores.csv"))
    scores = pd.read_csv(here / "scores.csv")
    assert scores["image_id"].tolist() == expected["image_id"][:5].tolist()
    columns = [c for c in expected if c.startswith("prob_")]
    assert np.allclose(scores[columns], expected[columns][:5], atol=1e-6)

    assert own_ray_processes() == [], "a Ray process was left behind"


@pytest.mark.parametrize("workers", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3))])
def test_no_one_two_and_three_workers_have_the_same_loss_curve(
    job: Path, trained: dict[str, Any], workers: int
) -> None:
    """BatchNorm would see another batch on each worker; this network has none. Tolerance: 1e-5 of the loss."""
    out = job.parent / f"workers-{workers}"
    ray_cxr("train", str(job), f"train.workers={workers}", f"out={out}")
    for (plan, train, validation), other in zip(losses(job.parent / "run"), losses(out), strict=True):
        assert other[0] == plan
        assert other[1] == pytest.approx(train, rel=1e-5)
        assert other[2] == pytest.approx(validation, rel=1e-5)


def start_and_wait_for_the_first_epoch(job: Path, out: Path) -> subprocess.Popen[bytes]:
    arguments = ["train", str(job), f"out={out}"]
    process = subprocess.Popen([*COMMAND, *arguments], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not list((out / "checkpoints").glob("*/complete.json")):
        assert process.poll() is None, "it ended before its first checkpoint"
        time.sleep(0.02)
    return process


def workers_below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [
        p
        for p in psutil.Process(process.pid).children(recursive=True)
        if "RayTrainWorker" in " ".join(p.cmdline())
    ]


@pytest.fixture(scope="module")
def undisturbed(job: Path, trained: dict[str, Any]) -> Path:
    return job.parent / "run"


def same_model(run: Path, other: Path) -> bool:
    return (run / "best/model.safetensors").read_bytes() == (other / "best/model.safetensors").read_bytes()


@pytest.mark.slow  # with a driver that trains by itself: tests/train/test_fit.py
def test_a_killed_driver_started_again_ends_as_undisturbed(job: Path, undisturbed: Path) -> None:
    out = job.parent / "driver-killed"
    process = start_and_wait_for_the_first_epoch(job, out)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=20)
    left = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    # Ray's two agents try for more than a minute to tell the control store, dead as well, that the raylet is gone.
    assert [p for p in left if "agent" not in " ".join(p.cmdline()).lower()] == [], (
        "processes were left behind"
    )
    for agent in left:
        agent.kill()
    assert len(losses(out)) < 2
    ray_cxr("train", str(job), f"out={out}")
    assert losses(out) == losses(undisturbed)
    assert same_model(out, undisturbed)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_run_ends_as_undisturbed(job: Path, undisturbed: Path) -> None:
    out = job.parent / "worker-killed"
    process = start_and_wait_for_the_first_epoch(job, out)
    workers = workers_below(process)
    assert len(workers) == 2
    workers[1].kill()
    assert process.wait(timeout=200) == 0
    assert losses(out) == losses(undisturbed)
    assert same_model(out, undisturbed)
