"""What benchmarks/train.py measures, each in a process of its own, which counts its steps in a file.

    python benchmarks/train_loops.py WAY DIR FILMS THREADS COUNT

All train the same network on the same films with the same batch, augmentation, loss, optimizer and threads. The two peers read
the films as 256-px PNG files by torch's DataLoader, decode them with OpenCV and augment them with the one warp and look-up table
of `ray_cxr.stream.augment`, so that what differs is the loop and the way of the films to it.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ray_cxr.films.codec import decode
from ray_cxr.job import Job, load_job
from ray_cxr.model.build import ChestModel, build_model, resolve_normalisation
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.stream.augment import draw_augmentation, warp, warps
from ray_cxr.stream.layout import split_layout
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.read import read_of

BACKBONE, IMAGE_PX, STORED_PX, BATCH, EPOCHS = "regnetx_002", 128, 256, 32, 4


def job(work: Path, films: int, workers: int, out: str) -> Job:
    """Drawn films, two to a patient or so; a validation set just large enough to be one."""
    return load_job(
        None,
        [
            "source.kind=phantom", f"source.patients={films // 2}", f"dataset={work / f'dataset-{films}'}", f"out={work / out}",
            f"shards.image_px={STORED_PX}", "split.test=40", "split.validation=120", "split.folds=null",
            f"stream.image_px={IMAGE_PX}", f"stream.batch_size={BATCH}", "stream.normalisation=dataset",
            f"model.backbone={BACKBONE}", "model.weights=none", f"train.epochs={EPOCHS}", f"train.workers={workers}",
        ],
    )  # fmt: skip


def export_films(work: Path, films: int) -> None:
    """The training films as PNG files with a table of labels, for the peers."""
    folder = work / f"png-{films}"
    if (folder / "labels.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(job(work, films, 0, "run").dataset, ("train",))
    layout = split_layout(dataset.index, "train")
    number = 0
    for table in local_tables(dataset.folder, [[read_of(layout, np.arange(len(layout.groups)))]]):
        for film in table["film"]:
            cv2.imwrite(str(folder / f"{number:06d}.png"), decode(memoryview(film.as_py()), dataset.codec))
            number += 1
    assert number == layout.films
    labels = pd.DataFrame(dataset.labels(dataset.findings)[layout.rows], columns=dataset.findings)
    labels.to_parquet(folder / "labels.parquet")


class Films(Dataset[tuple[Tensor, Tensor]]):
    """An augmented film and its labels; read in the loader's processes."""

    def __init__(self, folder: Path) -> None:
        cv2.setNumThreads(0)
        self.paths = sorted(str(p) for p in folder.glob("*.png"))
        self.labels = torch.from_numpy(
            pd.read_parquet(folder / "labels.parquet").to_numpy(np.float32, copy=True)
        )
        numbers = np.arange(len(self.paths))
        self.warps = warps(draw_augmentation(0, 1, numbers, numbers * 0), STORED_PX, IMAGE_PX)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        film = cv2.imread(self.paths[number], cv2.IMREAD_GRAYSCALE)
        return torch.from_numpy(warp(film, self.warps, number)), self.labels[number]


def loader(work: Path, films: int, threads: int) -> DataLoader[tuple[Tensor, Tensor]]:
    data = Films(work / f"png-{films}")
    return DataLoader(data, BATCH, shuffle=True, num_workers=threads, persistent_workers=True)


def model_of(work: Path, films: int) -> ChestModel:
    dataset = open_dataset(job(work, films, 0, "run").dataset, ("train",))
    norm = resolve_normalisation("dataset", BACKBONE, dataset.manifest["pixel_statistics"])
    model = build_model(BACKBONE, len(dataset.findings), IMAGE_PX, norm)
    model.network.to(memory_format=torch.channels_last)
    return model


def weighted_loss(labels: Tensor) -> nn.Module:
    """Positives weigh as much as negatives in sum, per finding."""
    positives = labels.sum(0)
    return nn.BCEWithLogitsLoss(pos_weight=(len(labels) - positives) / positives.clamp(min=1))


def counter(path: str) -> Callable[[], None]:
    """Counts up in the first eight bytes of a file, which another process may read at any time."""
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 8)

    def count() -> None:
        struct.pack_into("q", memory, 0, struct.unpack_from("q", memory)[0] + 1)

    return count


def by_hand(work: Path, films: int, threads: int, count: Callable[[], None]) -> None:
    """The loop that one writes by hand."""
    torch.set_num_threads(threads)
    model, batches = model_of(work, films), loader(work, films, threads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=EPOCHS * len(batches))
    loss_of = weighted_loss(batches.dataset.labels)  # type: ignore[attr-defined]
    model.train()
    for _ in range(EPOCHS):
        total = 0.0
        for pixels, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(pixels), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
            count()


def by_lightning(work: Path, films: int, threads: int, count: Callable[[], None]) -> None:
    """Lightning's Trainer around the same."""
    import lightning

    torch.set_num_threads(threads)
    batches = loader(work, films, threads)
    loss_of = weighted_loss(batches.dataset.labels)  # type: ignore[attr-defined]

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model_of(work, films).train()

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            loss: Tensor = loss_of(self.model(batch[0]), batch[1])
            self.log("train_loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> dict[str, Any]:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=EPOCHS * len(batches))
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": schedule, "interval": "step"},
            }

        def on_train_batch_end(self, *of_the_step: Any) -> None:
            count()

    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), batches)


def ours(work: Path, films: int, workers: int, count: str) -> None:
    """`train` itself, with all that it does beside the steps."""
    from ray_cxr.config import to_yaml
    from ray_cxr.train import fit

    if workers == 0:
        count_steps(count)
    else:
        with_paths = fit.with_absolute_paths

        def later(recipe: Any) -> Any:  # the trainer's module is imported by now
            from ray_cxr.train import ray_trainer

            trainer = ray_trainer._Trainer

            def make(function: Any, *, train_loop_config: dict[str, Any], **options: Any) -> Any:
                return trainer(worker_main, train_loop_config=train_loop_config | {"count": count}, **options)

            ray_trainer._Trainer = make
            return with_paths(recipe)

        fit.with_absolute_paths = later
    settings = job(work, films, workers, f"run-{os.getpid()}")
    fit.fit(settings, to_yaml(settings), lambda event: None)


def worker_main(config: dict[str, Any]) -> None:
    """In place of `ray_trainer._worker_main`, which it calls."""
    import ray.train

    count = config.pop("count")
    if ray.train.get_context().get_world_rank() == 0:
        count_steps(count)
    from ray_cxr.train import ray_trainer

    ray_trainer._worker_main(config)


def count_steps(path: str) -> None:
    """Counts the steps of the training loop, in the process that runs it."""
    from ray_cxr.train import epoch

    step, count = epoch.train_step, counter(path)

    def counted(*args: Any, **options: Any) -> Any:
        done = step(*args, **options)
        count()
        return done

    epoch.train_step = counted


def main(way: str, work: Path, films: int, threads: int, count: str) -> None:
    if way == "by hand":
        by_hand(work, films, threads, counter(count))
    elif way == "Lightning":
        by_lightning(work, films, threads, counter(count))
    else:
        ours(work, films, int(way.split()[1]), count)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
