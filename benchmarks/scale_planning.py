"""What planning takes of one rank: seconds and memory of each part, with a data set that is made up but for its films.

Called by `scale.py planning`. The index has the columns of a real one, with ids and hashes as long; its shards are empty files. The
parts run in the order in which a training calls them, all in one process, since each has what the ones before left in memory.
"""

from __future__ import annotations

import ctypes
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from ray_cxr.axes import Labels
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.shards.layout import lay_out
from ray_cxr.shards.manifest import fingerprint, manifest_hash, sha256
from ray_cxr.splits.leak import check_leaks
from ray_cxr.stream.decode import FilmDecoder
from ray_cxr.stream.layout import Layout, split_layout
from ray_cxr.stream.plan import EpochPlan, RankWork, World, plan_epoch, training_work
from ray_cxr.stream.read import Read, new_groups, read_of
from ray_cxr.stream.resample import Counts, exposure
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import _resampling

T = TypeVar("T")
FINDINGS = [f"finding {n}" for n in range(14)]
PREVALENCE = 0.05
FILMS_A_PATIENT = 3.64
"""ChestX-ray14: 112,120 films of 30,805 patients."""
ROWS_PER_GROUP, SHARD_MIB = 32, 64
"""The defaults of `shards`."""
STEPS = 50
"""Steps that are counted through for the time of one."""
FILMS_A_RANK = 8, 32, 128
"""Of a step, for the time that a step's counting takes; `stream.batch_size` ends at 65,536."""
LARGEST_BATCH = 65_536


@dataclass(frozen=True)
class Took:
    """seconds: wall. cpu_s: of all threads. peak_mib, kept_mib: by how much the process grew at most, and for good."""

    part: str
    seconds: float
    cpu_s: float
    peak_mib: float
    kept_mib: float


@dataclass
class Meter:
    """Runs parts and writes down what they took (Linux)."""

    parts: list[Took] = field(default_factory=list)

    def __call__(self, name: str, part: Callable[[], T]) -> T:
        before = _settled_mib()
        Path("/proc/self/clear_refs").write_text("5")  # the highest memory so far is forgotten
        begun, cpu = time.perf_counter(), time.process_time()
        value = part()
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        peak = _status_mib("VmHWM") - before
        self.parts.append(Took(name, seconds, cpu, peak, _settled_mib() - before))
        return value


def _settled_mib() -> float:
    """Resident memory once what was freed has gone back to the system."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status_mib("VmRSS")


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def made(work: Path, films: int) -> Path:
    """The folder of a data set with so many training films, and one film in a hundred beside them to validate and to test."""
    folder = work / f"planning-{films}"
    if (folder / "manifest.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    index = _index(films, film_bytes := 27_600)
    index.to_parquet(folder / "index.parquet", index=False)
    manifest = {
        "findings": FINDINGS,
        "films_fingerprint": "0" * 64,
        "fingerprint": fingerprint(index, FINDINGS, "0" * 64),
        "index_sha256": sha256((folder / "index.parquet").read_bytes()),
        "image_px": 256,
        "codec": "delta-zstd",
        "film_bytes_mean": film_bytes,
        "leak_check": check_leaks(index).as_dict(),
    }
    for shard in index["shard"].unique():
        (folder / shard).parent.mkdir(parents=True, exist_ok=True)
        (folder / shard).touch()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"manifest_sha256": manifest_hash(manifest)}))
    return folder


def _index(films: int, film_bytes: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    others = max(films // 100, 1)
    total = films + 2 * others
    of_split = rng.permutation(np.repeat([0, 1, 2], [films, others, others]))
    # Patients of one split have numbers of their own.
    patient = (rng.random(total) * films / FILMS_A_PATIENT).astype(np.int64) * 3 + of_split
    frame = pd.DataFrame({"image_id": _hex(rng, total, 8)})
    frame["patient_id"] = pd.Series([f"{p:016x}" for p in patient.tolist()], dtype="str")
    frame["split"] = pd.Series(np.array(["train", "validation", "test"], object)[of_split], dtype="str")
    frame["fold"] = pd.arrays.IntegerArray(np.zeros(total, np.int8), np.ones(total, bool))  # none
    places = lay_out(frame.assign(film_bytes=film_bytes), ROWS_PER_GROUP, SHARD_MIB)
    # As long as with the hash of its content.
    places["shard"] = places["shard"].str.replace(".parquet", "-0123456789abcdef.parquet", regex=False)
    frame = frame.join(places)
    frame["sampling_weight"] = 1.0
    for finding in FINDINGS:
        frame[finding] = (rng.random(total, np.float32) < PREVALENCE).astype(np.float32)
    frame["view"], frame["age"], frame["sex"], frame["source"] = "PA", np.float32(50), "F", "made up"
    frame["file_sha256"], frame["pixel_sha256"] = _hex(rng, total, 32), _hex(rng, total, 32)
    return frame


def _hex(rng: np.random.Generator, rows: int, width: int) -> pd.Series[str]:
    """Random texts of 2 × width hexadecimal digits."""
    digits = pa.py_buffer(rng.bytes(rows * width).hex().encode())
    ends = pa.py_buffer(np.arange(rows + 1) * 2 * width)
    return pd.Series(
        pa.Array.from_buffers(pa.large_string(), rows, [None, ends, digits]).to_pandas(), dtype="str"
    )


def opening(folder: Path) -> list[Took]:
    """The parts of `open_dataset`, which are not seen from outside it."""
    meter = Meter()
    index = meter("read `index.parquet`, all columns", lambda: pd.read_parquet(folder / "index.parquet"))
    meter("check that no patient is shared", lambda: check_leaks(index))
    meter("fingerprint of films, labels and split", lambda: fingerprint(index, FINDINGS, "0" * 64))
    return meter.parts


def of_a_rank(folder: Path, ranks: int, batch: int) -> tuple[list[Took], dict[str, object]]:
    """The parts of a rank's planning, and what was planned."""
    meter = Meter()
    dataset = meter("open the data set, checked", lambda: open_dataset(str(folder), ("train", "validation")))
    labels = meter("labels", lambda: dataset.labels(FINDINGS))
    layout = meter("layout of the training films", lambda: split_layout(dataset.index, "train"))
    decoder = meter("hashes to hold films against", lambda: FilmDecoder.of(dataset, layout))
    meter("place of each film in its row group", lambda: layout.row_in_kept)
    plan = meter("plan of an epoch", lambda: _planned(dataset, layout, batch))
    plan_hash = meter("its hash", lambda: plan.hash)
    for name, rank in (("first", 0), ("last", ranks - 1)):
        work = meter(f"work of the {name} rank", partial(training_work, plan, World(rank, ranks)))
        reads = meter("what it reads", partial(_reads, layout, work))
    settings = StreamSettings(batch_size=batch, resampling="class_aware")
    resampling = meter(
        "resampling (class_aware)", lambda: _resampling(dataset, layout, settings, FINDINGS, 0)
    )
    assert resampling is not None
    times = meter("how often each film comes", lambda: resampling.multiplicity(1))
    resampled = meter("plan of a resampled epoch", lambda: _planned(dataset, layout, batch, times))
    meter("rank 0, after an epoch: what it showed", lambda: _shown(dataset, layout, labels, times))
    told = {
        "films": layout.films, "row groups": len(layout.groups), "streams": len(plan.streams), "steps": plan.steps,
        "films of the resampled epoch": resampled.films, "windows": len(plan.window_ends),
        "row groups that the last rank reads": sum(len(s.row_groups) for read in reads for s in read),
        "plan": plan_hash, "resampled plan": resampled.hash, "fingerprint": dataset.fingerprint,
        "films checked": int(decoder.checked.sum()), "memory of the process, MiB": _settled_mib(),
    }  # fmt: skip
    alone = _planned(dataset, layout, 32)
    meter("work of a training with one rank, batches of 32", lambda: training_work(alone, World()))
    for size in (ranks * films for films in FILMS_A_RANK if ranks * films <= LARGEST_BATCH):
        one = _planned(dataset, layout, size)
        meter(f"{STEPS} steps of {size:,} films counted", partial(_counted, one, layout, labels, ranks))
    return meter.parts, told


def _planned(dataset: Dataset, layout: Layout, batch: int, times: Counts | None = None) -> EpochPlan:
    """As `Stream.plan` does, with the default of `stream.shuffle_mib`."""
    window = int(StreamSettings().shuffle_mib * 2**20 / dataset.manifest["film_bytes_mean"])
    return plan_epoch(layout, batch, 0, 1, dataset.fingerprint, times, window)


def _reads(layout: Layout, work: RankWork) -> list[Read]:
    return [read_of(layout, groups) for groups in new_groups(layout, work.windows) if len(groups)]


def _shown(dataset: Dataset, layout: Layout, labels: Labels, times: Counts) -> object:
    """As the line of an epoch in `history.jsonl` has it."""
    return exposure(labels[layout.rows], dataset.index["patient_id"].iloc[layout.rows], FINDINGS, times)


def _counted(plan: EpochPlan, layout: Layout, labels: Labels, ranks: int) -> None:
    """As `train_step` does on every rank: the labels of all ranks' films are counted."""
    for step in range(min(STEPS, plan.steps)):
        rows = layout.rows[plan.step_positions(step)]
        (~np.isnan(labels[rows])).sum(0)
        plan.micro_batches(step, World(0, ranks), 1)
