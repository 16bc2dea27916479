"""The running mean of the weights: what it is, that it is what is kept, and that a stop does not change it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError
from ray_cxr.job import Job, load_job
from ray_cxr.model.build import ChestModel, Normalisation
from ray_cxr.train import epoch, loop
from ray_cxr.train.average import build_average
from ray_cxr.train.fit import fit
from ray_cxr.train.session import Session

SETTINGS = ("train.ema_decay=0.9", "train.epochs=2")


def test_by_hand() -> None:
    """Decay 0.15: step 1 forgets all that was before, step 2 keeps 1/11 of it, all later ones 0.15."""
    network = nn.BatchNorm1d(1)
    model = ChestModel(network, 1, Normalisation("none", (0.0,) * 3, (1.0,) * 3))
    average = build_average(model, 0.15)
    assert average is not None
    expected = [3.0, 3 / 11 + 5 * 10 / 11]
    expected += [0.15 * expected[1] + 0.85 * 7]
    for step, value in enumerate([3.0, 5.0, 7.0], 1):
        with torch.no_grad():
            network.weight.fill_(value)
            network.running_mean.fill_(-value)
            network.num_batches_tracked.fill_(step)
        average.update(model, step=step)
        kept = average.module.network
        assert kept.weight.item() == pytest.approx(expected[step - 1])
        assert kept.running_mean.item() == pytest.approx(-expected[step - 1])
        assert kept.num_batches_tracked.item() == step
    assert network.weight.item() == 7


def test_without_the_setting_there_is_none() -> None:
    model = ChestModel(nn.Linear(1, 1), 1, Normalisation("none", (0.0,) * 3, (1.0,) * 3))
    assert build_average(model, None) is None
    for value in ("0", "1", "-0.5"):
        with pytest.raises(InputError, match=r"train\.ema_decay"):
            load_job(None, [f"train.ema_decay={value}"])


@pytest.fixture(scope="module")
def undisturbed(
    nih_job: Callable[..., Job], nih_dataset: str
) -> tuple[Job, list[dict[str, np.ndarray[Any, Any]]]]:
    """A run with an average, and its weights after each step."""
    weights: list[dict[str, np.ndarray[Any, Any]]] = []
    whole = epoch.train_step

    def remembered(s: Session, *rest: Any) -> float:
        loss = whole(s, *rest)
        weights.append({n: t.double().numpy().copy() for n, t in s.model.network.state_dict().items()})
        return loss

    job = nih_job(f"dataset={nih_dataset}", *SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epoch, "train_step", remembered)
        fit(job, to_yaml(job), lambda event: None)
    return job, weights


def test_the_average_of_all_steps_is_what_is_validated_and_kept(
    undisturbed: tuple[Job, list[dict[str, np.ndarray[Any, Any]]]],
) -> None:
    job, weights = undisturbed
    expected, by_epoch = dict(weights[0]), []
    for done, now in enumerate(weights[1:], 1):
        decay = min(0.9, done / (done + 10))
        expected = {n: decay * expected[n] + (1 - decay) * now[n] for n in now}
        if (done + 1) % (len(weights) // 2) == 0:
            by_epoch.append(expected)
    kept = load_file(Path(job.out) / "best/model.safetensors")
    best = json.loads((Path(job.out) / "best/model.json").read_text())["epoch"]
    last = json.loads((Path(job.out) / "history.jsonl").read_text().splitlines()[-1])
    for name, tensor in kept.items():
        assert tensor == pytest.approx(by_epoch[best - 1][name], abs=1e-5), name
        assert tensor.dtype == np.float32
    assert np.abs(kept["head.fc.weight"] - weights[-1]["head.fc.weight"]).max() > 1e-4
    assert last["step"] == len(weights)


class StoppedError(Exception):
    """In the place of a kill."""


def test_stopped_and_gone_on_equals_never_stopped(
    undisturbed: tuple[Job, list[Any]], nih_job: Callable[..., Job], nih_dataset: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    job = nih_job(f"dataset={nih_dataset}", *SETTINGS)
    whole, stops = loop.train_epoch, [2]

    def stop(session: Session, plan: Any) -> float:
        if stops and plan.epoch == stops[0]:
            stops.clear()
            raise StoppedError
        return whole(session, plan)

    monkeypatch.setattr(loop, "train_epoch", stop)
    with pytest.raises(StoppedError):
        fit(job, to_yaml(job), lambda event: None)
    fit(job, to_yaml(job), lambda event: None)
    for name in ("best/model.safetensors", "metrics.json", "predictions-validation.parquet"):
        assert (Path(job.out) / name).read_bytes() == (Path(undisturbed[0].out) / name).read_bytes()
