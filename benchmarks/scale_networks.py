"""What networks put on the wire and on disk: bytes all-reduced in a step, bytes of a checkpoint, arithmetic of a film.

Counted from networks with fresh weights; nothing is downloaded.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from ray_cxr.model.build import build_model, resolve_normalisation
from ray_cxr.model.settings import ModelSettings
from ray_cxr.storage import Folder
from ray_cxr.train.checkpoint import TrainState, take_snapshot, write_snapshot
from ray_cxr.train.optimizer import build_optimizer
from ray_cxr.train.settings import TrainSettings

FINDINGS, IMAGE_PX = 14, 224


@dataclass(frozen=True)
class Network:
    """gradient_bytes: float32, all-reduced in each step. buffer_bytes: batch statistics, which DDP sends from rank 0 in each step.

    forward_gflop: of one film of 224 px, 2 to a multiply-add, as torch counts them (its count of a backward pass is wrong where
    convolutions are grouped, torch 2.13).
    """

    backbone: str
    gradient_bytes: int
    buffer_bytes: int
    checkpoint_bytes: int
    forward_gflop: float


def count(backbone: str) -> Network:
    """Counts a network by training it on two blank films for one step."""
    model = build_model(backbone, FINDINGS, IMAGE_PX, resolve_normalisation("none", backbone, {}))
    optimizer = build_optimizer(model, ModelSettings(backbone=backbone), TrainSettings())
    films = torch.zeros(2, IMAGE_PX, IMAGE_PX, dtype=torch.uint8)
    with FlopCounterMode(display=False) as forward:
        loss = model(films).sum()
    loss.backward()
    optimizer.step()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    with tempfile.TemporaryDirectory() as folder:
        write_snapshot(Folder(folder), take_snapshot(model.network, optimizer, TrainState("", [])))
        written = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return Network(
        backbone,
        sum(g.numel() * g.element_size() for g in gradients),
        sum(b.numel() * b.element_size() for b in model.buffers()),
        written,
        forward.get_total_flops() / len(films) / 1e9,
    )
