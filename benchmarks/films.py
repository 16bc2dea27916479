"""Preparation of films: films/s of one core beside decode + resize with Pillow, and memory over the number of films.

    python benchmarks/films.py [--originals ../shared/data/nih-originals/images] [--films 2000] [--times 10]

First table: each film is read from disk to the 256-px film that is stored. Ours checks, decodes, hashes, resizes
and encodes it; the others decode and resize it, and no more. Contenders take turns over the same files; the table gives
the median of the rounds. Second table: `ray-cxr prepare` in a process of its own, over N and over 10 N films of 256 px;
shards are small (8 MiB), for a core that writes one needs some times its size, and 1,500 films would not fill one of the
usual 64 MiB; memory is the peak of the proportional set size (PSS) of the process and all below it, so what they share counts once.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import psutil
from PIL import Image

from ray_cxr.films.phantom import draw_phantom
from ray_cxr.films.store import film_row
from ray_cxr.labels.phantom import phantom_table

STORED_PX = 256
ORIGINALS = "../shared/data/nih-originals/images"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--originals", type=Path, default=Path(ORIGINALS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--times", type=int, default=10)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(prefix="ray-cxr-films-") as scratch:
        folder = Path(scratch)
        sets = {"drawn, 1024 px, gray PNG": drawn_films(folder / "large", 16, 1024)}
        if arguments.originals.is_dir():
            originals = sorted(arguments.originals.glob("*.png"))
            sets |= {f"NIH as published, 1024 px, {len(originals)} films (4 RGBA)": originals}
        print_speed(sets, arguments.rounds)
        print_memory(folder, arguments.films, arguments.times)


def drawn_films(folder: Path, count: int, image_px: int) -> list[Path]:
    """PNG files of drawn chest films, with a detector's noise."""
    folder.mkdir(parents=True)
    files = []
    for number, locator in enumerate(phantom_table(count, 0)["locator"].tolist()[:count]):
        files.append(folder / f"{number:06d}.png")
        Image.fromarray(draw_phantom(locator, image_px)).save(files[-1])
    return files


def ours(path: Path) -> object:
    return film_row("film", str(path), STORED_PX, "htj2k")["film"]


def pillow(path: Path) -> object:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return np.asarray(image.convert("L").resize((STORED_PX, STORED_PX), Image.Resampling.BILINEAR))


def opencv(path: Path) -> object:
    film = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert film is not None
    return cv2.resize(film, (STORED_PX, STORED_PX), interpolation=cv2.INTER_AREA)


CONTENDERS: dict[str, Callable[[Path], object]] = {
    "ray_cxr: check, decode, hash, resize, encode": ours,
    "Pillow: decode, resize": pillow,
    "OpenCV: decode, resize": opencv,
}


def print_speed(sets: dict[str, list[Path]], rounds: int) -> None:
    cv2.setNumThreads(1)
    print(f"| films/s of one core, to {STORED_PX} px | " + " | ".join(sets) + " |")
    print("|---" + "|---:" * len(sets) + "|")
    rates: dict[str, list[str]] = {name: [] for name in CONTENDERS}
    for files in sets.values():
        taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, contender in CONTENDERS.items():
                begun = time.process_time()
                for path in files:
                    contender(path)
                taken[name].append(time.process_time() - begun)
        for name, seconds in taken.items():
            rates[name].append(f"{len(files) / statistics.median(seconds):.0f}")
    for name, figures in rates.items():
        print(f"| {name} | " + " | ".join(figures) + " |")


def print_memory(folder: Path, films: int, times: int) -> None:
    print("\n| films | by | seconds in all | memory, MiB | of it Ray's object store, MiB |")
    print("|---:|---|---:|---:|---:|")
    drawn = drawn_films(folder / "small", 200, 256)
    for engine in ("threads", "ray"):
        for count in (films, films * times):
            source = make_source(folder / f"source-{count}", drawn, count)
            seconds, peak, store = watched_prepare(source, folder / f"{engine}-{count}", engine)
            print(f"| {count:,} | {engine} | {seconds:.0f} | {peak:,.0f} | {store:,.0f} |")


def make_source(folder: Path, drawn: Sequence[Path], count: int) -> Path:
    """A label table and `count` films: links to the drawn ones, each a film of its own to `prepare`."""
    if folder.exists():
        return folder
    (folder / "images").mkdir(parents=True)
    rows = ["image,patient,Mass"]
    for number in range(count):
        os.link(drawn[number % len(drawn)], folder / f"images/{number:06d}.png")
        rows.append(f"{number:06d}.png,{number // 2},{number % 7 == 0:d}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


def watched_prepare(source: Path, dataset: Path, engine: str) -> tuple[float, float, float]:
    """Seconds, peak PSS of all processes, and peak of the shared memory of Ray's object store (MiB)."""
    job = source.parent / "job.yaml"
    job.write_text("{}")
    command = [
        sys.executable, "-m", "ray_cxr", "prepare", str(job), "source.kind=csv", f"source.labels={source}/labels.csv",
        f"source.images={source}/images", "source.pseudonymise=false", f"dataset={dataset}",
        "shards.image_px=128", "shards.shard_mib=8", f"shards.engine={engine}", "--json",
    ]  # fmt: skip
    with open(dataset.with_suffix(".log"), "w") as log:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    peak = store = 0.0
    while process.poll() is None:
        now, stored = memory_below(process.pid)
        peak, store = max(peak, now), max(store, stored)
        time.sleep(0.1)
    seconds = time.monotonic() - begun
    text = dataset.with_suffix(".log").read_text()
    assert process.returncode == 0, text
    result = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    assert result["films"]["kept"] == 0
    return seconds, peak / 2**20, store / 2**20


def memory_below(pid: int) -> tuple[float, float]:
    """Bytes: PSS of the process and all below it; shared memory of its raylet, the pages of the object store in use."""
    total = stored = 0.0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    for process in processes:
        try:
            total += process.memory_full_info().pss
            if "raylet" in process.name():
                stored = float(process.memory_info().shared)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total, stored


if __name__ == "__main__":
    main()
