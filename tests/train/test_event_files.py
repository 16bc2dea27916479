"""What TensorBoard's own reader finds in the event files of a training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError
from ray_cxr.job import Job
from ray_cxr.storage import Folder
from ray_cxr.train import epoch, event_files
from ray_cxr.train.event_files import EventFile
from ray_cxr.train.fit import check_recipe, fit

Figures = dict[str, dict[int, float]]


class StoppedError(Exception):
    """In the place of a kill."""


def _read(folder: Path) -> Figures:
    """Name → step → figure. A step that stands there twice is an error."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    found = {}
    for tag in reader.Tags()["scalars"]:
        events = reader.Scalars(tag)
        found[tag] = {event.step: event.value for event in events}
        assert len(found[tag]) == len(events), f"{tag}: a step twice"
    return found


def test_tensorboard_shows_each_step_and_epoch_once_also_of_a_training_that_went_on(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = nih_job(
        f"dataset={nih_dataset}", "train.epochs=2", "train.checkpoint_every_steps=3", "train.tensorboard=true"
    )
    events: list[dict[str, Any]] = []
    train_step = epoch.train_step

    def stopped(s: Any, plan: Any, step: int, batch: Any) -> float | None:
        if (plan.epoch, step) == (2, 5):
            raise StoppedError
        return train_step(s, plan, step, batch)

    with monkeypatch.context() as patch:
        patch.setattr(epoch, "train_step", stopped)
        with pytest.raises(StoppedError):
            fit(job, to_yaml(job), events.append)
    fit(job, to_yaml(job), events.append)

    folder = Path(job.out) / "tensorboard"
    assert len(list(folder.iterdir())) == 2
    found = _read(folder)
    steps = {e["trained_steps"]: e for e in events if e["kind"] == "step"}  # those trained again last
    epochs = {e["step"]: e for e in events if e["kind"] == "epoch"}
    assert len(steps) == max(steps) == max(epochs) and len(epochs) == 2
    assert found["loss/step"] == {n: pytest.approx(e["loss"], rel=1e-6) for n, e in steps.items()}
    assert found["speed/films_per_s"].keys() == found["speed/share_waiting"].keys() == steps.keys()
    for tag, name in (
        ("loss/training", "train_loss"), ("loss/validation", "validation_loss"),
        ("auroc/mean", "mean_auroc"), ("learning_rate", "learning_rate"),
    ):  # fmt: skip
        assert found[tag] == {n: pytest.approx(e[name], rel=1e-6) for n, e in epochs.items()}
    measured = {f for e in epochs.values() for f, value in e["auroc"].items() if value is not None}
    assert {tag.removeprefix("auroc/") for tag in found if tag.startswith("auroc/")} == measured | {"mean"}


def _epoch(number: int) -> dict[str, Any]:
    return {
        "kind": "epoch", "step": 10 * number, "train_loss": 0.5, "validation_loss": 0.25, "learning_rate": 0.125,
        "mean_auroc": 0.75, "auroc": {"Mass": 0.75, "Hernia": None},
    }  # fmt: skip


def test_event_file_at_a_url_is_whole_after_each_epoch(tmp_path: Path) -> None:
    folder = Folder("memory://tensorboard-test")
    events = EventFile(folder)
    for number in (1, 2):
        events.take(_epoch(number))
        (name,) = folder.names()
        (tmp_path / name).write_bytes(folder.read_bytes(name))
        found = _read(tmp_path)
        assert found["auroc/Mass"] == dict.fromkeys(range(10, 10 * number + 1, 10), 0.75)
        assert "auroc/Hernia" not in found
    events.close()


def test_disk_that_is_full_ends_the_figures_and_not_the_training(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventFile, "_begin", full)
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=1", "train.tensorboard=true")
    events: list[dict[str, Any]] = []
    fit(job, to_yaml(job), events.append)
    notes = [e["text"] for e in events if e["kind"] == "note" and "TensorBoard" in e["text"]]
    assert notes == ["no more figures for TensorBoard: No space left on device; training goes on"]
    assert (Path(job.out) / "best/model.safetensors").exists()


def test_extra_that_is_missing_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_files, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"train\.tensorboard: .* pip install 'ray_cxr\[tensorboard\]'"):
        check_recipe(Job.model_validate({"train": {"tensorboard": True}}))
