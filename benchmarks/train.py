"""Training beside a loop by hand and beside Lightning: films/s, memory, and the seconds until the first step.

    python benchmarks/train.py --films 1500 --repeats 3 --work DIR

Draws films once into DIR. Each way to train has a process of its own, in turn; the tables give medians. Needs, beside
ray_cxr: pip install lightning.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
from pathlib import Path

import train_loops
from stream import watch_memory

WAYS = ["ours 0", "ours 1", "ours 2", "by hand", "Lightning"]
NAMES = {
    "ours 0": "**ray_cxr**, `train.workers=0`",
    "ours 1": "**ray_cxr**, 1 Ray worker",
    "ours 2": "**ray_cxr**, 2 Ray workers",
    "by hand": "PyTorch by hand, DataLoader",
    "Lightning": "Lightning, DataLoader",
}
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("benchmark-train"))
    parser.add_argument("--only", nargs="*", default=WAYS, choices=WAYS)
    parser.add_argument("--rates-only", action="store_true", help="only films/s")
    parser.add_argument("--start-only", action="store_true", help="only the seconds until the first step")
    arguments = parser.parse_args()
    prepare(arguments.work, arguments.films)
    print(
        f"{arguments.repeats} rounds, {platform.machine()}, {os.cpu_count()} cores; {train_loops.BACKBONE} at "
        f"{train_loops.IMAGE_PX} px, batch {train_loops.BATCH}\n"
    )
    if not arguments.start_only:
        print_rates(arguments)
    if not arguments.rates_only:
        print_starts(arguments)


def prepare(work: Path, films: int) -> None:
    from ray_cxr.cli.work import run_prepare

    job = train_loops.job(work, films, 0, "run")
    if not (Path(job.dataset) / "manifest.json").exists():
        run_prepare(job)
    train_loops.export_films(work, films)


def print_rates(arguments: argparse.Namespace) -> None:
    """Films/s of the epochs after the first, as a share of the loop by hand within the same round."""
    rounds = []
    for number in range(arguments.repeats):
        rounds.append({way: in_a_process_of_its_own(way, arguments) for way in arguments.only})
        print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr)
    print("| | films/s | × by hand | peak MiB |\n|---|---:|---:|---:|")
    for way in arguments.only:
        rates = [r[way]["films_per_s"] for r in rounds]
        ratio = "–"
        if "by hand" in arguments.only:
            ratio = f"{statistics.median(r[way]['films_per_s'] / r['by hand']['films_per_s'] for r in rounds):.2f}"
        peak = statistics.median(r[way]["peak_mib"] for r in rounds)
        print(f"| {NAMES[way]} | {statistics.median(rates):.0f} | {ratio} | {peak:,.0f} |")
    print()


def in_a_process_of_its_own(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [
        sys.executable, str(HERE / "train_loops.py"), way, str(arguments.work), str(arguments.films), str(arguments.threads),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = [0.0]
        threading.Thread(target=watch_memory, args=(process.pid, peak), daemon=True).start()
        assert process.stdout is not None
        output = process.stdout.read()
    for run in arguments.work.glob("run-*"):
        shutil.rmtree(run)
    if process.returncode:
        sys.exit(f"{way} ended with {process.returncode}")
    rates = json.loads(output.splitlines()[-1])
    return {"films_per_s": statistics.median(rates[1:]), "peak_mib": peak[0]}


def print_starts(arguments: argparse.Namespace) -> None:
    """Seconds from the command to the first step, and when each part of the way was done."""
    for workers in (0, 1, 2):
        found = [start(arguments, workers) for _ in range(arguments.repeats)]
        marks = {name: statistics.median(f[name] for f in found) for name in found[0]}
        print(f"\n| `train.workers={workers}`: done | after s |\n|---|---:|")
        for name, at in sorted(marks.items(), key=lambda item: item[1]):
            print(f"| {name} | {at:.1f} |")


def start(arguments: argparse.Namespace, workers: int) -> dict[str, float]:
    out = arguments.work / "run-start"
    shutil.rmtree(out, ignore_errors=True)
    job = arguments.work / "start.yaml"
    from ray_cxr.config import to_yaml

    job.write_text(to_yaml(train_loops.job(arguments.work, arguments.films, workers, "run-start")))
    command = [sys.executable, str(HERE / "train_start.py"), str(job), f"train.workers={workers}", "train.epochs=1"]  # fmt: skip
    output = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout
    found = json.loads(output.splitlines()[-1])
    if found["exit_code"]:
        sys.exit(f"train.workers={workers} ended with {found['exit_code']}: {output}")
    marks: dict[str, float] = found["marks"]
    return marks


if __name__ == "__main__":
    main()
