"""The same training on any number of workers: films, pixels, losses and weights, over several epochs. gloo processes, no Ray.

In float64, where rounding is out of the way, weights agree to 1e-11. In float32 a network with BatchNorm amplifies rounding, so
that only one without it keeps to a tolerance (1e-5 of the loss), which docs/training.md has.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from ray_cxr.config import to_yaml
from ray_cxr.job import Job
from ray_cxr.model.saved import load_model
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.stream import Stream

SCRIPT = Path(__file__).parent / "gloo_workers.py"
SYNCED = ("model.backbone=test_resnet", "train.sync_batchnorm=true")
# 557 films: the last step of an epoch holds two, which come in two micro-batches and leave a rank of three without films.
UNEVEN = (
    "stream.batch_size=111",
    "stream.image_px=48",
    "train.accumulate=2",
    "train.ema_decay=0.9",
    "train.epochs=1",
)

Run = tuple[int, Job]
"""Workers, and their job."""


def _train(folder: Path, *runs: Run, double: bool = True) -> None:
    spec = []
    for workers, job in runs:
        path = folder / f"{Path(job.out).parent.name}.yaml"
        path.write_text(to_yaml(job))
        spec.append({"job": str(path), "workers": workers, "double": double})
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, str(SCRIPT), str(folder / "spec.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr


def _history(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(job.out) / "history.jsonl").read_text().splitlines()]


def _seen(job: Job) -> dict[tuple[int, int], list[list[Any]]]:
    """Row and hash of the pixels of each film, by epoch and step, over all ranks."""
    found: dict[tuple[int, int], list[list[Any]]] = {}
    for path in sorted(Path(job.out).glob("seen-*.json")):
        for epoch, step, films in json.loads(path.read_text()):
            found.setdefault((epoch, step), []).extend(films)
    return {place: sorted(films) for place, films in found.items()}


def _planned(job: Job) -> dict[tuple[int, int], list[int]]:
    stream = Stream.open(open_dataset(job.dataset, ("train",)), "train", job.stream, seed=job.seed)
    plans = [stream.plan(e) for e in range(1, job.train.epochs + 1)]
    return {
        (plan.epoch, step): sorted(stream.layout.rows[plan.step_positions(step)].tolist())
        for plan in plans
        for step in range(plan.steps)
    }


def _weights(job: Job, file: str = "model") -> dict[str, np.ndarray[Any, Any]]:
    """Of the newest checkpoint."""
    newest = sorted((Path(job.out) / "checkpoints").iterdir())[-1]
    return load_file(newest / f"{file}.safetensors")


def _furthest(job: Job, other: Job, file: str = "model") -> float:
    ours, theirs = _weights(job, file), _weights(other, file)
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)


def _scored_once(job: Job) -> bool:
    """Each validation film is in the predictions once, in the order of the index."""
    dataset = open_dataset(job.dataset, ())
    expected = dataset.index.loc[dataset.rows("validation"), "image_id"].tolist()
    scored = pd.read_parquet(Path(job.out) / "predictions-validation.parquet")["image_id"].tolist()
    return bool(scored == expected)


def _assert_same(job: Job, other: Job, *, loss: float, weights: float) -> None:
    """The same films and pixels in each step; losses to a part of themselves, weights in all."""
    assert _seen(job) == _seen(other)
    for ours, theirs in zip(_history(job), _history(other), strict=True):
        assert ours["plan"] == theirs["plan"]
        for name in ("train_loss", "validation_loss", "mean_auroc"):
            assert ours[name] == pytest.approx(theirs[name], rel=loss), name
    assert _furthest(job, other) < weights
    assert _scored_once(job)


@pytest.fixture(scope="module")
def job_of(nih_job: Callable[..., Job], nih_dataset: str) -> Callable[..., Job]:
    return lambda *settings: nih_job(f"dataset={nih_dataset}", *settings)


@pytest.fixture(scope="module")
def synced(job_of: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Job]:
    """A network with BatchNorm over all workers, by their number."""
    jobs = {workers: job_of(*SYNCED, *UNEVEN) for workers in (1, 3)}
    _train(tmp_path_factory.mktemp("synced"), *jobs.items())
    return jobs


def test_batch_norm_over_all_workers_trains_as_one(synced: dict[int, Job]) -> None:
    assert {place: [row for row, _ in films] for place, films in _seen(synced[1]).items()} == _planned(
        synced[1]
    )
    ranks = [json.loads((Path(synced[3].out) / f"seen-{rank}.json").read_text()) for rank in range(3)]
    assert sorted(len(films[-1][2]) for films in ranks) == [0, 1, 1], "no rank is left without films"
    _assert_same(synced[3], synced[1], loss=1e-7, weights=1e-11)
    assert _furthest(synced[3], synced[1], "average") < 1e-11


def test_what_was_trained_so_is_a_plain_network(synced: dict[int, Job]) -> None:
    model, card = load_model(Folder(synced[3].out) / "best")
    assert card.backbone == "test_resnet"
    assert {type(m).__name__ for m in model.network.modules() if "Norm" in type(m).__name__} == {
        "BatchNorm2d"
    }
    kept = load_file(Path(synced[3].out) / "best/model.safetensors")
    assert list(kept) == list(load_file(Path(synced[1].out) / "best/model.safetensors"))
    assert float(kept["bn1.num_batches_tracked"]) > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_three_epochs_on_one_two_and_three_workers(
    job_of: Callable[..., Job], tmp_path: Path, accumulate: int
) -> None:
    settings = ("train.epochs=3", f"train.accumulate={accumulate}")
    runs = [(workers, job_of(*SYNCED, *settings)) for workers in (1, 2, 3)]
    each_its_own = (2, job_of(SYNCED[0], *settings))
    _train(tmp_path, *runs, each_its_own)
    for _, job in runs[1:]:
        _assert_same(job, runs[0][1], loss=1e-7, weights=1e-11)
    assert _seen(each_its_own[1]) == _seen(runs[0][1])
    assert _furthest(each_its_own[1], runs[0][1]) > 0.1, "the films of the other worker make no difference"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "network",
    [(), ("model.backbone=test_resnet", "model.freeze_depth=head")],
    ids=["no BatchNorm", "frozen BatchNorm"],
)
def test_without_batch_norm_workers_and_micro_batches_change_rounding_only(
    job_of: Callable[..., Job], tmp_path: Path, network: tuple[str, ...]
) -> None:
    """In float32, as jobs train."""
    runs = [
        (workers, job_of("train.epochs=4", f"train.accumulate={accumulate}", *network))
        for accumulate in (1, 3)
        for workers in (1, 2, 3)
    ]
    _train(tmp_path, *runs, double=False)
    for _, job in runs[1:]:
        _assert_same(job, runs[0][1], loss=1e-5, weights=1e-5)
