"""How good the search is: replayed against a recorded grid, run for real, and what it costs beyond the training.

    python benchmarks/tune.py                                            # replays, beside plain Optuna and random search
    python benchmarks/tune.py --real --work tune --data ../shared/data   # five searches, trained; goes on where it was cut
    python benchmarks/tune.py --overhead --work tune --data ../shared/data

The grid (`tune_grid.py`) is every combination of `tune.yaml`'s space, trained to the end with two seeds. A search may spend
a quarter of the grid's epochs, or half of that: a quarter of one of its two passes. It does well if what it chooses is among
the grid's best three, or behind the best by no more than one standard error of that difference (draws of patients).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from tune_grid import JOB, LOOKUP, Quiet, default_data, places
from tune_replay import Lookup, Outcome, replay_optuna, replay_random, replay_search

from ray_cxr.job import load_job
from ray_cxr.shards.prepare import prepare

SEEDS = range(5)
MANY = range(20)
_OVERHEAD_TRIALS, _OVERHEAD_LEAST_S = 20, 60.0
_OVERHEAD_MODEL = ["model.backbone=tf_efficientnet_lite0", "model.weights=none", "stream.image_px=64"]
"""An epoch is some seconds, as in a search that is worth it; with the grid's half second, 0.04 s for a checkpoint counts."""


@dataclass(frozen=True)
class Contender:
    """A way to search: seed and epochs → what it chose."""

    name: str
    run: Callable[[int, int], Outcome]


def contenders(lookup: Lookup) -> list[Contender]:
    """Ours, Optuna's own, chance."""
    job = load_job(JOB)
    hasty = job.model_copy(update={"tune": job.tune.model_copy(update={"grace_epochs": 1})})
    halving = optuna.pruners.SuccessiveHalvingPruner(min_resource=3, reduction_factor=3)
    median = optuna.pruners.MedianPruner()
    return [
        Contender("**ray_cxr**: TPE, ASHA from epoch 3 on", lambda s, e: replay_search(lookup, job, s, e)),
        Contender("the same from epoch 1 on (the default)", lambda s, e: replay_search(lookup, hasty, s, e)),
        Contender(
            "Optuna, TPE and SuccessiveHalvingPruner from epoch 3 on", lambda s, e: replay_optuna(lookup, halving, s, e)
        ),
        Contender("Optuna, TPE and MedianPruner (its defaults)", lambda s, e: replay_optuna(lookup, median, s, e)),
        Contender("random search, each to its end", lambda s, e: replay_random(lookup, s, e)),
    ]  # fmt: skip


def replay_row(lookup: Lookup, contender: Contender, epochs: int, many: Sequence[int]) -> str:
    """A line of the table: the first seeds one by one, many of them as shares."""
    outcomes = [contender.run(seed, epochs) for seed in many]
    first = outcomes[: len(SEEDS)]
    good = sum(lookup.is_good(o.choice) for o in first)
    share = np.mean([lookup.is_good(o.choice) for o in outcomes])
    chosen = ", ".join(str(lookup.place(o.choice)) for o in first)
    spent, trials = np.mean([o.epochs for o in outcomes]), np.mean([o.trials for o in outcomes])
    return (
        f"| {contender.name} | {chosen} | {good} of {len(first)} | {share:.0%} | {trials:.0f} | {spent:.0f} |"
    )


def replays(lookup: Lookup, many: Sequence[int] = MANY) -> list[str]:
    """A table of replays for each budget."""
    lines: list[str] = []
    for budget, epochs in budgets(lookup).items():
        lines += [
            f"{epochs} epochs, {budget}:", "",
            f"| search | place of its choice, seeds {SEEDS[0]}–{SEEDS[-1]} | good | good of {len(many)} seeds | trials | epochs |",
            "|---|---|---|---:|---:|---:|",
            *(replay_row(lookup, contender, epochs, many) for contender in contenders(lookup)), "",
        ]  # fmt: skip
    return lines


def budgets(lookup: Lookup) -> dict[str, int]:
    """What a search may spend, in epochs."""
    one_pass = len(lookup.entries) * lookup.epochs
    return {
        "a quarter of the grid's": one_pass * lookup.passes // 4,
        "a quarter of one pass over the grid": one_pass // 4,
    }


def tune_command(*overrides: str) -> float:
    """`ray-cxr tune` in a process of its own; gives the seconds it took."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "ray_cxr", "tune", str(JOB), *overrides, "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def spent_epochs(out: Path) -> int:
    """Epochs of all trials of a search so far; 0 before it has begun."""
    table = out / "trials.parquet"
    return int(pd.read_parquet(table)["epochs"].sum()) if table.exists() else 0


def search_for_real(lookup: Lookup, seed: int, data: Path, work: Path) -> Outcome:
    """A search of as many trials as surely fit, which then goes on with more of them while a whole training fits."""
    out = work / f"real-{seed}"
    most = max(budgets(lookup).values())
    while (left := most - spent_epochs(out)) >= lookup.epochs:
        begun = len(pd.read_parquet(out / "trials.parquet")) if (out / "trials.parquet").exists() else 0
        trials = begun + left // lookup.epochs
        tune_command(*places(data, work), f"out={out}", f"seed={seed}", f"tune.trials={trials}")
    winner = json.loads((out / "summary.json").read_text("utf-8"))["winner"]["number"]
    table = pd.read_parquet(out / "trials.parquet").set_index("number")
    drawn = {name: json.loads(table.loc[winner, f"param:{name}"]) for name in lookup.grid}
    return Outcome(lookup.name_of(drawn), spent_epochs(out), len(table))


def real(lookup: Lookup, data: Path, work: Path) -> list[str]:
    """The table of searches that were trained."""
    rows = [
        "| seed | choice | its place in the grid | good | trials | epochs |",
        "|---:|---|---:|---|---:|---:|",
    ]
    for seed in SEEDS:
        found = search_for_real(lookup, seed, data, work)
        good = "yes" if lookup.is_good(found.choice) else "no"
        rows.append(
            f"| {seed} | {found.choice} | {lookup.place(found.choice)} | {good} | {found.trials} | {found.epochs} |"
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def overhead(data: Path, work: Path) -> list[str]:
    """Wall time beyond the training of 20 trials with one worker, two at a time; a short search says how long an epoch is."""
    common = [
        *places(data, work), *_OVERHEAD_MODEL, "tune.scheduler=none", "tune.sampler=random", "tune.concurrency=2",
        "tune.recipes=false", 'tune.space={"train.learning_rate": {"low": 0.0001, "high": 0.01, "log": true}}',
    ]  # fmt: skip
    stamp = time.strftime("%H%M%S")
    short = work / f"overhead-{stamp}-short"
    tune_command(*common, f"out={short}", "tune.trials=2", "train.epochs=4")
    table = pd.read_parquet(short / "trials.parquet")
    epoch_s = float((table["train_seconds"] / table["epochs"]).min())
    epochs = math.ceil(1.2 * _OVERHEAD_LEAST_S / epoch_s)
    out = work / f"overhead-{stamp}"
    wall = tune_command(*common, f"out={out}", f"tune.trials={_OVERHEAD_TRIALS}", f"train.epochs={epochs}")
    return overhead_rows(pd.read_parquet(out / "trials.parquet"), wall, at_once=2)


def overhead_rows(trials: pd.DataFrame, wall_s: float, at_once: int) -> list[str]:
    """The table: what the training took, side by side, and what the command took."""
    seconds = trials["train_seconds"]
    training = seconds.sum() / at_once
    return [
        "| trials | at a time | training and validation of a trial, s | all of them side by side, s | wall, s | overhead |",
        "|---:|---:|---:|---:|---:|---:|",
        f"| {len(trials)} | {at_once} | {seconds.min():.0f}–{seconds.max():.0f} | {training:.0f} | {wall_s:.0f} | {wall_s / training - 1:.1%} |",
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", action="store_true", help="train five searches")
    parser.add_argument("--overhead", action="store_true", help="what a search costs beyond its training")
    parser.add_argument("--work", type=Path, default=Path("tune"))
    parser.add_argument("--data", type=Path, default=default_data())
    given = parser.parse_args(arguments)
    lookup = Lookup.read(LOOKUP)
    if (given.real or given.overhead) and not (given.work / "dataset/manifest.json").exists():
        prepare(load_job(JOB, places(given.data, given.work)), Quiet())
    rows: list[Any] = (
        real(lookup, given.data, given.work) if given.real
        else overhead(given.data, given.work) if given.overhead
        else replays(lookup)
    )  # fmt: skip
    print("\n".join(rows))


if __name__ == "__main__":
    main()
