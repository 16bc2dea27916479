"""What a preparation is about to cost in time and disk, said before it begins, and refused where it cannot fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray_cxr.console import duration
from ray_cxr.cores import usable_cores
from ray_cxr.errors import InputError
from ray_cxr.films.estimate import sample_cost
from ray_cxr.films.parts import PartTask
from ray_cxr.storage import Folder, in_bytes

_DOUBT = 0.9
"""The estimate is from a few films: only what is clearly too much is refused."""


@dataclass(frozen=True)
class Forecast:
    """core_s: seconds of one core; written_bytes: film store and shards together."""

    films: int
    core_s: float
    written_bytes: float

    def sentence(self, free_bytes: int | None, *, cluster: bool) -> str:
        """For a person: what is to be done, how long it takes, how much of the disk."""
        cores = usable_cores()
        time = (
            f"{duration(self.core_s)} of one core, shared by the cluster"
            if cluster
            else f"{duration(self.core_s / cores)} on {cores} cores"
        )
        free = "" if free_bytes is None else f", {in_bytes(free_bytes)} free"
        return (
            f"to do: {self.films:,} films, about {time}; about {in_bytes(self.written_bytes)} to write{free}"
        )


def forecast(todo: Sequence[PartTask], all_films: int) -> Forecast:
    """Of these parts, and of shards for all films, from a sample that is made and thrown away."""
    cost = sample_cost(todo)
    films = sum(len(t.image_ids) for t in todo)
    return Forecast(films, films * cost.seconds, (films + all_films) * cost.film_bytes)


def refuse_too_little_space(dataset: Folder, needed_bytes: float) -> None:
    """Raises InputError where the disk is clearly too small."""
    free = dataset.free_bytes()
    if free is not None and needed_bytes * _DOUBT > free:
        raise InputError(
            f"dataset: {dataset} needs about {in_bytes(needed_bytes)} and has {in_bytes(free)} free; make room, give "
            "another place, choose a smaller shards.image_px, or begin all the same with shards.check_space=false."
        )
