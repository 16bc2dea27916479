"""The arithmetic of scale: what so many GPUs ask of storage, CPUs and network. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ray_cxr.stream.plan import canonical_streams

BACKWARD_SHARE = 2 / 3
"""Of the arithmetic of a step: a product in the forward pass has two in the backward pass, for the weights and for what came in."""


@dataclass(frozen=True)
class Inputs:
    """Measured figures. film_bytes: of an encoded film as it is read. core_images_per_s: of one CPU core, by the way films take."""

    film_bytes: float
    core_images_per_s: dict[str, float]
    requests_a_group: int
    rows_per_group: int


@dataclass(frozen=True)
class Needs:
    """What must be there at once. cores: by the way films take."""

    images_per_s: float
    storage_gb_per_s: float
    requests_per_s: float
    cores: dict[str, float]


def needs(gpus: int, gpu_images_per_s: float, inputs: Inputs) -> Needs:
    """What keeps so many GPUs busy that train so many films a second each."""
    rate = gpus * gpu_images_per_s
    return Needs(
        rate,
        rate * inputs.film_bytes / 1e9,
        rate / inputs.rows_per_group * inputs.requests_a_group,
        {way: rate / of_a_core for way, of_a_core in inputs.core_images_per_s.items()},
    )


def all_reduce_s(members: int, size_bytes: float, gbit_per_s: float) -> float:
    """Seconds of a ring all-reduce by bandwidth alone: each member sends 2 (N - 1) / N of the bytes.

    Source: Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, J. Parallel Distrib.
    Comput. 69 (2009).
    """
    return 2 * (members - 1) / members * size_bytes * 8 / (gbit_per_s * 1e9)


def films_that_hide(all_reduce: float, gpu_images_per_s: float) -> float:
    """Films a GPU must have in a step for the backward pass to take as long as the all-reduce that runs beside it."""
    return all_reduce * gpu_images_per_s / BACKWARD_SHARE


@dataclass(frozen=True)
class Epoch:
    """batch: films of a step over all GPUs. streams: the most ranks that can share it. seconds: at the GPUs' full speed."""

    batch: int
    streams: int
    steps: int
    seconds: float


def epoch(films: int, gpus: int, films_a_gpu: int, gpu_images_per_s: float) -> Epoch:
    """An epoch where each GPU has so many films in a step."""
    batch = gpus * films_a_gpu
    return Epoch(batch, canonical_streams(batch), -(-films // batch), films / (gpus * gpu_images_per_s))


def read_twice(films: int, batch: int, rows_per_group: int) -> float:
    """Share of row groups that two streams read, at most: a stream ends within a row group as a rule."""
    return (canonical_streams(batch) - 1) / -(-films // rows_per_group)
