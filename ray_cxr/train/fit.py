"""Starts a training: in this process, or with several workers under Ray Train.

Reads and writes what `loop` does. What takes seconds to import is imported while Ray starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ray_cxr.cores import usable_cores
from ray_cxr.errors import InputError
from ray_cxr.ray_session import ray_starting
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.plan import check_world_size
from ray_cxr.train.alone import alone
from ray_cxr.train.log import RunLog
from ray_cxr.train.progress import ProgressFollower
from ray_cxr.train.settings import Recipe

if TYPE_CHECKING:
    import torch

Show = Callable[[dict[str, Any]], None]
R = TypeVar("R", bound=Recipe)


def check_recipe(recipe: Recipe) -> Dataset:
    """Finds now, in seconds, what would fail later in every worker. Raises InputError, RefusedError."""
    dataset = open_for(recipe)
    check_training(recipe, dataset)
    return dataset


def open_for(recipe: Recipe) -> Dataset:
    """The data set: what can be found wrong at once."""
    for name in ("dataset", "out"):
        place = getattr(recipe, name)
        if not recipe.train.in_process and Folder(place).in_this_process:
            raise InputError(
                f"{name}: {place} exists in this process only, and workers are processes of their own; use "
                "train.workers=0, or another place."
            )
    if recipe.train.tensorboard:
        from ray_cxr.train.event_files import check_tensorboard

        check_tensorboard()
    if recipe.train.mlflow is not None:
        from ray_cxr.train.mlflow_run import check_mlflow

        check_mlflow()
    return open_dataset(recipe.dataset, ("train", "validation"), recipe.fold)


def check_training(recipe: Recipe, dataset: Dataset) -> None:
    """What the data set lets be trained, and the model itself."""
    from ray_cxr.train.batch_norm import synchronise
    from ray_cxr.train.session import build_classifier

    findings = check_films(recipe, dataset)
    model, _ = build_classifier(recipe, dataset, findings)
    if recipe.train.sync_batchnorm:
        synchronise(model.network, recipe.model.backbone)


def check_films(recipe: Recipe, dataset: Dataset) -> list[str]:
    """What of a recipe depends on the films and their labels; gives the model's findings. Raises InputError."""
    from ray_cxr.stream.stream import training_films
    from ray_cxr.train.findings import check_judgeable, trained_findings, training_loss

    findings, _ = trained_findings(dataset, recipe)
    fewest, most = recipe.train.range_of_workers
    check_world_size(most or fewest, recipe.stream.batch_size)
    trained, resampling = training_films(dataset, findings, recipe.stream, recipe.seed)
    training_loss(recipe, trained, findings, resampling)
    check_judgeable(dataset.labels(findings)[dataset.rows("validation")], recipe.fold)
    return findings


def fit(recipe: Recipe, config_yaml: str, show: Show) -> bool:
    """Trains, or goes on with, the run of `recipe.out`; True if it had been begun before.

    With workers ≥ 1 Ray starts while the rest is checked. `show` gets the events of `Worker.report`.
    """
    dataset, (fewest, most) = open_for(recipe), recipe.train.range_of_workers
    workers = most or fewest
    if workers:
        check_world_size(workers, recipe.stream.batch_size)
        of_them = f" and {workers} worker{'s' * (workers > 1)}" if fewest == most else ""
        show({"kind": "note", "text": f"starting Ray{of_them}; takes about 20 seconds"})
    with ray_starting(workers) as ray_is_up:
        check_training(recipe, dataset)
        ray_is_up()
        from ray_cxr.train.run import LOCK, check_kept, check_place, claim_run

        run = Folder(recipe.out)
        check_place(run)  # before the lock makes a file in it
        with alone(run, LOCK, f"the run {run}"):
            resumed = claim_run(recipe, config_yaml, dataset)
            with RunLog(run, show) as log:
                if dataset.leak_warning:
                    log({"kind": "note", "text": f"warning: {dataset.leak_warning}"})
                _train(recipe, run, log)
                check_kept(run, recipe.train.keep)
    return resumed


def _train(recipe: Recipe, run: Folder, show: Show) -> None:
    if recipe.train.in_process:
        fit_here(recipe, show)
        return
    from ray_cxr.train.ray_trainer import fit_with_ray, start_readers_early

    start_readers_early()
    with ProgressFollower(run, show):
        fit_with_ray(with_absolute_paths(recipe), show)


def fit_here(recipe: Recipe, show: Show) -> None:
    """Trains in this process, as the only worker. A debugger stops anywhere in it."""
    from ray_cxr.train.loop import train
    from ray_cxr.train.worker import Worker

    train(recipe, Worker(device=_device(recipe), threads=usable_cores(), report=show))


def _device(recipe: Recipe) -> torch.device:
    import torch

    gpu = torch.cuda.is_available() if recipe.train.gpu == "auto" else recipe.train.gpu
    if gpu and not torch.cuda.is_available():
        raise InputError(
            "train.gpu: got true, but this machine has no usable GPU; use train.gpu=auto or false."
        )
    return torch.device("cuda" if gpu else "cpu")


def with_absolute_paths(recipe: R) -> R:
    """Workers run in a directory of their own, so a relative path would mean another place there."""
    from ray_cxr.model.sources import NAMED_WEIGHTS

    weights, train = recipe.model.weights, recipe.train
    if train.mlflow is not None:
        from ray_cxr.train.mlflow_run import absolute_tracking

        train = train.model_copy(update={"mlflow": absolute_tracking(train.mlflow)})
    if weights not in NAMED_WEIGHTS:
        weights = Folder(weights).url
    return recipe.model_copy(
        update={
            "out": Folder(recipe.out).url,
            "dataset": Folder(recipe.dataset).url,
            "model": recipe.model.model_copy(update={"weights": weights}),
            "train": train,
        }
    )
