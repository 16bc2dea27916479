"""What saving inside an epoch costs a training: `train.checkpoint_every_steps`.

    python benchmarks/checkpoints.py --work DIR

DIR is that of benchmarks/stream.py. Trains on its films, in turns of some steps without saving and with one checkpoint begun
at the first of them, and compares what a turn takes: seconds, and CPU time of all threads, which other programs change less.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path

from ray_cxr.job import load_job
from ray_cxr.train.epoch import prepare_epoch, train_step
from ray_cxr.train.session import Session, open_session
from ray_cxr.train.worker import Worker

INTERVALS = (10, 50, 100, 200)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("benchmark-stream"))
    parser.add_argument("--backbone", default="resnet34")
    parser.add_argument("--steps", type=int, default=6, help="of a turn")
    parser.add_argument("--turns", type=int, default=4, help="with saving, and as many without")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    s = opened(arguments)
    turns: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    batches = iter(s.train_stream.train(plan := s.train_stream.plan(1)))
    begin = []
    for turn in range(-1, 2 * arguments.turns):
        saving = turn % 2 == 1
        wall, cpu = time.perf_counter(), time.process_time()
        for step in range(arguments.steps):
            train_step(s, plan, step, next(batches))
            s.state.step += 1
            if saving and step == 0:
                mark = time.perf_counter()
                s.save()
                begin.append(time.perf_counter() - mark)
        s.saver.wait()
        if turn >= 0:  # the first one warms up
            turns[saving].append((time.perf_counter() - wall, time.process_time() - cpu))
    print_tables(arguments, s, turns, begin)
    s.close()
    shutil.rmtree(arguments.work / "run-checkpoints")


def opened(arguments: argparse.Namespace) -> Session:
    job = load_job(
        None,
        [
            f"dataset={arguments.work / 'dataset'}", f"out={arguments.work / 'run-checkpoints'}",
            f"model.backbone={arguments.backbone}", "model.weights=none", "train.ema_decay=0.999", "findings=[Mass]",
        ],
    )  # fmt: skip
    s = open_session(job, Worker(threads=arguments.threads))
    prepare_epoch(s, 1)
    s.ddp.train()
    return s


def print_tables(
    arguments: argparse.Namespace,
    s: Session,
    turns: dict[bool, list[tuple[float, float]]],
    begin: list[float],
) -> None:
    size = sum(
        f.stat().st_size for f in next((arguments.work / "run-checkpoints/checkpoints").iterdir()).iterdir()
    )
    wall, cpu = (
        [statistics.median(turn[n] for turn in turns[saving]) for saving in (False, True)] for n in (0, 1)
    )
    print(
        f"{arguments.backbone}, batch {s.recipe.stream.batch_size}, {s.recipe.stream.image_px} px, {arguments.threads} threads; "
        f"a checkpoint has {size / 2**20:,.0f} MiB; medians of {arguments.turns} turns of {arguments.steps} steps\n"
    )
    print("| | without | with one checkpoint | its cost |\n|---|---:|---:|---:|")
    for what, (without, with_one) in (("seconds of a turn", wall), ("CPU seconds of a turn", cpu)):
        print(f"| {what} | {without:.2f} | {with_one:.2f} | {with_one - without:.2f} |")
    print(f"| seconds until training goes on | | {statistics.median(begin):.3f} | |\n")
    print("| `train.checkpoint_every_steps` | of step time | of CPU time |\n|---:|---:|---:|")
    for every in INTERVALS:
        of = [(pair[1] - pair[0]) / (pair[0] / arguments.steps * every) for pair in (wall, cpu)]
        print(f"| {every} | {of[0]:.1%} | {of[1]:.1%} |")


if __name__ == "__main__":
    main()
