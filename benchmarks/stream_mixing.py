"""How well an epoch of the stream is mixed, beside a full shuffle and the buffers of other loaders. Pure: no films.

    python benchmarks/stream_mixing.py

The worst case: films lie on disk sorted by label, positives first (`prepare` stores them in a fixed shuffle, so real data
sets are far from it). For each way of shuffling, over several epochs:

spread of batches: variance of the number of positives in a batch, as a multiple of that of a full shuffle.
drift: largest share of positives in any twentieth of the epoch (10 % of all films are positive).
order kept: correlation of a film's place on disk with its place in the epoch, root mean square.
neighbours: how many of the pairs that lie side by side on disk come in the same batch, as a multiple of a full shuffle's.
memory: MiB of encoded films that wait together, 25 KB each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_cxr.axes import Rows
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.plan import plan_epoch

FILMS, GROUP, SHARD, BATCH = 78_484, 32, 2560, 32
"""The training films of ChestX-ray14; row groups and shards as `prepare` makes them by default."""
FILM_BYTES = 25_000
PREVALENCE = 0.1
FINGERPRINT = "0123456789abcdef" * 4
Order = Callable[[int], Rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs
    full = measure(full_shuffle, epochs)
    print(
        f"{FILMS:,} films sorted by label, {PREVALENCE:.0%} positive, batches of {BATCH}, {epochs} epochs\n"
    )
    print(
        "| shuffle | memory, MiB | spread of batches | drift | order kept | neighbours |\n|---|---:|---:|---:|---:|---:|"
    )
    print_row("full", FILMS * FILM_BYTES / 2**20, full, full)
    for mib in (1024, 256, 64, 16, 4):
        print_row(f"`stream.shuffle_mib: {mib}`", mib, measure(windows_of(mib), epochs), full)
    for films in (8192, 1000):
        order = buffer_of(films)
        name = f"shards in random order, buffer of {films:,} films (as WebDataset)"
        print_row(name, films * FILM_BYTES / 2**20, measure(order, epochs), full)
    print_row("none", 0, measure(lambda epoch: np.arange(FILMS), 1), full)


def full_shuffle(epoch: int) -> Rows:
    return np.random.default_rng(epoch).permutation(FILMS)


def windows_of(mib: int) -> Order:
    """Ours: the films of each step, step after step."""
    group = np.arange(FILMS) // GROUP
    groups = [("", g) for g in range(int(group[-1]) + 1)]
    layout = Layout(
        np.arange(FILMS),
        pa.nulls(FILMS, pa.string()),
        group,
        np.arange(FILMS) % GROUP,
        groups,
        np.bincount(group),
    )

    def order(epoch: int) -> Rows:
        films = int(mib * 2**20 / FILM_BYTES)
        plan = plan_epoch(layout, BATCH, 0, epoch, FINGERPRINT, window_films=films)
        return np.concatenate([plan.step_positions(step) for step in range(plan.steps)])

    return order


def buffer_of(films: int) -> Order:
    """Shards in a random order; each film read takes the place of a random one of the buffer, which goes out."""

    def order(epoch: int) -> Rows:
        rng = np.random.default_rng(epoch)
        shards = rng.permutation(-(-FILMS // SHARD))
        read = np.concatenate([np.arange(s * SHARD, min((s + 1) * SHARD, FILMS)) for s in shards])
        buffer, out = read[:films].copy(), np.empty(FILMS, np.int64)
        places = rng.integers(0, films, FILMS - films)
        for number, film in enumerate(read[films:]):
            out[number], buffer[places[number]] = buffer[places[number]], film
        out[FILMS - films :] = rng.permutation(buffer)
        return out

    return order


def measure(order: Order, epochs: int) -> NDArray[np.float64]:
    """Variance of positives in a batch, drift, order kept, neighbours in a batch: means over epochs."""
    positive = np.arange(FILMS) < PREVALENCE * FILMS
    figures = []
    for epoch in range(1, epochs + 1):
        films = order(epoch)
        place = np.empty(FILMS, np.int64)
        place[films] = np.arange(FILMS)
        whole = films[: FILMS // BATCH * BATCH].reshape(-1, BATCH)
        drift = max(positive[part].mean() for part in np.array_split(films, 20))
        kept = np.corrcoef(np.arange(FILMS), place)[0, 1]
        together = np.mean(np.diff(place // BATCH) == 0)
        figures.append([positive[whole].sum(1).var(), drift, kept**2, together])
    mean = np.mean(figures, axis=0)
    mean[2] = np.sqrt(mean[2])
    return mean


def print_row(name: str, mib: float, found: NDArray[np.float64], full: NDArray[np.float64]) -> None:
    print(
        f"| {name} | {mib:,.0f} | {found[0] / full[0]:.2f} | {found[1]:.1%} | {found[2]:.3f} | "
        f"{found[3] / full[3]:.1f} |"
    )


if __name__ == "__main__":
    main()
