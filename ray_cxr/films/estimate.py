"""What making a film store will cost: a few films are made, and the rest is multiplied out.

Reads: part tasks and a sample of their films. Gives: `Cost`. Nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ray_cxr.films.parts import PartTask
from ray_cxr.films.store import film_row

SAMPLED_FILMS = 16
_ROW_BYTES = 330
"""What a film's row takes beside its pixels: ids, two hashes, sizes, sums."""


@dataclass(frozen=True)
class Cost:
    """seconds: of one core for a film; film_bytes: of a stored film with its row. Means over a sample."""

    seconds: float
    film_bytes: float


def sample_cost(tasks: Sequence[PartTask]) -> Cost:
    """Makes SAMPLED_FILMS films from all over the tasks, without keeping them."""
    films = [(t, n) for t in tasks for n in range(len(t.image_ids))]
    chosen = films[:: max(1, len(films) // SAMPLED_FILMS)][:SAMPLED_FILMS]
    task, row = chosen[0]
    film_row(task.image_ids[row], task.locators[row], task.image_px, task.codec)  # the first is always slow
    begun, size = time.perf_counter(), 0
    for task, row in chosen:
        made = film_row(task.image_ids[row], task.locators[row], task.image_px, task.codec)
        size += int(made.get("film_bytes", 0)) + _ROW_BYTES
    return Cost((time.perf_counter() - begun) / len(chosen), size / len(chosen))
