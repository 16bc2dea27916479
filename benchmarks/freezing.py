"""What freezing saves: time of a step, activations kept for the backward pass, peak memory.

    python benchmarks/freezing.py --backbones densenet121 convnext_tiny --batch 16 --steps 8

Every line runs in a process of its own, on drawn films of 224 px: forward, loss, backward, AdamW. Beside ours stands
what is written by hand most often: requires_grad = False on the same parameters, then model.train().
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

from ray_cxr.model.build import ChestModel, build_model, resolve_normalisation
from ray_cxr.model.freeze import Depth, freeze, stages, train_mode
from ray_cxr.model.settings import ModelSettings
from ray_cxr.train.optimizer import build_optimizer
from ray_cxr.train.settings import TrainSettings

IMAGE_PX, FINDINGS = 224, 14
DEPTHS = ("0", "half", "head")
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=["densenet121", "convnext_tiny"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8, help="measured, after two that are not")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--one", nargs=3, metavar=("BACKBONE", "DEPTH", "HOW"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments)))
        return
    lines = [
        in_a_process_of_its_own(backbone, depth, how, arguments)
        for backbone in arguments.backbones
        for depth in DEPTHS
        for how in (("ours",) if depth == "0" else ("ours", "by hand"))
    ]
    print_table(lines, arguments)


def in_a_process_of_its_own(
    backbone: str, depth: str, how: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Peak memory is a process's, so each line needs one."""
    command = [sys.executable, __file__, "--one", backbone, depth, how]
    command += ["--batch", str(arguments.batch), "--steps", str(arguments.steps)]
    command += ["--threads", str(arguments.threads)]
    # Threads that wait for each other in a loop would count as work.
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    line: dict[str, Any] = json.loads(done.stdout)
    print(line, file=sys.stderr)
    return line


def measure(backbone: str, depth: str, how: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One line: median seconds of a step (wall, CPU), MiB kept for the backward pass, peak MiB, whether frozen statistics moved."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    normalisation = resolve_normalisation("imagenet", backbone, {})
    model = build_model(backbone, FINDINGS, IMAGE_PX, normalisation)
    resolved: Depth = "head" if depth == "head" else len(stages(model.network)) // 2 * (depth == "half")
    freeze(model, resolved, backbone)
    optimizer = build_optimizer(
        model, ModelSettings(backbone=backbone, freeze_depth=resolved), TrainSettings()
    )
    train_mode(model) if how == "ours" else model.train()
    before = _frozen_statistics(model)
    films = torch.randint(0, 256, (arguments.batch, IMAGE_PX, IMAGE_PX), dtype=torch.uint8)
    targets = torch.randint(0, 2, (arguments.batch, FINDINGS)).float()
    base_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, cpu_seconds = [], []
    for _ in range(arguments.steps + 2):
        started, cpu_started = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        nn.functional.binary_cross_entropy_with_logits(model(films), targets).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    after = _frozen_statistics(model)
    moved = any(not torch.equal(before[n], t) for n, t in after.items())
    return {
        "backbone": backbone,
        "freeze_depth": resolved,
        "how": how,
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "step_s": statistics.median(seconds[2:]),
        "cpu_s": statistics.median(cpu_seconds[2:]),
        "kept_mib": _kept_bytes(model, films) / MIB,
        "peak_mib": peak_mib - base_mib,
        "statistics": ("moved" if moved else "stay") if before else "none",
    }


def _frozen_statistics(model: ChestModel) -> dict[str, Tensor]:
    """Buffers of modules whose own parameters are all frozen."""
    found = {}
    for name, module in model.network.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            found |= {f"{name}.{n}": b.clone() for n, b in module.named_buffers(recurse=False)}
    return found


def _kept_bytes(model: ChestModel, films: Tensor) -> int:
    """Bytes that autograd keeps after a forward pass, parameters left out, each storage once."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(films)
    return sum(kept.values())


def print_table(lines: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Markdown, as docs/benchmarks.md has it."""
    print(
        f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}, batch {arguments.batch}, "
        f"{IMAGE_PX} px, median of {arguments.steps} steps\n"
    )
    print(
        "| backbone | freeze_depth | how | trained | s a step | CPU s | kept, MiB | peak, MiB | frozen statistics |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for line in lines:
        print(
            f"| `{line['backbone']}` | {line['freeze_depth']} | {line['how']} | {line['trained'] / 1e6:.2f} M | "
            f"{line['step_s']:.2f} | {line['cpu_s']:.2f} | {line['kept_mib']:.1f} | {line['peak_mib']:.0f} | "
            f"{line['statistics']} |"
        )


if __name__ == "__main__":
    main()
