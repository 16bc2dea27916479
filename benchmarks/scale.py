"""Scale on paper: what 1, 8, 64 and 512 GPUs need of storage, CPUs and network, and what planning takes of a rank.

    python benchmarks/scale.py needs --gpu-images-per-s 500 1000 2000
    python benchmarks/scale.py stream --work DIR
    python benchmarks/scale.py planning --films 10000000 --ranks 512 --work DIR

`needs` computes: its inputs are measured figures, those of docs/scale.md unless others are given, and one assumption, the films that a
GPU trains a second (`train_gpu.py` measures it where there is one). `stream` measures the first of these inputs; DIR is that of
stream.py. `planning` measures the planning of an epoch with as many films; DIR is where their index is made once, 2 GB for 10 million.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from scale_needs import Inputs, all_reduce_s, epoch, films_that_hide, needs, read_twice

GPUS = (1, 8, 64, 512)
LINKS_GBIT = (25, 50, 100, 200)
BACKBONES = ("tf_efficientnet_lite0", "densenet121", "resnet50", "convnext_tiny")
CORE = "augmented on the CPU=4800", "`augment_on: device`=8200", "`cache: node`, augmented on the CPU=10100"
"""Images/s of a core: `stream`, medians of three runs (docs/scale.md)."""
FILM_BYTES, REQUESTS = 29_700.0, 3
"""Of a film as it is read: 27,600 of 100 NIH films (docs/stream.md, codecs), and its part of what Parquet reads beside them; of a row
group, for its shard's size, what lies where in it, and itself. `stream`."""


def main() -> None:
    arguments = parsed(sys.argv[1:])
    arguments.run(arguments)


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("needs")
    sub.set_defaults(run=print_needs)
    sub.add_argument("--gpu-images-per-s", type=float, nargs="+", required=True, help="assumed, not measured")
    sub.add_argument("--gpus", type=int, nargs="+", default=list(GPUS))
    sub.add_argument("--films", type=int, default=10_000_000)
    sub.add_argument("--film-bytes", type=float, default=FILM_BYTES)
    sub.add_argument("--core-images-per-s", nargs="+", default=list(CORE), metavar="WAY=NUMBER")
    sub.add_argument("--requests", type=int, default=REQUESTS, help="of storage, for a row group")
    sub.add_argument("--rows-per-group", type=int, default=32)
    sub.add_argument("--films-a-gpu", type=int, nargs="+", default=[8, 32, 128], help="of a step")
    sub.add_argument("--links", type=float, nargs="+", default=list(LINKS_GBIT), help="Gb/s")
    sub.add_argument("--backbones", nargs="*", default=list(BACKBONES))
    sub = commands.add_parser("stream")
    sub.set_defaults(run=print_stream)
    sub.add_argument("--work", type=Path, default=Path("benchmark-stream"))
    sub.add_argument("--seconds", type=float, default=10)
    sub.add_argument("--one", help=argparse.SUPPRESS)
    sub.add_argument("--shuffle-mib", type=int, default=256, help=argparse.SUPPRESS)
    sub = commands.add_parser("planning")
    sub.set_defaults(run=print_planning)
    sub.add_argument("--films", type=int, default=10_000_000)
    sub.add_argument("--ranks", type=int, default=512)
    sub.add_argument("--films-a-rank", type=int, default=8, help="of a step")
    sub.add_argument("--work", type=Path, default=Path("benchmark-scale"))
    sub.add_argument("--one", choices=("make", "opening", "rank"), help=argparse.SUPPRESS)
    return parser.parse_args(words)


def print_needs(arguments: argparse.Namespace) -> None:
    ways = {
        name: float(number) for name, _, number in (w.rpartition("=") for w in arguments.core_images_per_s)
    }
    inputs = Inputs(arguments.film_bytes, ways, arguments.requests, arguments.rows_per_group)
    print_rates(arguments, inputs)
    print_epochs(arguments)
    if arguments.backbones:
        print_networks(arguments)


def print_rates(arguments: argparse.Namespace, inputs: Inputs) -> None:
    print(f"A film has {inputs.film_bytes:,.0f} bytes, a row group {inputs.rows_per_group} films.\n")
    print(
        f"| GPUs | images/s of a GPU (assumed) | images/s | from storage, GB/s | requests/s | {' | '.join(f'cores, {w}' for w in inputs.core_images_per_s)} |"
    )
    print("|" + "---:|" * (5 + len(inputs.core_images_per_s)))
    for rate in arguments.gpu_images_per_s:
        for gpus in arguments.gpus:
            n = needs(gpus, rate, inputs)
            cores = " | ".join(f"{c:,.1f}" for c in n.cores.values())
            print(
                f"| {gpus} | {rate:,.0f} | {n.images_per_s:,.0f} | {n.storage_gb_per_s:.2f} | {n.requests_per_s:,.0f} | {cores} |"
            )


def print_epochs(arguments: argparse.Namespace) -> None:
    print(f"\nEpochs of {arguments.films:,} films:\n")
    rates = arguments.gpu_images_per_s
    print(
        f"| GPUs | films of a GPU in a step | batch | ranks at most | row groups read twice, at most | steps | {' | '.join(f's at {r:,.0f} images/s' for r in rates)} |"
    )
    print("|" + "---:|" * (6 + len(rates)))
    for gpus in arguments.gpus:
        for films_a_gpu in arguments.films_a_gpu:
            found = [epoch(arguments.films, gpus, films_a_gpu, rate) for rate in rates]
            twice = read_twice(arguments.films, found[0].batch, arguments.rows_per_group)
            seconds = " | ".join(f"{e.seconds:,.0f}" for e in found)
            print(
                f"| {gpus} | {films_a_gpu} | {found[0].batch:,} | {found[0].streams:,} | {twice:.2%} | {found[0].steps:,} | {seconds} |"
            )


def print_networks(arguments: argparse.Namespace) -> None:
    from scale_networks import count

    networks = [count(name) for name in arguments.backbones]
    print(
        "\n| backbone | all-reduced in a step, MB | batch statistics sent in a step, MB | checkpoint, MB | forward, GFLOP a film |"
    )
    print("|---|---:|---:|---:|---:|")
    for n in networks:
        print(
            f"| `{n.backbone}` | {n.gradient_bytes / 1e6:.1f} | {n.buffer_bytes / 1e6:.2f} | {n.checkpoint_bytes / 1e6:.1f} | {n.forward_gflop:.1f} |"
        )
    members, rates = max(arguments.gpus), arguments.gpu_images_per_s
    print(
        f"\nRing all-reduce among {members}, by bandwidth alone, and the films a GPU needs in a step for the backward pass to hide it:\n"
    )
    print(
        f"| backbone | Gb/s | ms | {' | '.join(f'films at {r:,.0f} images/s' for r in rates)} |\n|---|---:|---:|"
        + "---:|" * len(rates)
    )
    for n in networks:
        for link in arguments.links:
            took = all_reduce_s(members, n.gradient_bytes, link)
            films = " | ".join(f"{films_that_hide(took, r):.1f}" for r in rates)
            print(f"| `{n.backbone}` | {link:g} | {1e3 * took:.1f} | {films} |")


def print_stream(arguments: argparse.Namespace) -> None:
    from scale_stream import WAYS, WINDOWS_MIB, core_images_per_s, storage

    if arguments.one:
        way = WAYS[arguments.one]
        print(json.dumps(core_images_per_s(arguments.work, way, arguments.seconds, arguments.shuffle_mib)))
        return
    s = storage(arguments.work)
    print(
        f"a row group of {s['films']} films: {s['encoded_bytes']:,} bytes, read as {s['bytes']:,} bytes in {s['requests']} parts\n"
    )
    print("| way | images/s of a core | images/s of this machine |\n|---|---:|---:|")
    same = ["stream", "--work", arguments.work, "--seconds", arguments.seconds]
    for way in WAYS:
        found = in_a_process_of_its_own([*same, "--one", way])
        print(f"| {way} | {found['of_a_core']:,.0f} | {found['of_the_machine']:,.0f} |", flush=True)
    print("\n| films in a window | images/s of a core | images/s of this machine |\n|---:|---:|---:|")
    for mib in WINDOWS_MIB:
        found = in_a_process_of_its_own([*same, "--one", next(iter(WAYS)), "--shuffle-mib", mib])
        print(
            f"| {found['window']:,.0f} | {found['of_a_core']:,.0f} | {found['of_the_machine']:,.0f} |",
            flush=True,
        )


def print_planning(arguments: argparse.Namespace) -> None:
    from scale_planning import made, of_a_rank, opening

    if arguments.one:
        folder = made(arguments.work, arguments.films)
        took, told = [], {}
        if arguments.one == "opening":
            took = opening(folder)
        if arguments.one == "rank":
            took, told = of_a_rank(folder, arguments.ranks, arguments.ranks * arguments.films_a_rank)
        print(json.dumps({"parts": [asdict(t) for t in took], "told": told}))
        return
    same = [
        "planning",
        "--films",
        arguments.films,
        "--ranks",
        arguments.ranks,
        "--films-a-rank",
        arguments.films_a_rank,
        "--work",
        arguments.work,
    ]
    in_a_process_of_its_own([*same, "--one", "make"])
    for one in ("opening", "rank"):
        found = in_a_process_of_its_own([*same, "--one", one])
        print(
            "| part | seconds | CPU seconds | grows by at most, MiB | keeps, MiB |\n|---|---:|---:|---:|---:|"
        )
        for t in found["parts"]:
            print(
                f"| {t['part']} | {t['seconds']:.2f} | {t['cpu_s']:.2f} | {t['peak_mib']:,.0f} | {t['kept_mib']:,.0f} |",
                flush=True,
            )
        print(
            "".join(
                f"\n{what}: {value if isinstance(value, str) else format(value, ',.0f')}"
                for what, value in found["told"].items()
            )
        )


def in_a_process_of_its_own(words: list[object]) -> dict:
    """Calls this script again; gives the JSON object that it prints last. One part's memory would else be another's."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: ended with {done.returncode}")
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
