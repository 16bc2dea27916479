"""Memory of the stream: with 1×, 4× and 16× the films, and with a consumer that is too slow.

    python benchmarks/stream_memory.py --work DIR

DIR is that of benchmarks/stream.py. Larger data sets are its shards linked under other names, so every film is read and
decoded. Each figure comes from a process of its own: the most memory that it and its children hold together (PSS), an epoch
long, and with Ray what its object store holds and has written to disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
from stream import BATCH, IMAGE_PX, watch_memory

from ray_cxr.heap import keep_freed_memory
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream

STORE_MIB = 300
"""Ray's object store: smaller than the films."""
SLOW_S = 30
"""How long the slow consumer takes for its second batch."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("benchmark-stream"))
    parser.add_argument("--shuffle-mib", type=int, default=32)
    parser.add_argument("--times", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, times = arguments.one
        print(json.dumps(stream_through(arguments.work, way, int(times), arguments.shuffle_mib)))
        return
    print(
        f"stream.shuffle_mib: {arguments.shuffle_mib}, batch {BATCH}, {IMAGE_PX} px; object store {STORE_MIB} MiB\n\n"
        "| films | read by | encoded, MiB | peak, MiB | object store at most, MiB | spilled, MiB |\n|---:|---|---:|---:|---:|---:|"
    )
    for way in ("in one process", "Ray Data", "Ray Data, slow consumer"):
        for times in arguments.times if "slow" not in way else arguments.times[-1:]:
            print_row(way, in_a_process_of_its_own(arguments, way, times))


def print_row(way: str, found: dict[str, float]) -> None:
    store = f"{found['store_mib']:,.0f} | {found['spilled_mib']:,.0f}" if "store_mib" in found else "– | –"
    print(
        f"| {found['films']:,} | {way} | {found['encoded_mib']:,.0f} | {found['peak_mib']:,.0f} | {store} |",
        flush=True,
    )


def in_a_process_of_its_own(arguments: argparse.Namespace, way: str, times: int) -> dict[str, float]:
    command = [
        sys.executable, __file__, "--work", str(arguments.work), "--shuffle-mib", str(arguments.shuffle_mib),
        "--one", way, str(times),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = [0.0]
        threading.Thread(target=watch_memory, args=(process.pid, peak), daemon=True).start()
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        sys.exit(f"{way}, {times}×: ended with {process.returncode}")
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found | {"peak_mib": peak[0]}


def stream_through(work: Path, way: str, times: int, shuffle_mib: int) -> dict[str, float]:
    """One epoch over `times` the films; of the slow consumer, the first batches."""
    keep_freed_memory()  # as a training does
    dataset = enlarged(work, times)
    settings = StreamSettings(image_px=IMAGE_PX, batch_size=BATCH, shuffle_mib=shuffle_mib)
    reader, store = local_tables, {}
    if "Ray" in way:
        import ray

        from ray_cxr.stream.ray_loader import ray_tables as reader

        ray.init(
            num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False,
            object_store_memory=STORE_MIB * 2**20,
        )  # fmt: skip
        threading.Thread(target=watch_store, args=(store,), daemon=True).start()
    stream = Stream.open(dataset, "train", settings, seed=0, threads=os.cpu_count() or 1, reader=reader)
    batches = stream.train(stream.plan(1))
    if "slow" in way:
        next(batches)
        time.sleep(SLOW_S)
        batches.close()  # type: ignore[attr-defined]
    films = sum(len(batch.rows) for batch in batches)
    assert "slow" in way or films == stream.layout.films
    time.sleep(2)  # the watcher's last look
    encoded = dataset.manifest["film_bytes_mean"] * stream.layout.films / 2**20
    return {"films": stream.layout.films, "encoded_mib": encoded} | store


def enlarged(work: Path, times: int) -> Dataset:
    """The data set with its training shards `times` over, linked under other names."""
    dataset = open_dataset(str(work / "dataset"), ("train",))
    index = dataset.index[dataset.index["split"] == "train"]
    folder = work / f"dataset-{times}"
    copies = []
    for number in range(times):
        renamed = {s: s.replace(".parquet", f"-{number}.parquet") for s in index["shard"].unique()}
        for shard, name in renamed.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                os.link(work / "dataset" / shard, folder / name)
        copies.append(index.assign(shard=index["shard"].map(renamed)))
    return Dataset(Folder(str(folder)), dataset.manifest, pd.concat(copies, ignore_index=True))


def watch_store(found: dict[str, float]) -> None:
    """The most that Ray's object store holds, and what it has written to disk, five times a second."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    while True:
        store = get_memory_info_reply(state).store_stats
        used = store.object_store_bytes_used / 2**20
        found["store_mib"] = max(found.get("store_mib", 0.0), used)
        found["spilled_mib"] = store.spilled_bytes_total / 2**20
        time.sleep(0.2)


if __name__ == "__main__":
    main()
