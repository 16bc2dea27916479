"""What a search is about: figures of a trial's validation, and what its model costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ray_cxr.model.build import make_network
from ray_cxr.train.settings import Recipe


def scores(line: Mapping[str, Any]) -> dict[str, float | None]:
    """The objectives of a line of history.jsonl; None: not measurable."""
    known = [v for v in line["average_precision"].values() if v is not None]
    return {
        "mean_auroc": line["mean_auroc"],
        "worst_average_precision": min(known, default=None),
    }


@dataclass
class RunProgress:
    """How far one training of a trial is. kept: the scores of the model that it would keep now."""

    epochs: int = 0
    train_seconds: float = 0.0
    kept: dict[str, float | None] = field(default_factory=dict)


@dataclass
class Progress:
    """How far a trial is: in its one training, or in one for each fold, one after the other. keep: `train.keep`."""

    keep: str
    runs: dict[int, RunProgress] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any], run: int = 0) -> None:
        """A line of history.jsonl, in order; one that is there already changes nothing."""
        of = self.runs.setdefault(run, RunProgress())
        if line["epoch"] <= of.epochs:
            return
        of.epochs = line["epoch"]
        of.train_seconds += line["seconds"]["train"] + line["seconds"]["validate"]
        if self.keep == "last" or line["best"] or not of.kept:
            of.kept = scores(line)

    @property
    def epochs(self) -> int:
        """Of all its trainings."""
        return sum(run.epochs for run in self.runs.values())

    @property
    def train_seconds(self) -> float:
        """Of training and validation, over all epochs."""
        return sum(run.train_seconds for run in self.runs.values())

    @property
    def kept(self) -> dict[str, float | None]:
        """Objective → mean over the trainings that have begun; None where one of them cannot measure it."""
        found = [run.kept for run in self.runs.values()]
        names = found[0] if found else {}
        return {name: _mean([kept[name] for kept in found]) for name in names}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def cost(recipe: Recipe, names: Sequence[str]) -> dict[str, float]:
    """Those of `macs` and `parameters` that are asked for: of the backbone with one output, for one film.

    A multiply-accumulate is two of torch's floating-point operations.
    """
    wanted = {"macs", "parameters"} & set(names)
    if not wanted:
        return {}
    network = make_network(recipe.model.backbone, 1, recipe.stream.image_px).eval()
    found = {"parameters": float(sum(p.numel() for p in network.parameters()))}
    if "macs" in wanted:
        px = recipe.stream.image_px
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, px, px))
        found["macs"] = counter.get_total_flops() / 2
    return {name: found[name] for name in names if name in wanted}
