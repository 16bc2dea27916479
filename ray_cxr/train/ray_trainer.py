"""Training with workers: Ray Train's TorchTrainer runs `loop.train` in each, under DDP.

The only module that knows TorchTrainer. Checkpoints do not go through `ray.train.report`, which waits for the
controller's poll: rank 0 writes them itself, and a training that is started again finds them in the run directory.
"""

from __future__ import annotations

import gc
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import get_env_vars_to_propagate

from ray_cxr.cores import usable_cores
from ray_cxr.errors import RayCxrError
from ray_cxr.ray_session import is_own_ray
from ray_cxr.storage import Folder
from ray_cxr.stream.plan import World
from ray_cxr.stream.ray_loader import ray_tables, start_readers
from ray_cxr.train.heartbeat import heartbeat, telling_of_stalls
from ray_cxr.train.log import run_id
from ray_cxr.train.progress import MovedError, ProgressFile
from ray_cxr.train.rendezvous import rendezvous
from ray_cxr.train.room import cluster_nodes, moving, room
from ray_cxr.train.settings import Recipe, TrainSettings
from ray_cxr.train.sizing import Needs, most_by_itself
from ray_cxr.train.watch import Watch
from ray_cxr.train.worker import Worker


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """Leaves Ctrl-C to Python. Ray's handler ends with exit code 0, and outlives the training that it was made for."""

    def _register_sigint_handler(self, controller: Any) -> None:
        pass

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [c for c in callbacks if type(c) not in unneeded_callbacks()]


def unneeded_callbacks() -> set[type]:
    """Callbacks of Ray Train whose actors cost a start 3 s of CPU each.

    One hands out Ray Data's data sets, of which a worker of ours makes its own. One removes the placement group of a controller
    that was killed, which a Ray that ends with this process needs nobody for.
    """
    unneeded: set[type] = {DatasetsCallback}
    ends_with_us = is_own_ray() and ray.get_runtime_context().get_actor_id() is None
    return unneeded | {PlacementGroupCleanerCallback} if ends_with_us else unneeded


def start_readers_early() -> None:
    """In the background, on a Ray of this machine: one of its cores would wait while Ray Train's controller starts."""
    if is_own_ray():
        threading.Thread(target=_start_readers_for_workers, daemon=True, name="start-readers").start()


def _start_readers_for_workers() -> None:
    # What this raises, Ray being ended meanwhile or not, the training meets and tells as well.
    with suppress(Exception):
        start_readers({"env_vars": get_env_vars_to_propagate()})


def fit_with_ray(recipe: Recipe, show: Callable[[dict[str, Any]], None], threads: int | None = None) -> None:
    """Runs the training to its end, starting it again after a worker's death. Paths must be absolute.

    threads: of each worker; None: as many as its node has cores for it where no other training runs.
    """
    run, died, train = Folder(recipe.out), 0, recipe.train
    while True:
        # Looked at anew each time: a node may be gone, or there.
        needs = _needs(recipe)
        try:
            with (
                room(needs, train.wait_s, show) as workers,
                moving(run, needs, workers, train.wait_s, train.grow_after_s),
                telling_of_stalls(run_id(run), show),
            ):
                return _fit_once(recipe, needs, workers, threads)
        except (ray.train.WorkerGroupError, ray.train.ControllerError) as error:
            ours = [e for e in map(_cause, _failures(error)) if isinstance(e, RayCxrError)]
            # A mistake of the user's would come again with every attempt: it ends the training at once.
            if ours and not isinstance(ours[0], MovedError):
                raise ours[0] from None
            if ours:
                text = f"{ours[0].message}: training has saved and moves"
            elif died == train.max_failures:
                raise _worn_out(died + 1, error) from error
            else:
                died += 1
                text = f"{_what_died(error)}; training is started again from the last checkpoint ({died} of {train.max_failures})"
            show({"kind": "note", "text": text})
        # Frames that the error has passed hold Ray Train's controller, which holds the workers' places as long as it lives.
        gc.collect()


def _needs(recipe: Recipe) -> Needs:
    """What training asks of the cluster as it is now."""
    fewest, most = recipe.train.range_of_workers
    gpu = wants_gpu(recipe.train, fewest)
    if most is None:
        most = most_by_itself(cluster_nodes(), recipe.stream.batch_size, gpu=gpu)
    return Needs(fewest, gpu, most)


def _cause(failure: Exception) -> Exception:
    """What a worker raised, without what Ray Train puts around it."""
    cause: Exception = getattr(failure, "_base_exc", failure)
    return cause


def _what_died(error: Exception) -> str:
    return "a worker died" if isinstance(error, ray.train.WorkerGroupError) else "the workers did not start"


def _worn_out(times: int, error: ray.train.WorkerGroupError | ray.train.ControllerError) -> RayCxrError:
    reason = str(_failures(error)[0]).strip().splitlines()[-1]
    return RayCxrError(
        f"training failed {times} time{'s' * (times > 1)}, the last time with: {reason}; nothing saved is lost, "
        "the same command goes on from the last checkpoint."
    )


def _failures(error: ray.train.WorkerGroupError | ray.train.ControllerError) -> list[Exception]:
    """Why workers ended, or why they did not start: killed while they did, or no room for them in time."""
    if isinstance(error, ray.train.ControllerError):
        return [error.controller_failure]
    return list(error.worker_failures.values()) or [error]


def _fit_once(recipe: Recipe, needs: Needs, workers: int, threads: int | None) -> None:
    with tempfile.TemporaryDirectory(prefix="ray-cxr-") as scratch:
        # Ray Train insists on a place of its own; of ours only the file goes there in which workers of one machine meet.
        _Trainer(
            _worker_main,
            train_loop_config={
                "recipe": recipe.model_dump(include=set(Recipe.model_fields)),
                "threads": threads,
            },
            torch_config=rendezvous(scratch),
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=needs.gpu, resources_per_worker=needs.bundle
            ),
            # Without the second limit, workers that die while they start are started again without a word and without end.
            run_config=RunConfig(
                name="ray-cxr",
                storage_path=scratch,
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
            ),
        ).fit()


def _worker_main(config: dict[str, Any]) -> None:
    context = ray.train.get_context()
    if context.get_local_rank() == 0:
        # Ray Data's processes start while this one imports timm, which takes as long.
        threading.Thread(target=start_readers, daemon=True, name="start-readers").start()
    from ray_cxr.train.loop import train

    recipe = Recipe.model_validate(config["recipe"])
    world = World(context.get_world_rank(), context.get_world_size())
    report = ProgressFile(Folder(recipe.out)) if world.rank == 0 else (lambda event: None)
    report = Watch(run_id(Folder(recipe.out)), world, report)
    device: torch.device = get_device()
    threads = config["threads"] or _threads(context.get_local_world_size())
    worker = Worker(world, device, threads, ray_tables, report)
    with heartbeat(run_id(Folder(recipe.out)), worker):
        train(recipe, worker)


def _threads(workers_here: int) -> int:
    """Threads of a worker: the cores of its node that Ray may use, shared by the workers on it. Ray would set one."""
    here = ray.get_runtime_context().get_node_id()
    offered = next(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["NodeID"] == here)
    return max(1, min(usable_cores(), int(offered)) // workers_here)


def wants_gpu(train: TrainSettings, workers: int) -> bool:
    """Whether each worker has a GPU, of the Ray that runs."""
    if train.gpu != "auto":
        return train.gpu
    return float(ray.cluster_resources().get("GPU", 0)) >= workers
