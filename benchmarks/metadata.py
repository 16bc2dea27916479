"""The whole label table of NIH ChestX-ray14 through labels → split → index: seconds, memory, leak check, floor, spread.

    python benchmarks/metadata.py ../shared/data/nih [--patients N]

Reads no film. Two tables: seconds by stage and peak memory of each kind of split, in a process of its own; then how far
prevalences stray from those of all films, beside random patients and the best of 200 random draws.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError
from ray_cxr.job import load_job
from ray_cxr.labels.table import build_label_table
from ray_cxr.shards.index import split_films
from ray_cxr.shards.manifest import films_fingerprint, fingerprint, protocol_details, split_counts
from ray_cxr.splits.leak import MODELLED, check_leaks
from ray_cxr.splits.lists import read_lists

KINDS = {
    "official, validation drawn": ["split.method=official", "split.folds=null"],
    "sampled": ["split.folds=null"],
    "sampled, half of test with a finding": ["split.minority_floor=0.5", "split.folds=null"],
    "sampled, 5 folds": [],
    "official, 5 folds": ["split.method=official"],
    "sampled, half with a finding, 5 folds": ["split.minority_floor=0.5"],
    "500 and 300 films, half Pneumonia": [
        "split.test=500", "split.validation=300", "split.target=Pneumonia", "split.minority_floor=0.5", "split.folds=null",
    ],
    "2,000 and 2,000 films, 50 of each finding": [
        "split.test=2000", "split.validation=2000", "split.min_positives=50", "split.folds=null",
    ],
}  # fmt: skip
DRAWS = 200


@dataclass(frozen=True)
class Measured:
    """seconds by stage; peak_mib of the process; what came out."""

    seconds: dict[str, float]
    peak_mib: float
    films: dict[str, int]
    shared_patients: int
    target_share: float
    weighted_share: float
    natural_share: float


def measure(nih: Path, overrides: list[str], patients: int | None) -> Measured:
    """One kind of split over the table in `nih`; patients: only so many of them."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as empty:
        labels = nih / "Data_Entry_2017_v2020.csv.gz"
        job = load_job(
            None, ["source.kind=nih", f"source.images={empty}", f"source.labels={labels}", *overrides]
        )
        table = build_label_table(job.source, None, keep_missing=True)
    frame = table.frame
    if patients is not None:
        frame = frame[frame["patient_id"].isin(sorted(set(frame["patient_id"]))[:patients])]
    clock.stage("labels")
    lists = read_lists(job.split, job.label_files())
    index, _ = split_films(frame, table.findings, job, lists)
    clock.stage("split")
    leaks = check_leaks(index)
    details = protocol_details(index, table.findings, job.split)
    split_counts(index, table.findings)
    pixels = films_fingerprint(index.assign(pixel_sha256=index["image_id"]), 256)
    fingerprint(index, table.findings, pixels)
    clock.stage("index")
    positive = _target(index, table.findings, details["target"])
    test = (index["split"] == "test").to_numpy()
    weights = index.loc[test, "sampling_weight"].to_numpy()
    return Measured(
        seconds=clock.seconds,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        films=index["split"].value_counts().to_dict(),
        shared_patients=leaks.shared_patients,
        target_share=float(positive[test].mean()),
        weighted_share=float(np.average(positive[test], weights=weights)),
        natural_share=float(positive.mean()),
    )


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _target(index: pd.DataFrame, findings: list[str], target: str) -> NDArray[np.bool_]:
    chosen = index[findings] if target == "any" else index[[target]]
    return (chosen == 1).any(axis=1).to_numpy()


def spread(nih: Path, patients: int | None, seeds: int) -> pd.DataFrame:
    """Relative deviation of each set's prevalences from those of all films, in %: worst and mean over findings and seeds."""
    labels = nih / "Data_Entry_2017_v2020.csv.gz"
    with tempfile.TemporaryDirectory() as empty:
        job = load_job(None, ["source.kind=nih", f"source.images={empty}", f"source.labels={labels}"])
        table = build_label_table(job.source, None, keep_missing=True)
    frame = table.frame
    if patients is not None:
        frame = frame[frame["patient_id"].isin(sorted(set(frame["patient_id"]))[:patients])]
    frame = frame.reset_index(drop=True)
    rows = []
    for way, split in (
        ("random patients", _random),
        ("best of 200 random draws", _best_of),
        ("ray_cxr", None),
    ):
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in MODELLED}
        for seed in range(seeds):
            if split is None:
                seeded = job.model_copy(
                    update={"seed": seed, "split": job.split.model_copy(update={"folds": None})}
                )
                sets = split_films(frame, table.findings, seeded, {})[0]["split"].to_numpy()
            else:
                sets = split(frame, table.findings, seed)
            for name in MODELLED:
                found[name].append(_deviation(frame, table.findings, sets == name))
        for name in MODELLED:
            off = 100 * np.abs(np.array(found[name]))
            rows.append({"way": way, "set": name, "worst": off.max(), "mean": off.mean()})
    return pd.DataFrame(rows)


def _deviation(frame: pd.DataFrame, findings: list[str], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    natural = frame[findings].mean().to_numpy(float)
    return np.asarray(frame.loc[inside, findings].mean().to_numpy(float) / natural - 1)


def _random(
    frame: pd.DataFrame, findings: list[str], seed: int, sizes: tuple[float, ...] = (0.2, 0.1)
) -> Any:
    patient, count, _ = _patients(frame, findings)
    order = np.random.default_rng(seed).permutation(len(count))
    share = np.empty(len(count))
    share[order] = np.cumsum(count[order]) / count.sum()
    names = np.select([share <= sizes[0], share <= sum(sizes)], ["test", "validation"], "train")
    return names[patient]


def _best_of(frame: pd.DataFrame, findings: list[str], seed: int) -> Any:
    """What ray_cxr 0.1 did first: of 200 orders of the patients, the one whose worst finding is nearest to its share."""
    patient, count, positives = _patients(frame, findings)
    names = np.full(len(count), "train", dtype=object)
    free = np.arange(len(count))
    for number, (name, size) in enumerate((("test", 0.2), ("validation", 0.1))):
        rng = np.random.default_rng([seed, number])
        best = (np.inf, free)
        for _ in range(DRAWS):
            order = free[rng.permutation(len(free))]
            taken = order[: int(np.searchsorted(np.cumsum(count[order]), size * count.sum()))]
            expected = positives[free].sum(0) * count[taken].sum() / count[free].sum()
            skew = float((np.abs(positives[taken].sum(0) - expected) / np.sqrt(expected + 1)).max())
            best = min(best, (skew, taken), key=lambda draw: draw[0])
        names[best[1]] = name
        free = np.setdiff1d(free, best[1])
    return names[patient]


def _patients(frame: pd.DataFrame, findings: list[str]) -> tuple[Any, Any, Any]:
    ids, patient = np.unique(frame["patient_id"].to_numpy(str), return_inverse=True)
    positives = np.stack([np.bincount(patient, frame[f], len(ids)) for f in findings], axis=1)
    return patient, np.bincount(patient), positives


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "nih", type=Path, help="folder with Data_Entry_2017_v2020.csv.gz and the official lists"
    )
    parser.add_argument("--patients", type=int, help="only so many patients, for a quick look")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the second table")
    given = parser.parse_args()
    print("| split | labels s | split s | index s | all s | peak MiB | train / validation / test / unused | shared "
          "patients | target in test | weighted | in all |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, overrides in KINDS.items():
        try:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                m = process.apply(measure, (given.nih, overrides, given.patients))
        except InputError as refusal:
            print(f"| {name} | {refusal.message.splitlines()[0]} |", flush=True)
            continue
        stages = " | ".join(f"{m.seconds[s]:.1f}" for s in ("labels", "split", "index"))
        films = " / ".join(f"{m.films.get(s, 0):,}" for s in (*MODELLED, "unused"))
        print(f"| {name} | {stages} | {sum(m.seconds.values()):.1f} | {m.peak_mib:,.0f} | {films} | {m.shared_patients} | "
              f"{m.target_share:.1%} | {m.weighted_share:.1%} | {m.natural_share:.1%} |", flush=True)  # fmt: skip
    print("\n| split 70 / 10 / 20 | set | worst finding off by | mean |\n|---|---|---|---|")
    for row in spread(given.nih, given.patients, given.seeds).itertuples():
        print(f"| {row.way} | {row.set} | {row.worst:.2f} % | {row.mean:.2f} % |")


if __name__ == "__main__":
    main()
