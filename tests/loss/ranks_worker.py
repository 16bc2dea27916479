"""The ranks of `test_ranks.py`: the trainer's own backward pass over each rank's films.

ranks_worker.py FOLDER: four gloo ranks, forked once the imports are done, so that these are paid for once. For worlds
of 1, 2 and 4 of them and 1 or 3 micro-batches rank 0 writes the gradient.
"""

import multiprocessing
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ray_cxr.loss.multitask import build_loss
from ray_cxr.loss.settings import LossSettings
from ray_cxr.stream.collate import Batch
from ray_cxr.train.epoch import backward
from ray_cxr.train.place import Place

FILMS, FINDINGS, RANKS = 22, ["Mass", "Edema", "Hernia"], 4


def labels() -> np.ndarray:
    """Edema is labelled in the first six films only, Hernia nowhere after the thirteenth: ranks miss them unevenly."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 2, (FILMS, 3)).astype(np.float32)
    found[6:, 1] = found[13:, 2] = found[::5, 0] = np.nan
    return found


def gradient(
    rank: int, world: int, accumulate: int, kind: str, group: dist.ProcessGroup | None
) -> torch.Tensor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3, dtype=torch.float64))
    model.forward_ = model.forward
    model.forward = lambda pixels: model.forward_(pixels.double() / 255)  # type: ignore[method-assign]
    rows = np.array_split(np.arange(FILMS), [3, 9, 14])[rank] if world == 4 else np.array_split(
        np.arange(FILMS), world
    )[rank]  # fmt: skip
    pixels = np.random.default_rng(1).integers(0, 256, (FILMS, 4, 4), dtype=np.uint8)
    session = SimpleNamespace(
        worker=SimpleNamespace(device=torch.device("cpu"), world=SimpleNamespace(size=world), place=Place()),
        recipe=SimpleNamespace(
            train=SimpleNamespace(accumulate=accumulate, precision="fp32"), stream=SimpleNamespace(image_px=4)
        ),
        labels=labels(),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        ddp=DistributedDataParallel(model, process_group=group) if world > 1 else model,
        synced_norms=False,
        loss=build_loss(LossSettings(kind=kind), labels(), FINDINGS),
    )
    labelled = torch.from_numpy((~np.isnan(labels())).sum(0))
    parts = np.array_split(np.arange(len(rows)), accumulate)
    backward(session, Batch(pixels[rows], rows), parts, labelled)
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def run_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=RANKS)
    pair = dist.new_group([0, 1])
    found = {}
    for kind, world, accumulate in product(("weighted_bce", "focal", "asymmetric"), (1, 2, 4), (1, 3)):
        if rank < world:
            group = {1: None, 2: pair, 4: dist.group.WORLD}[world]
            found[f"{kind} {world} {accumulate}"] = gradient(rank, world, accumulate, kind, group)
    if rank == 0:
        torch.save(found, folder / "out.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run_rank, args=(rank, Path(sys.argv[1]))) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in ranks))
