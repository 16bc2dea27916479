"""The run directory: what is in it, and whether a job may go on in it.

Writes: `config.yaml`, `environment.json`, `history.jsonl`, `best/`, `predictions-validation.parquet`, `metrics.json`.
"""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from ray_cxr import __version__
from ray_cxr.axes import Labels, Rows
from ray_cxr.config import dotted
from ray_cxr.errors import InputError, RefusedError
from ray_cxr.metrics import metrics_by_finding
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.train.checkpoint import FORMAT, foreign_formats, newest_state
from ray_cxr.train.settings import Recipe

MAY_DIFFER = {
    "out",
    "dataset",
    "stream.cache",
    "train.workers",
    "train.wait_s",
    "train.grow_after_s",
    "train.gpu",
    "train.max_failures",
    "train.checkpoint_every_steps",
    "train.tensorboard",
    "train.mlflow",
    "train.mlflow_experiment",
}
"""Settings that change where and how fast, never what: a run may go on with others."""
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "ray",
    "numpy",
    "opencv-python-headless",
    "imagecodecs",
    "pyarrow",
)


LOCK = ".train.lock"
"""Held in the run directory by the command that trains there."""


def check_place(run: Folder) -> None:
    """Raises InputError where a run directory cannot be written, or holds something else."""
    others = [name for name in run.names() if name != LOCK]
    if others and not (run.exists("config.yaml") or run.exists("checkpoints")):
        raise InputError(
            f"out: {run} holds something that is no run of ray-cxr; give a new or empty directory."
        )
    run.check_writable()


def claim_run(recipe: Recipe, config_yaml: str, dataset: Dataset) -> bool:
    """Writes `config.yaml`, or checks that this job is the one whose checkpoints are there; True if it goes on.

    Raises RefusedError (exit 3) that names what differs.
    """
    run = Folder(recipe.out)
    check_place(run)
    state = newest_state(run / "checkpoints")
    if state is not None:
        _refuse_other_job(run, recipe, state.fingerprint, dataset)
    elif formats := foreign_formats(run / "checkpoints"):
        raise RefusedError(
            f"out: {run} holds checkpoints of another version of ray_cxr (format {', '.join(map(str, formats))}, this one "
            f"reads {FORMAT}), and training anew would remove them; go on with that version, or give another out."
        )
    run.write_bytes("config.yaml", config_yaml.encode())
    return state is not None


def check_kept(run: Folder, keep: str) -> None:
    """Raises RefusedError where the model of the epoch that was kept is not there any more, as after a disk's mistake.

    Asked at a training's end: until then a better epoch, or one that is trained again, may still take its place.
    """
    from ray_cxr.model.saved import read_saved

    state = newest_state(run / "checkpoints")
    if state is None or not state.best_epoch:
        return
    epoch = state.epoch if keep == "last" else state.best_epoch
    what = f"out: {run} has lost what it kept of epoch {epoch}"
    remedy = "restore best/ from a copy, or train again with another out"
    for name in ("metrics.json", "predictions-validation.parquet"):
        if not run.exists(name):
            raise RefusedError(f"{what} ({name} is missing); {remedy}.")
    try:
        card, _, _ = read_saved(run / "best")
    except (InputError, RefusedError) as error:
        raise RefusedError(f"{what} ({error.message.rstrip('.')}); {remedy}.") from None
    if card.epoch != epoch:
        raise RefusedError(f"{what} (best/ holds epoch {card.epoch}); {remedy}.")


def _refuse_other_job(run: Folder, recipe: Recipe, fingerprint: str, dataset: Dataset) -> None:
    stored = yaml.safe_load(run.read_bytes("config.yaml")) if run.exists("config.yaml") else {}
    # A setting that came with a later version was at its default before. Without a config.yaml nothing is known.
    before = dotted(Recipe().model_dump(mode="json")) if stored else {}
    before |= dotted({name: value for name, value in stored.items() if name in Recipe.model_fields})
    now = dotted(recipe.model_dump(mode="json", include=set(Recipe.model_fields)))
    names = [n for n in now | before if n not in MAY_DIFFER and before.get(n) != now.get(n)]
    differences = [f"{n} was {before.get(n)!r}, now {now.get(n)!r}" for n in names]
    if fingerprint != dataset.fingerprint:
        differences.append("the data set has another fingerprint (other films, labels or split)")
    if differences:
        raise RefusedError(
            f"out: {run} holds a run of another job ({'; '.join(differences)}); "
            "give another out, or the settings that it was started with."
        )


def environment(world_size: int, device: torch.device, threads: int) -> dict[str, Any]:
    """Versions and hardware, without names of hosts or users."""
    return {
        "ray_cxr": __version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "workers": world_size,
        "threads_per_worker": threads,
    }


def write_history(run: Folder, history: Sequence[dict[str, Any]]) -> None:
    """`history.jsonl`, a line an epoch. Written whole, so that a resumed run holds no line twice."""
    run.write_bytes(
        "history.jsonl", "".join(json.dumps(line, allow_nan=False) + "\n" for line in history).encode()
    )


def predictions_frame(
    dataset: Dataset, rows: Rows, findings: Sequence[str], scores: NDArray[np.float64], labels: Labels
) -> pd.DataFrame:
    """`image_id`, `patient_id`, `prob_<finding>`, `label_<finding>`: a row per film, in index order."""
    films = dataset.index.iloc[rows]
    columns: dict[str, Any] = {
        "image_id": films["image_id"].to_numpy(),
        "patient_id": films["patient_id"].to_numpy(),
    }
    columns |= {f"prob_{f}": scores[:, i] for i, f in enumerate(findings)}
    columns |= {f"label_{f}": labels[:, i] for i, f in enumerate(findings)}
    return pd.DataFrame(columns)


def write_predictions(run: Folder, name: str, frame: pd.DataFrame) -> None:
    """Writes a predictions table as Parquet."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    run.write_bytes(name, buffer.getvalue())


def split_metrics(
    split: str, dataset: Dataset, labels: Labels, scores: NDArray[np.float64], findings: Sequence[str]
) -> dict[str, Any]:
    """The contents of `metrics.json` for a split."""
    return {
        "split": split,
        **metrics_by_finding(labels, scores, findings),
        "protocol": dataset.manifest["protocol"],
        "leak": dataset.manifest["leak_check"],
        "fingerprint": dataset.fingerprint,
    }
