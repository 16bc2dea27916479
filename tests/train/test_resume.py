"""Going on in the middle of an epoch: no step lost, none twice, and the run ends as if nothing had happened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.nn.functional import dropout

from ray_cxr.config import to_yaml
from ray_cxr.errors import RefusedError
from ray_cxr.job import Job
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.shards.prepare import prepare
from ray_cxr.storage import Folder
from ray_cxr.stream.collate import Batch
from ray_cxr.stream.plan import EpochPlan
from ray_cxr.stream.stream import Stream
from ray_cxr.train import epoch
from ray_cxr.train.checkpoint import newest_state
from ray_cxr.train.fit import fit
from ray_cxr.train.session import Session

EVERY = 3
SETTINGS = ("train.epochs=3", f"train.checkpoint_every_steps={EVERY}", "train.ema_decay=0.9")
FILES = ("best/model.safetensors", "predictions-validation.parquet", "metrics.json")

Trained = list[tuple[int, int, list[int]]]
"""Epoch, step and index rows, in the order of training."""


class StoppedError(Exception):
    """In the place of a kill."""


def _run(job: Job, stop_at: tuple[int, int] | None = None) -> tuple[Trained, list[dict[str, Any]]]:
    """Trains here, up to before a step of an epoch where one is given."""
    trained, events, whole, forward = Trained(), [], epoch.train_step, epoch.forward

    def recorded(s: Session, plan: EpochPlan, step: int, batch: Batch) -> float:
        if (plan.epoch, step) == stop_at:
            raise StoppedError
        trained.append((plan.epoch, step, batch.rows.tolist()))
        return whole(s, plan, step, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epoch, "train_step", recorded)
        # None of timm's networks draws unless it is told to; with this every step does.
        patch.setattr(
            epoch, "forward", lambda s, model, films: forward(s, model, dropout(films.float(), 0.1))
        )
        if stop_at is None:
            fit(job, to_yaml(job), events.append)
        else:
            with pytest.raises(StoppedError):
                fit(job, to_yaml(job), events.append)
    return trained, events


def _history(out: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (Path(out) / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


def _planned(job: Job) -> Trained:
    stream = Stream.open(open_dataset(job.dataset, ("train",)), "train", job.stream, seed=job.seed)
    plans = [stream.plan(e) for e in range(1, job.train.epochs + 1)]
    return [
        (plan.epoch, step, stream.layout.rows[plan.step_positions(step)].tolist())
        for plan in plans
        for step in range(plan.steps)
    ]


@pytest.fixture(scope="module")
def undisturbed(nih_job: Callable[..., Job], nih_dataset: str) -> Job:
    job = nih_job(f"dataset={nih_dataset}", *SETTINGS)
    trained, _ = _run(job)
    assert trained == _planned(job)
    return job


@pytest.mark.parametrize("step", [pytest.param(EVERY, marks=pytest.mark.slow), 2 * EVERY + 1])
def test_stopped_inside_an_epoch_and_gone_on_ends_as_undisturbed(
    undisturbed: Job, nih_job: Callable[..., Job], step: int
) -> None:
    job = nih_job(f"dataset={undisturbed.dataset}", *SETTINGS)
    before, _ = _run(job, stop_at=(2, step))
    after, _ = _run(job)
    state = step - step % EVERY
    kept = before[: len(before) - (step - state)]
    assert kept[-1][:2] == (2, state - 1) and after[0][:2] == (2, state)
    assert kept + after == _planned(job), "a step lost, or trained twice"
    assert _history(job.out) == _history(undisturbed.out)
    for name in FILES:
        assert (Path(job.out) / name).read_bytes() == (Path(undisturbed.out) / name).read_bytes()


def test_sums_of_an_epoch_survive(undisturbed: Job, nih_job: Callable[..., Job]) -> None:
    job = nih_job(f"dataset={undisturbed.dataset}", *SETTINGS)
    _run(job, stop_at=(1, EVERY))
    state = newest_state(Folder(job.out) / "checkpoints")
    assert state is not None and (state.epoch, state.step, state.so_far.steps) == (0, EVERY, EVERY)
    _, events = _run(job)
    losses = [e["loss"] for e in events if e["kind"] == "step" and e["epoch"] == 1]
    line = next(e for e in events if e["kind"] == "epoch")
    total = line["train_loss"] * (EVERY + len(losses))
    assert total == pytest.approx(state.so_far.loss_sum + sum(losses))
    assert line["seconds"]["train"] > state.so_far.train_s > 0
    assert line["films"] == _history(undisturbed.out)[0]["films"]


def test_only_the_newest_are_kept_and_another_interval_may_go_on(
    undisturbed: Job, nih_job: Callable[..., Job]
) -> None:
    names = Folder(undisturbed.out + "/checkpoints").names()
    assert len([n for n in names if n.endswith("-within")]) == 2
    assert len([n for n in names if not n.endswith("-within")]) == 2
    job = nih_job(
        f"dataset={undisturbed.dataset}", f"out={undisturbed.out}", *SETTINGS, "train.checkpoint_every_steps=null"
    )  # fmt: skip
    assert _run(job)[0] == []


def test_data_set_in_another_order_of_films_is_refused(
    undisturbed: Job, nih_job: Callable[..., Job], silent: Any
) -> None:
    """The same films, labels and split in row groups of another size: the fingerprint cannot tell."""
    job = nih_job("shards.rows_per_group=24", *SETTINGS)
    prepare(job, silent)
    fingerprints = [open_dataset(j.dataset, ()).fingerprint for j in (undisturbed, job)]
    assert fingerprints[0] == fingerprints[1]
    begun = nih_job(f"dataset={undisturbed.dataset}", *SETTINGS)
    _run(begun, stop_at=(1, EVERY + 1))
    moved = nih_job(f"dataset={job.dataset}", f"out={begun.out}", *SETTINGS)
    with pytest.raises(RefusedError, match="dataset: .* epoch 1 would now take them in another order"):
        _run(moved)
    assert _run(begun)[0][0][:2] == (1, EVERY)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("workers", "then"), [(0, 0), (2, 2), (2, 0), (0, 2)])
def test_killed_inside_epoch_2_and_started_again(
    nih_job: Callable[..., Job], nih_dataset: str, drive: Callable[..., Any], workers: int, then: int
) -> None:
    """SIGKILL of all at once. With as many workers all is the same, with others to the 1e-5 that holds between their numbers."""
    settings = (f"dataset={nih_dataset}", *SETTINGS)
    straight, job = (nih_job(*settings, f"train.workers={workers}") for _ in range(2))
    drive(straight).end()
    before = drive(job)

    def saved_in_epoch_2() -> bool:
        state = newest_state(Folder(job.out) / "checkpoints")
        return state is not None and state.epoch == 1 and state.so_far.steps > 0

    before.until(saved_in_epoch_2)
    before.kill(before.processes())
    state = newest_state(Folder(job.out) / "checkpoints")
    assert state is not None and state.epoch == 1 and state.so_far.steps
    after = drive(job.model_copy(update={"train": job.train.model_copy(update={"workers": then})}))
    after.end()

    saved = (2, state.so_far.steps)
    kept = {place: rows for place, rows in before.trained().items() if place < saved}
    assert min(after.trained()) == saved
    assert not kept.keys() & after.trained().keys()
    planned = {(e, g): sorted(rows) for e, g, rows in _planned(job)}
    assert kept | after.trained() == planned, "a step lost, or with other films"
    tolerance = 1e-6 if workers == then else 1e-5
    for ours, theirs in zip(_history(job.out), _history(straight.out), strict=True):
        assert ours["plan"] == theirs["plan"] and ours["films"] == theirs["films"]
        for name in ("train_loss", "validation_loss", "mean_auroc"):
            assert ours[name] == pytest.approx(theirs[name], rel=tolerance), name
