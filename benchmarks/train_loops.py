"""What benchmarks/train.py measures, each in a process of its own: films/s of epochs after the first, as one JSON line.

All train the same network on the same films with the same batch, augmentation, loss, optimizer and threads. The two peers read
the films as 256-px PNG files by torch's DataLoader, decode them with OpenCV and augment them with the one warp and look-up table
of `ray_cxr.stream.augment`, so that what differs is the loop and the way of the films to it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
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
from ray_cxr.storage import Folder
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


def by_hand(work: Path, films: int, threads: int) -> Iterator[float]:
    """The loop that one writes by hand. Gives films/s of each epoch."""
    torch.set_num_threads(threads)
    model, batches = model_of(work, films), loader(work, films, threads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=EPOCHS * len(batches))
    loss_of = weighted_loss(batches.dataset.labels)  # type: ignore[attr-defined]
    model.train()
    for _ in range(EPOCHS):
        started, total = time.perf_counter(), 0.0
        for pixels, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(pixels), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        yield len(batches.dataset) / (time.perf_counter() - started)  # type: ignore[arg-type]


def by_lightning(work: Path, films: int, threads: int) -> Iterator[float]:
    """Lightning's Trainer around the same. Gives films/s of each epoch."""
    import lightning

    torch.set_num_threads(threads)
    batches = loader(work, films, threads)
    loss_of = weighted_loss(batches.dataset.labels)  # type: ignore[attr-defined]
    rates: list[float] = []

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

        def on_train_epoch_start(self) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            rates.append(len(batches.dataset) / (time.perf_counter() - self.started))  # type: ignore[arg-type]

    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), batches)
    yield from rates


def ours(work: Path, films: int, workers: int) -> Iterator[float]:
    """`train` itself, with its validation and checkpoints, which films/s leave out."""
    from ray_cxr.config import to_yaml
    from ray_cxr.train.fit import fit

    settings = job(work, films, workers, f"run-{os.getpid()}")
    fit(settings, to_yaml(settings), lambda event: None)
    history = Folder(settings.out).read_bytes("history.jsonl").decode().splitlines()
    yield from (json.loads(line)["images_per_s"] for line in history)


def measure(way: str, work: Path, films: int, threads: int) -> list[float]:
    """Films/s of each epoch of one way to train."""
    if way == "by hand":
        return list(by_hand(work, films, threads))
    if way == "Lightning":
        return list(by_lightning(work, films, threads))
    return list(ours(work, films, int(way.split()[1])))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
