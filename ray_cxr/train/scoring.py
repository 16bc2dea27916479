"""Scores every film of a split exactly once, and fails where the count is not exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ray_cxr.axes import Rows
from ray_cxr.errors import RayCxrError
from ray_cxr.model.build import ChestModel
from ray_cxr.stream.stream import Stream
from ray_cxr.train.worker import Worker


def score_split(
    model: ChestModel, stream: Stream, worker: Worker, advance: Callable[[int], None] = lambda films: None
) -> tuple[Rows, NDArray[np.float32]] | None:
    """Rows [N] of the index, ascending, and logits [N, F] float32, on rank 0; None on other workers.

    Raises RayCxrError unless the rows are exactly those of the split.
    """
    rows: list[Rows] = [np.zeros(0, np.int64)]
    logits: list[NDArray[np.float32]] = [np.zeros((0, model.findings), np.float32)]
    model.eval()
    with torch.inference_mode():
        for batch in stream.score():
            pixels = torch.from_numpy(batch.pixels).to(worker.device, non_blocking=True)
            logits.append(model(pixels).float().cpu().numpy())
            rows.append(batch.rows)
            _refuse_non_finite(logits[-1], batch.rows)
            advance(len(batch.rows))
    gathered = worker.gather(np.concatenate(rows), np.concatenate(logits))
    if gathered is not None and not np.array_equal(gathered[0], np.sort(stream.layout.rows)):
        raise RayCxrError(
            f"scoring the {stream.split} split gave {len(gathered[0])} films where {stream.layout.films} were planned; "
            "the figures would be wrong, so the run stops."
        )
    return gathered


def _refuse_non_finite(logits: NDArray[np.float32], rows: Rows) -> None:
    bad = rows[~np.isfinite(logits).all(1)]
    if len(bad):
        raise RayCxrError(
            f"the model gives no finite number for {len(bad)} films (index rows {', '.join(map(str, bad[:8]))}"
            f"{', …' if len(bad) > 8 else ''}); train with a smaller train.learning_rate."
        )
