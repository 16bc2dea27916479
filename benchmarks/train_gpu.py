"""Training on a GPU beside the same steps on films that lie in its memory: films/s, and the share of time spent waiting for films.

    python benchmarks/train_gpu.py --films 8000 --work DIR

Draws films of 256 px once into DIR. For each backbone: `train` (bf16, 224 px, in this process or by Ray workers), and then
forward, loss, backward and AdamW on one batch of noise in the GPU's memory, which no stream can be faster than. Without a GPU it
runs on the CPU, for a try.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from train_loops import STORED_PX, weighted_loss

from ray_cxr.config import to_yaml
from ray_cxr.job import Job, load_job
from ray_cxr.model.build import build_model, resolve_normalisation
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.storage import Folder
from ray_cxr.train.fit import fit

WARM_UP, STEPS = 10, 50


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=8000)
    parser.add_argument("--backbones", nargs="*", default=["densenet121", "resnet50"])
    parser.add_argument("--image-px", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128, help="films per step")
    parser.add_argument("--epochs", type=int, default=3, help="the first warms up")
    parser.add_argument(
        "--workers", type=int, default=0, help="0: in this process; n: Ray workers, a GPU each"
    )
    parser.add_argument("--cache", choices=["none", "node"], default="none")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps on films in memory")
    parser.add_argument("--work", type=Path, default=Path("benchmark-train-gpu"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU: the figures are of no GPU"
    print(f"{name}, torch {torch.__version__}; bf16, {arguments.image_px} px, batch {arguments.batch}\n")
    print(
        "| backbone | films/s | on films in memory | share of it | waiting for films |\n|---|---:|---:|---:|---:|"
    )
    for backbone in arguments.backbones:
        job = job_of(arguments, backbone)
        prepare(job)
        rate, waiting = trained(job)
        limit = in_memory(job, device, arguments.steps)
        print(f"| {backbone} | {rate:,.0f} | {limit:,.0f} | {rate / limit:.0%} | {waiting:.1%} |", flush=True)


def job_of(arguments: argparse.Namespace, backbone: str) -> Job:
    out = arguments.work / f"run-{backbone}-{time.time_ns()}"
    return load_job(
        None,
        [
            "source.kind=phantom", f"source.patients={arguments.films // 2}", f"out={out}",
            f"dataset={arguments.work / f'dataset-{arguments.films}'}", f"shards.image_px={STORED_PX}", "split.test=40",
            "split.validation=120", "split.folds=null", f"stream.image_px={arguments.image_px}",
            f"stream.batch_size={arguments.batch}", f"stream.cache={arguments.cache}", "stream.normalisation=dataset",
            f"model.backbone={backbone}", "model.weights=none", f"train.epochs={arguments.epochs}",
            f"train.workers={arguments.workers}", "train.precision=bf16",
        ],
    )  # fmt: skip


def prepare(job: Job) -> None:
    from ray_cxr.cli.work import run_prepare

    if not (Path(job.dataset) / "manifest.json").exists():
        run_prepare(job)


def trained(job: Job) -> tuple[float, float]:
    """Films/s, and the share of the time spent waiting for films, of the epochs after the first."""
    fit(job, to_yaml(job), lambda event: None)
    lines = [json.loads(x) for x in Folder(job.out).read_bytes("history.jsonl").decode().splitlines()[1:]]
    waits = [line["seconds"]["data_wait"] / line["seconds"]["train"] for line in lines]
    return statistics.median(line["images_per_s"] for line in lines), statistics.median(waits)


def in_memory(job: Job, device: torch.device, steps: int) -> float:
    """Films/s of the same steps on one batch that is on the device already."""
    dataset = open_dataset(job.dataset, ("train",))
    normalisation = resolve_normalisation("dataset", job.model.backbone, dataset.manifest["pixel_statistics"])
    model = build_model(job.model.backbone, len(dataset.findings), job.stream.image_px, normalisation).to(
        device
    )
    if device.type == "cpu":  # as `train.channels_last: auto`
        model.network.to(memory_format=torch.channels_last)
    batch, px = job.stream.batch_size, job.stream.image_px
    pixels = torch.randint(0, 256, (batch, px, px), dtype=torch.uint8, device=device)
    targets = torch.randint(0, 2, (batch, len(dataset.findings)), device=device).float()
    loss_of = weighted_loss(targets)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    started = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            _wait_for(device)
            started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(pixels)
        loss_of(logits.float(), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    _wait_for(device)
    return steps * batch / (time.perf_counter() - started)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
