"""The stream beside what people use now: images/s, start-up and memory, side by side in one run.

    python benchmarks/stream.py --films 4000 --repeats 3 --work DIR

Draws films as published (1024-px PNG of radiograph-like entropy) once into DIR, prepares them, and feeds every
contender the same films, batch and augmentation (rotation, shift, zoom, brightness, contrast to 224 px). Each contender
runs in a process of its own, in turn, so that none warms the other's caches; the table gives the median. Needs, beside
ray_cxr: pip install webdataset mosaicml-streaming litdata.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from stream_contenders import CONTENDERS
from stream_films import make_films

BATCH = 32
IMAGE_PX = 224
WARM_S = 5, 10
"""Shortest and longest warm-up of a contender: the slowest take a minute for an epoch."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=10, help="how long each contender is measured")
    parser.add_argument("--work", type=Path, default=Path("benchmark-stream"))
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--one", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.work, arguments.threads, arguments.seconds)))
        return
    make_films(arguments.work, arguments.films, arguments.threads)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.only}
    for _ in range(arguments.repeats):
        for name in arguments.only:
            runs[name].append(in_a_process_of_its_own(name, arguments))
            print(name, runs[name][-1], file=sys.stderr)
    print_table(runs, arguments)


def measure(name: str, work: Path, threads: int, seconds: float) -> dict[str, float]:
    """Runs one contender here, epoch after epoch until the time ends: seconds to the first batch, then images/s.

    Measured after the first epoch, within the limits of WARM_S: processes that are still being started, and what is done once only,
    would count for more than in a training. The time between epochs counts. epoch_s: median time to the first batch of an
    epoch after the first one.
    """
    started = time.perf_counter()
    epochs = CONTENDERS[name](work, threads, BATCH, IMAGE_PX)
    batches = epochs(1)
    assert next(batches) == BATCH
    first_batch = begun = time.perf_counter()
    films, waits, epoch, warm = 0, [], 1, False
    while not warm or time.perf_counter() - begun < seconds:
        size = next(batches, None)
        ran, (shortest, longest) = time.perf_counter() - first_batch, WARM_S
        if not warm and ran > shortest and (size is None or ran > longest):
            begun, films, warm = time.perf_counter(), 0, True
        if size is None:
            epoch, asked = epoch + 1, time.perf_counter()
            batches = epochs(epoch)
            size = next(batches)
            waits.append(time.perf_counter() - asked)
        films += size
    images_per_s = films / (time.perf_counter() - begun)
    wait = statistics.median(waits) if waits else math.nan
    return {"start_s": first_batch - started, "images_per_s": images_per_s, "epoch_s": wait, "films": films}


def in_a_process_of_its_own(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Runs a contender alone; adds the most memory that it and its children held together."""
    command = [
        sys.executable, __file__, "--one", name, "--work", str(arguments.work), "--threads", str(arguments.threads),
        "--seconds", str(arguments.seconds),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = [0.0]
        watcher = threading.Thread(target=watch_memory, args=(process.pid, peak), daemon=True)
        watcher.start()
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        sys.exit(f"{name} ended with {process.returncode}")
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result | {"peak_mib": peak[0]}


def watch_memory(pid: int, peak: list[float]) -> None:
    """Sum of the proportional set sizes (shared pages counted once) of a process and its children.

    Up to four times a second, once where the kernel takes long to count many processes: it stops them meanwhile.
    """
    try:
        root = psutil.Process(pid)
        while root.is_running():
            began, processes = time.perf_counter(), [root, *root.children(recursive=True)]
            peak[0] = max(peak[0], sum(map(proportional_mib, processes)))
            time.sleep(min(max(0.25, 50 * (time.perf_counter() - began)), 1.0))
    except psutil.NoSuchProcess:
        return


def proportional_mib(process: psutil.Process) -> float:
    """From the kernel's own sum; psutil adds up every mapping, which takes a tenth of a core here."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def print_table(runs: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    median = {
        name: {key: statistics.median(run[key] for run in of) for key in of[0]} for name, of in runs.items()
    }
    of = {
        name: median[name]["images_per_s"] if name in median else math.nan
        for name in ("pillow_published", "bare_limit")
    }
    print(
        f"\n{arguments.films} films, batch {BATCH}, {IMAGE_PX} px, {arguments.threads} threads or processes, "
        f"median of {arguments.repeats}; {platform.processor() or platform.machine()}, {os.cpu_count()} cores\n"
    )
    print(
        "| way | images/s | × Pillow over published files | of the bare limit | first batch s | of later epochs s | peak MiB |\n"
        "|---|---:|---:|---:|---:|---:|---:|"
    )
    for name, m in sorted(median.items(), key=lambda item: -item[1]["images_per_s"]):
        speed = m["images_per_s"]
        print(
            f"| {CONTENDERS[name].__doc__} | {speed:,.0f} | {figure(speed / of['pillow_published'], '.1f')} | "
            f"{figure(speed / of['bare_limit'], '.0%')} | {m['start_s']:.1f} | {figure(m['epoch_s'], '.2f')} | "
            f"{m['peak_mib']:,.0f} |"
        )


def figure(value: float, how: str) -> str:
    return "–" if math.isnan(value) else format(value, how)


if __name__ == "__main__":
    main()
