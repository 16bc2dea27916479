"""Starts a training: in this process, or with several workers under Ray Train.

Reads and writes what `loop` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ray_cxr.cores import usable_cores
from ray_cxr.errors import InputError
from ray_cxr.metrics import metrics_by_finding
from ray_cxr.model.sources import NAMED_WEIGHTS
from ray_cxr.ray_session import ray_session
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.plan import check_world_size
from ray_cxr.stream.stream import training_films
from ray_cxr.train.batch_norm import synchronise
from ray_cxr.train.findings import trained_findings, training_loss
from ray_cxr.train.loop import train
from ray_cxr.train.progress import ProgressFollower
from ray_cxr.train.run import claim_run
from ray_cxr.train.session import build_classifier
from ray_cxr.train.settings import Recipe
from ray_cxr.train.worker import Worker

Show = Callable[[dict[str, Any]], None]


def check_recipe(recipe: Recipe) -> Dataset:
    """Finds now, in seconds, what would fail later in every worker. Raises InputError, RefusedError."""
    _refuse_memory_of_one_process(recipe)
    dataset = open_dataset(recipe.dataset, ("train", "validation"))
    findings = check_films(recipe, dataset)
    model, _ = build_classifier(recipe, dataset, findings)
    if recipe.train.sync_batchnorm:
        synchronise(model.network, recipe.model.backbone)
    return dataset


def check_films(recipe: Recipe, dataset: Dataset) -> list[str]:
    """What of a recipe depends on the films and their labels; gives the model's findings. Raises InputError."""
    findings, _ = trained_findings(dataset, recipe)
    check_world_size(recipe.train.workers, recipe.stream.batch_size)
    trained, resampling = training_films(dataset, findings, recipe.stream, recipe.seed)
    training_loss(recipe, trained, findings, resampling)
    validation = dataset.labels(findings)[dataset.rows("validation")]
    if metrics_by_finding(validation, np.zeros(validation.shape), findings)["mean_auroc"] is None:
        raise InputError(
            "split.validation: no finding has both positives and negatives among the validation films, so no epoch "
            "could be called the best; prepare the data set with a larger validation split."
        )
    return findings


def _refuse_memory_of_one_process(recipe: Recipe) -> None:
    for name in ("dataset", "out"):
        place = getattr(recipe, name)
        if recipe.train.workers and Folder(place).in_this_process:
            raise InputError(
                f"{name}: {place} exists in this process only, and workers are processes of their own; use "
                "train.workers=0, or another place."
            )


def fit(recipe: Recipe, config_yaml: str, show: Show) -> bool:
    """Trains, or goes on with, the run of `recipe.out`; True if it had been begun before.

    With workers ≥ 1 Ray is started, once all that can be checked before is. `show` gets the events of `Worker.report`.
    """
    dataset = check_recipe(recipe)
    if dataset.leak_warning:
        show({"kind": "note", "text": f"warning: {dataset.leak_warning}"})
    resumed = claim_run(recipe, config_yaml, dataset)
    if recipe.train.workers == 0:
        gpu = torch.cuda.is_available() if recipe.train.gpu == "auto" else recipe.train.gpu
        if gpu and not torch.cuda.is_available():
            raise InputError(
                "train.gpu: got true, but this machine has no usable GPU; use train.gpu=auto or false."
            )
        device = torch.device("cuda" if gpu else "cpu")
        train(recipe, Worker(device=device, threads=usable_cores(), report=show))
        return resumed
    from ray_cxr.train.ray_trainer import fit_with_ray

    workers = recipe.train.workers
    show(
        {
            "kind": "note",
            "text": f"starting Ray and {workers} worker{'s' * (workers > 1)}; takes about 20 seconds",
        }
    )
    with ray_session(workers), ProgressFollower(Folder(recipe.out), show):
        fit_with_ray(_with_absolute_paths(recipe), show)
    return resumed


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """Workers run in a directory of their own, so a relative path would mean another place there."""
    weights = recipe.model.weights
    if weights not in NAMED_WEIGHTS:
        weights = Folder(weights).url
    return recipe.model_copy(
        update={
            "out": Folder(recipe.out).url,
            "dataset": Folder(recipe.dataset).url,
            "model": recipe.model.model_copy(update={"weights": weights}),
        }
    )
