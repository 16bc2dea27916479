"""The necklace: how much a test flatters that holds films of patients who were trained on.

    python benchmarks/necklace.py

Draws phantom films, several of each patient, and splits them twice: by patient, and by film, as one does who forgets that
a patient has several. Trains jobs/necklace.yaml on both, with several seeds, and tests every model twice: on its own
split's test films, and on films of patients whom no model has seen. What the first test says above the second is flattery.
Writes the tables to WORK/necklace.md, the figure to WORK/necklace.svg, pairs of films to WORK/films.png; goes on where it was
cut. docs/necklace.md has what came out.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import Queue, get_context
from pathlib import Path

import numpy as np
import pandas as pd
from necklace_figures import Result, figure, measure, pairs, render
from numpy.typing import NDArray

from ray_cxr.config import to_yaml
from ray_cxr.cores import usable_cores
from ray_cxr.job import Job, load_job
from ray_cxr.labels.table import build_label_table
from ray_cxr.model.calibration import probabilities
from ray_cxr.model.saved import load_model
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.shards.prepare import prepare
from ray_cxr.storage import Folder
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream
from ray_cxr.train.fit import fit
from ray_cxr.train.run import predictions_frame
from ray_cxr.train.scoring import score_split
from ray_cxr.train.worker import Worker

JOB = Path(__file__).parents[1] / "jobs/necklace.yaml"
BY_PATIENT, BY_FILM = "by patient", "by film"
SHARES = {"test": 0.3, "validation": 0.1}
"""Of the films that are split; training gets the rest."""
NEW_PATIENTS = 0.35
"""Share of the patients whom no split holds."""
NEW = "new-patients"
QUICK = [
    "source.patients=80", "shards.image_px=32", "stream.image_px=32", "stream.batch_size=16",
    "train.epochs=1", "train.warmup_epochs=0", "model.backbone=test_convnext", "model.weights=none",
    "loss.drop_unlearnable=true",
]  # fmt: skip


@dataclass(frozen=True)
class Work:
    """A training: how films are split, and the seed by which they are dealt out and trained."""

    split: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.split.replace(' ', '-')}-{self.seed}"


class Quiet:
    """Progress that nobody watches."""

    def start(self, what: str, total: int) -> None:
        """Not shown."""

    def advance(self, count: int) -> None:
        """Not shown."""

    def say(self, line: str) -> None:
        """Not shown."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("necklace"))
    parser.add_argument("--seeds", type=int, default=4, help="trainings on each of the two splits")
    parser.add_argument("--quick", action="store_true", help="few small films, one epoch: does it run?")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of jobs/necklace.yaml")
    given = parser.parse_intermixed_args(arguments)
    overrides = [*(QUICK if given.quick else []), *given.overrides]
    begun = time.perf_counter()
    films = draw(given.work, overrides)
    _say(
        f"{len(films)} films of {films['patient_id'].nunique()} patients: {time.perf_counter() - begun:.0f} s"
    )
    works = [Work(split, seed) for seed in range(given.seeds) for split in (BY_PATIENT, BY_FILM)]
    scored = train_all(works, given.work, overrides)
    results = [Result(w.split, w.seed, pd.read_parquet(scored[w])) for w in works]
    measured = measure(films, results)
    (given.work / "necklace.svg").write_text(figure(measured), encoding="utf-8")
    (given.work / "films.png").write_bytes(pairs(films, deal(films, BY_FILM, 0)))
    page = render(measured)
    (given.work / "necklace.md").write_text(page, encoding="utf-8")
    print(page)
    _say(f"figure: {given.work}/necklace.svg; {time.perf_counter() - begun:.0f} s in all")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def draw(work: Path, overrides: Sequence[str]) -> pd.DataFrame:
    """Draws the films into a data set whose test holds all films of new patients.

    Gives them in the table's order: `image_id`, `patient_id`, `locator`, the findings, and `new`, whether the patient is one
    of those; these are the last in the table.
    """
    table = build_label_table(_job(work, NEW, overrides).source, None)
    patients = table.frame["patient_id"].unique()
    new = table.frame["patient_id"].isin(patients[round(len(patients) * (1 - NEW_PATIENTS)) :]).to_numpy()
    films = table.frame[["image_id", "patient_id", "locator", *table.findings]].assign(new=new)
    lists = _write_lists(work, NEW, films["image_id"], np.where(new, "test", "train_validation"))
    prepare(_job(work, NEW, [*overrides, *lists]), Quiet())
    films.to_parquet(work / "films.parquet", index=False)
    return films


def deal(films: pd.DataFrame, split: str, seed: int) -> NDArray[np.object_]:
    """The set of each film [N]: test, validation or train; unused where the patient is new.

    Lots are drawn for patients or for films, and sets are filled in that order, each with its share of films, or up to a
    patient's films more.
    """
    old = np.flatnonzero(~films["new"].to_numpy())
    unit = films["patient_id"].to_numpy()[old] if split == BY_PATIENT else old
    names, unit_of = np.unique(unit, return_inverse=True)
    lot = np.random.default_rng(seed).permutation(len(names))[unit_of]
    earlier = np.searchsorted(np.sort(lot), lot)  # films with a lower lot: the same for all films of a lot
    ends = np.cumsum(list(SHARES.values())) * len(old)
    given = np.full(len(films), "unused", dtype=object)
    given[old] = np.select([earlier < end for end in ends], list(SHARES), "train")
    return given


def train_all(works: Sequence[Work], folder: Path, overrides: Sequence[str]) -> dict[Work, Path]:
    """Trains and scores what is not done, each in a process that has a core of its own; gives where the scores are."""
    cores, context = min(usable_cores(), len(works)), get_context("spawn")
    free = context.Queue()
    for core in sorted(os.sched_getaffinity(0))[:cores] if hasattr(os, "sched_getaffinity") else []:
        free.put(core)
    scored = {}
    with ProcessPoolExecutor(cores, context, _take_a_core, (free,)) as pool:
        tasks = {pool.submit(carry_out, w, folder, list(overrides)): w for w in works}
        for number, task in enumerate(as_completed(tasks), 1):
            scored[tasks[task]], seconds = task.result()
            _say(f"{number}/{len(works)} {tasks[task].split}, seed {tasks[task].seed}: {seconds:.0f} s")
    return scored


def _take_a_core(free: Queue[int]) -> None:
    """Two processes of one thread train more films a second than one of two threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {free.get()})


def carry_out(work: Work, folder: Path, overrides: list[str]) -> tuple[Path, float]:
    """Deals out, trains, scores; gives the file of scores and the seconds it took, 0 where that was done."""
    films = pd.read_parquet(folder / "films.parquet")
    lists = _write_lists(folder, work.name, films["image_id"], deal(films, work.split, work.seed))
    job = _job(folder, work.name, [*overrides, *lists, f"seed={work.seed}", "split.allow_leak=true"])
    # Named by its settings: a run that was cut goes on, one of other settings is not in the way.
    key = hashlib.sha256(to_yaml(job).encode()).hexdigest()[:8]
    job = job.model_copy(update={"out": f"{job.out}-{key}"})
    target = folder / f"results/{work.name}-{key}.parquet"
    begun = time.perf_counter()
    if not target.exists():
        base = folder / "datasets" / NEW
        # Films that are there are not drawn again: another split of a data set copies them.
        shutil.copytree(base, job.dataset, dirs_exist_ok=True)
        prepare(job, Quiet())
        fit(job, to_yaml(job), lambda event: None)
        own, new = score(job, job.dataset), score(job, str(base))
        target.parent.mkdir(exist_ok=True)
        pd.concat([own.assign(new=False), new.assign(new=True)]).to_parquet(target, index=False)
        shutil.rmtree(job.dataset)
        shutil.rmtree(job.out)
    return target, time.perf_counter() - begun


def score(job: Job, dataset_url: str) -> pd.DataFrame:
    """The predictions of the job's model on the test films of a data set."""
    model, card = load_model(Folder(job.out) / "best")
    dataset = open_dataset(dataset_url, ("test",))
    settings = StreamSettings(image_px=card.image_px, augmentation="none", batch_size=64)
    scored = score_split(model, Stream.open(dataset, "test", settings, seed=0), Worker())
    assert scored is not None
    rows, logits = scored
    labels = dataset.labels(card.findings)[rows]
    return predictions_frame(dataset, rows, card.findings, probabilities(logits, None, card.findings), labels)


def _job(folder: Path, name: str, overrides: Sequence[str]) -> Job:
    places = [f"dataset={folder}/datasets/{name}", f"out={folder}/runs/{name}"]
    return load_job(JOB, [*places, *overrides])


def _write_lists(folder: Path, name: str, films: pd.Series, sets: NDArray[np.object_]) -> list[str]:
    """A list a set, as the split method `lists` reads them; gives the settings that name them."""
    place = folder / "lists" / name
    place.mkdir(parents=True, exist_ok=True)
    given = [s for s in ("train", "validation", "test", "train_validation") if (sets == s).any()]
    for one in given:
        (place / f"{one}.txt").write_text("\n".join(films[sets == one]) + "\n", encoding="utf-8")
    return ["split.method=lists", *(f"split.lists.{one}={place}/{one}.txt" for one in given)]


if __name__ == "__main__":
    main()
