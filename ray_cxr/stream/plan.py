"""The epoch plan: which films, in which order, in which step, on which rank. Pure: no files, no Ray.

An epoch's order is made of K canonical streams. Each gives batch_size / K films to every step, and a rank serves
whole streams. So the films of step g are the same for every world size up to K, the number of steps is equal on
every rank, and shares differ by at most one stream's part. A stream is a stretch of the row groups in an order
drawn anew for each epoch, shuffled film by film within windows that are as large as memory allows; the first windows of
an epoch are small, so that its first step does not wait for a large read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Rows
from ray_cxr.errors import InputError
from ray_cxr.stream.layout import Layout

WINDOW_FILMS = 8192
"""Films that are read and shuffled together, if nothing else is asked for: about 200 MiB of encoded films of 256 px."""
SCORING_WINDOW_FILMS = 1024
_FIRST_WINDOW = 16
"""The first window of an epoch is this many times smaller than a full one; each after it is twice the one before."""
_FEWEST_STREAMS = 16


@dataclass(frozen=True)
class World:
    """Which of how many workers this is."""

    rank: int = 0
    size: int = 1


ALONE = World()


def canonical_streams(batch_size: int) -> int:
    """K: the largest divisor of the batch that is at most 16, or at most an eighth of a batch of more than 128."""
    limit = max(_FEWEST_STREAMS, batch_size // 8)
    return max(k for k in range(1, limit + 1) if batch_size % k == 0)


@dataclass(frozen=True)
class EpochPlan:
    """One epoch over one split. `streams[k]` are positions in the layout, in order; `copies[k]` their repeats."""

    epoch: int
    batch_size: int
    streams: list[Rows]
    copies: list[Rows]
    window_ends: list[int]
    """Steps at which windows end: films of the steps between two of them are read and shuffled together."""

    @property
    def per_stream(self) -> int:
        """Films that a stream gives to a step."""
        return self.batch_size // len(self.streams)

    @property
    def films(self) -> int:
        return sum(map(len, self.streams))

    @property
    def steps(self) -> int:
        """Steps of the epoch, on every rank; the last one may be smaller."""
        return -(-max(map(len, self.streams)) // self.per_stream)

    @property
    def hash(self) -> str:
        """sha256 of the whole order: equal plans have equal hashes."""
        digest = hashlib.sha256(f"{self.batch_size} {len(self.streams)}".encode())
        for positions, copies in zip(self.streams, self.copies, strict=True):
            digest.update(len(positions).to_bytes(8, "little") + positions.tobytes() + copies.tobytes())
        return digest.hexdigest()

    def multiplicity(self, films: int) -> NDArray[np.int64]:
        """[films] int64: how often each film of the layout comes."""
        return np.bincount(np.concatenate(self.streams), minlength=films)

    def step_positions(self, step: int, world: World = ALONE) -> Rows:
        """Positions of a rank's films of a step; with the default world, of the whole step."""
        b = self.per_stream
        parts = [self.streams[k][step * b : (step + 1) * b] for k in rank_streams(len(self.streams), world)]
        return np.concatenate(parts)

    def step_copies(self, step: int, world: World = ALONE) -> Rows:
        """Which repeat of its film each of `step_positions` is, from 0."""
        b = self.per_stream
        parts = [self.copies[k][step * b : (step + 1) * b] for k in rank_streams(len(self.streams), world)]
        return np.concatenate(parts)

    def micro_batches(self, step: int, world: World, parts: int) -> list[Rows]:
        """Which of a rank's films of a step come in each micro-batch, by their number in the rank's batch.

        At most as many as there are films in the step. Each holds the same films over all ranks, whatever the world size,
        and every rank has its share of each, to within one film (it may have none).
        """
        in_streams = [min(max(len(s) - step * self.per_stream, 0), self.per_stream) for s in self.streams]
        served = rank_streams(len(self.streams), world)
        before, here = sum(in_streams[: served.start]), sum(in_streams[k] for k in served)
        number = min(parts, sum(in_streams))
        return [np.flatnonzero(np.arange(before, before + here) % number == m) for m in range(number)]


def plan_epoch(
    layout: Layout,
    batch_size: int,
    seed: int,
    epoch: int,
    fingerprint: str,
    multiplicity: NDArray[np.int64] | None = None,
    window_films: int = WINDOW_FILMS,
) -> EpochPlan:
    """The plan of an epoch (counted from 1).

    multiplicity [N]: how often each film comes; once where it is None. window_films: distinct films that are shuffled
    together.
    """  # fmt: skip
    streams = canonical_streams(batch_size)
    rng = np.random.default_rng([seed, epoch, int(fingerprint[:16], 16)])
    groups = rng.permutation(len(layout.groups))
    starts = np.searchsorted(layout.group, groups, side="left")
    ends = np.searchsorted(layout.group, groups, side="right")
    order = np.concatenate([np.arange(s, e) for s, e in zip(starts, ends, strict=True)])
    times = np.ones(layout.films, np.int64) if multiplicity is None else multiplicity
    # Copies of a film follow one another here, so that its shard is read once; the window takes them apart.
    sequence = np.repeat(order, times[order])
    copies = np.arange(len(sequence)) - np.repeat(np.cumsum(times[order]) - times[order], times[order])
    # Longer pieces lie apart, where array_split puts them first and the last step would be all rank 0's.
    cuts = np.arange(1, streams) * len(sequence) // streams
    lengths = np.diff([0, *cuts, len(sequence)])
    per_stream = batch_size // streams
    window_ends = _window_ends(-(-int(lengths.max()) // per_stream), times, batch_size, window_films)
    orders = [_window_order(int(n), [e * per_stream for e in window_ends], rng) for n in lengths]
    pieces = [piece[o] for piece, o in zip(np.split(sequence, cuts), orders, strict=True)]
    repeats = [piece[o] for piece, o in zip(np.split(copies, cuts), orders, strict=True)]
    return EpochPlan(epoch, batch_size, pieces, repeats, window_ends)


def _window_ends(steps: int, times: NDArray[np.int64], batch_size: int, window_films: int) -> list[int]:
    """Steps at which windows end. Repeats of a film cost no memory, so that only distinct films count."""
    draws_per_film = times.sum() / max((times > 0).sum(), 1)
    full = max(1, int(window_films * draws_per_film) // batch_size)
    ends: list[int] = []
    size = max(1, full // _FIRST_WINDOW)
    while not ends or ends[-1] < steps:
        ends.append(min((ends[-1] if ends else 0) + size, steps))
        size = min(2 * size, full)
    return ends


def _window_order(draws: int, ends: list[int], rng: np.random.Generator) -> Rows:
    """A permutation of 0..draws-1 that leaves every draw in its window."""
    edges = [0, *(min(e, draws) for e in ends)]
    return np.concatenate([a + rng.permutation(b - a) for a, b in pairwise(edges)])


def rank_streams(streams: int, world: World) -> range:
    """The streams that a rank serves: a stretch of them, shares differing by at most one."""
    return range(streams * world.rank // world.size, streams * (world.rank + 1) // world.size)


def check_world_size(workers: int, batch_size: int) -> None:
    """Raises InputError where there are more workers than streams."""
    streams = canonical_streams(batch_size)
    if workers > streams:
        raise InputError(
            f"train.workers: got {workers}, but a batch of {batch_size} films is made of {streams} streams, and a "
            f"worker needs at least one; use at most {streams} workers or a larger stream.batch_size."
        )


@dataclass(frozen=True)
class RankWork:
    """What one rank reads, in order: `windows` of positions, cut into steps of `step_sizes` films."""

    windows: list[Rows]
    copies: NDArray[np.int64]
    step_sizes: list[int]
    epoch: int

    @property
    def positions(self) -> Rows:
        return np.concatenate(self.windows) if self.windows else np.zeros(0, np.int64)


def training_work(plan: EpochPlan, world: World, first_step: int = 0) -> RankWork:
    """A rank's part of an epoch plan from a step on, of which there must be one at least."""
    served = rank_streams(len(plan.streams), world)
    lengths = [len(plan.streams[k]) for k in served]
    # Steps that all of its streams fill are cut at once: one by one, an epoch of 10 million films takes minutes of slices.
    full = max(min(lengths) // plan.per_stream, first_step)
    rest = range(full, plan.steps)
    sizes = [plan.per_stream * len(served)] * (full - first_step) + [
        len(plan.step_positions(g, world)) for g in rest
    ]

    def in_steps(streams: list[Rows], of_rest: Callable[[int, World], Rows]) -> Rows:
        whole = [streams[k][first_step * plan.per_stream : full * plan.per_stream] for k in served]
        dealt = np.stack([w.reshape(-1, plan.per_stream) for w in whole], axis=1).ravel()
        return np.concatenate([dealt, *(of_rest(g, world) for g in rest)])

    positions = in_steps(plan.streams, plan.step_positions)
    ends = np.cumsum([0, *sizes])
    cuts = [0, *(ends[end - first_step] for end in plan.window_ends if end > first_step)]
    windows = [positions[a:b] for a, b in pairwise(cuts)]
    return RankWork(windows, in_steps(plan.copies, plan.step_copies), sizes, plan.epoch)


def scoring_work(layout: Layout, batch_size: int, world: World) -> RankWork:
    """A rank's stretch of a split, in shard order: over all ranks every film exactly once."""
    first, last = (layout.films * r // world.size for r in (world.rank, world.rank + 1))
    positions = np.arange(first, last)
    stride = max(1, SCORING_WINDOW_FILMS // batch_size) * batch_size
    windows = [positions[s : s + stride] for s in range(0, len(positions), stride)]
    sizes = [min(batch_size, len(positions) - s) for s in range(0, len(positions), batch_size)]
    return RankWork(windows, np.zeros_like(positions), sizes, 0)
