"""Training beside a loop by hand and beside Lightning: films/s, memory, and the seconds until the first step.

    python benchmarks/train.py --films 8000 --times 5 --rounds 6 --repeats 3 --work DIR

Draws films once into DIR. Films/s: all ways to train are started, and then take turns of a few seconds, while the
processes of all others stand still; so what slows the machine down for a minute slows all of them. Some processes are
faster than others of the same way, for as long as they live, so this is done several times. Validation comes at the end
of an epoch, which nobody reaches. Needs, beside ray_cxr: pip install lightning.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import train_loops
from numpy.typing import NDArray
from stream import proportional_mib

WAYS = ["ours 0", "ours 1", "ours 2", "by hand", "Lightning"]
NAMES = {
    "ours 0": "**ray_cxr**, `train.workers=0`",
    "ours 1": "**ray_cxr**, 1 Ray worker",
    "ours 2": "**ray_cxr**, 2 Ray workers",
    "by hand": "PyTorch by hand, DataLoader",
    "Lightning": "Lightning, DataLoader",
}
HERE = Path(__file__).parent
MARK = "RAY_CXR_BENCHMARK_WAY"
"""In the environment of all processes of a way, Ray's too."""
WARM_STEPS = 20
LONGEST_START_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=8000)
    parser.add_argument("--times", type=int, default=5, help="how often all ways are started, for films/s")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each way then")
    parser.add_argument("--turn-s", type=float, default=5.0)
    parser.add_argument(
        "--repeats",
        type=int,
        default=3,
        help="starts, for the seconds until the first step; with --films 300 they end soon",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("benchmark-train"))
    parser.add_argument("--only", nargs="*", default=WAYS, choices=WAYS)
    parser.add_argument("--rates-only", action="store_true", help="only films/s")
    parser.add_argument("--start-only", action="store_true", help="only the seconds until the first step")
    arguments = parser.parse_args()
    prepare(arguments.work, arguments.films)
    print(
        f"{arguments.times} times {arguments.rounds} rounds of {arguments.turn_s:g} s, {arguments.repeats} starts, {platform.machine()}, "
        f"{os.cpu_count()} cores; "
        f"{train_loops.BACKBONE} at {train_loops.IMAGE_PX} px, batch {train_loops.BATCH}\n"
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


@dataclass
class Runner:
    """A way to train, which runs only in its turns."""

    way: str
    process: subprocess.Popen[bytes]
    count: Path
    rates: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    known: list[psutil.Process] = field(default_factory=list)

    def steps(self) -> int:
        found: int = struct.unpack("q", self.count.read_bytes())[0]
        return found

    def processes(self) -> list[psutil.Process]:
        mine = (self.way, str(os.getpid()))
        return [
            p for p in psutil.process_iter(["environ"])
            if tuple((p.info["environ"] or {}).get(MARK, "").split("/")) == mine
        ]  # fmt: skip

    def tell(self, number: int) -> None:
        """Sends a signal to all its processes, which are looked up anew unless they stand still."""
        if number != signal.SIGCONT:
            self.known = self.processes()
        for process in self.known:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def turn(self, seconds: float) -> None:
        """Lets it train for so long; the steps at both ends are counted as they end."""
        before, started = self.steps(), time.perf_counter()
        self.tell(signal.SIGCONT)
        time.sleep(seconds)
        done, took = self.steps() - before, time.perf_counter() - started
        self.tell(signal.SIGSTOP)
        if self.process.poll() is not None or done == 0:
            sys.exit(f"{self.way}: no step in a turn of {seconds:g} s")
        self.rates.append(done * train_loops.BATCH / took)
        self.peak_mib = max(self.peak_mib, sum(map(proportional_mib, self.known)))


def started(way: str, arguments: argparse.Namespace, folder: Path) -> Runner:
    """A way to train, stopped after its first steps."""
    count = folder / f"{way.replace(' ', '-')}.count"
    count.write_bytes(bytes(8))
    command = [
        sys.executable, str(HERE / "train_loops.py"), way, str(arguments.work), str(arguments.films), str(arguments.threads), str(count),
    ]  # fmt: skip
    environment = os.environ | {MARK: f"{way}/{os.getpid()}"}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    runner, until = Runner(way, process, count), time.monotonic() + LONGEST_START_S
    while runner.steps() < WARM_STEPS:
        if process.poll() is not None or time.monotonic() > until:
            runner.tell(signal.SIGKILL)
            sys.exit(f"{way} has not trained: {(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.1)
    runner.tell(signal.SIGSTOP)
    return runner


def print_rates(arguments: argparse.Namespace) -> None:
    """Films/s in turns, and as a share of the loop by hand at the same time."""
    rates: dict[str, list[list[float]]] = {way: [] for way in arguments.only}
    peak_mib = dict.fromkeys(arguments.only, 0.0)
    for time_ in range(arguments.times):
        for runner in in_turns(arguments, time_):
            rates[runner.way].append(runner.rates)
            peak_mib[runner.way] = max(peak_mib[runner.way], runner.peak_mib)
        print(json.dumps({way: own[-1] for way, own in rates.items()}), file=sys.stderr)
    print_table({way: np.array(own) for way, own in rates.items()}, peak_mib)


def in_turns(arguments: argparse.Namespace, time_: int) -> list[Runner]:
    """All ways, after they have trained in turns; each time another is started first."""
    runners: list[Runner] = []
    first = time_ % len(arguments.only)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for way in [*arguments.only[first:], *arguments.only[:first]]:
                runners.append(started(way, arguments, Path(folder)))
                print(f"{way} has begun", file=sys.stderr)
            for number in range(arguments.rounds):
                for runner in runners if number % 2 else reversed(runners):
                    runner.turn(arguments.turn_s)
        finally:
            for runner in runners:
                runner.tell(signal.SIGKILL)
                runner.process.wait()
    for run in arguments.work.glob("run-*"):
        shutil.rmtree(run, ignore_errors=True)
    return runners


def print_table(rates: dict[str, NDArray[np.float64]], peak_mib: dict[str, float]) -> None:
    """Mean films/s [times, rounds], and the share of the loop by hand with the middle 95 % of draws."""
    print("| | films/s | × by hand | peak MiB |\n|---|---:|---:|---:|")
    for way, own in rates.items():
        ratio = "–"
        if "by hand" in rates:
            hand = rates["by hand"]
            low, high = np.quantile(drawn_shares(own, hand), (0.025, 0.975))
            ratio = f"{own.sum() / hand.sum():.2f} ({low:.2f} to {high:.2f})"
        print(f"| {NAMES[way]} | {own.mean():.0f} | {ratio} | {peak_mib[way]:,.0f} |")
    print()


def drawn_shares(own: NDArray[np.float64], hand: NDArray[np.float64]) -> NDArray[np.float64]:
    """[4000] the share in draws with replacement of as many times, and of as many rounds in each."""
    draw, (times, rounds) = np.random.default_rng(0), own.shape
    which = draw.integers(0, times, (4000, times, 1)), draw.integers(0, rounds, (4000, times, rounds))
    return np.asarray(own[which].sum(axis=(1, 2)) / hand[which].sum(axis=(1, 2)))


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
