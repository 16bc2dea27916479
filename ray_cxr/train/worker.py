"""What the loop knows of the worker that it runs in: its place in the world, its device, its way to report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ray_cxr.axes import Rows
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.plan import ALONE, World
from ray_cxr.stream.stream import TableReader
from ray_cxr.train.place import Place


def _silent(event: dict[str, Any]) -> None:
    pass


@dataclass(frozen=True)
class Worker:
    """One training process. `report` gets small dictionaries on rank 0: a step, an epoch, a note."""

    world: World = ALONE
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 1
    reader: TableReader = local_tables
    report: Callable[[dict[str, Any]], None] = _silent
    place: Place = field(default_factory=Place)
    """Where it is, for who looks after workers that stand still."""

    @property
    def is_first(self) -> bool:
        return self.world.rank == 0

    def agree(self, decided: bool) -> bool:
        """What rank 0 has decided, on all workers; waits for all of them."""
        decision = [decided]
        if self.world.size > 1:
            with self.place.waiting():
                dist.broadcast_object_list(decision, 0)
        return decision[0]

    def total(self, number: int) -> int:
        """The sum over all workers; waits for all of them."""
        summed = torch.tensor(number, device=self.device)
        if self.world.size > 1:
            with self.place.waiting():
                dist.all_reduce(summed)
        return int(summed)

    def gather(self, rows: Rows, logits: NDArray[np.float32]) -> tuple[Rows, NDArray[np.float32]] | None:
        """Rows [N] and logits [N, F] of all workers, sorted by row, on rank 0; None elsewhere."""
        parts: list[Any] | None = [None] * self.world.size if self.is_first else None
        if self.world.size > 1:
            with self.place.waiting():
                dist.gather_object((rows, logits), parts)
        elif parts is not None:
            parts[0] = (rows, logits)
        if parts is None:
            return None
        all_rows = np.concatenate([p[0] for p in parts])
        order = np.argsort(all_rows, kind="stable")
        return all_rows[order], np.concatenate([p[1] for p in parts])[order]
