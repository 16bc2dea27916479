"""What the numbers teach: the same job with one thing changed, by out-of-fold prediction over patients.

    python benchmarks/teaching.py --work teaching source.images=/data/nih source.labels=/data/nih/Data_Entry_2017_v2020.csv

Deals patients into five folds; for each, trains every variant of jobs/teaching.yaml on the others and scores the fold
once. Validation films, which calibrate, are drawn from the training patients. Every film is thus scored by models
that saw none of its patient. Goes on where it was cut: what is done lies in WORK/results. Prints the tables and writes
them to WORK/teaching.md. One core each is faster than two threads: on two cores, begin a second one with other folds
(`taskset -c 0 … --fold 0 --fold 1`, `taskset -c 1 … --fold 2 --fold 3`), and then the whole, which finds them done.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from teaching_tables import render

from ray_cxr.config import to_yaml
from ray_cxr.evaluate.evaluate import evaluate_run
from ray_cxr.job import Job, load_job
from ray_cxr.labels.table import build_label_table
from ray_cxr.shards.prepare import prepare
from ray_cxr.storage import Folder
from ray_cxr.train.fit import fit

JOB = Path(__file__).parents[1] / "jobs/teaching.yaml"
FOLDS = 5
REFERENCE = "reference"
SINGLE_FINDINGS = 3
"""Findings that get a model of their own: those with the most positives."""
VARIANTS: dict[str, list[str]] = {
    REFERENCE: [],
    "none": ["model.weights=none"],
    "half": ["model.freeze_depth=4"],  # of eight stages: the stem and three of seven blocks
    # A classifier alone takes, and needs, larger steps.
    "head": ["model.freeze_depth=head", "train.learning_rate=0.005"],
    "bce": ["loss.kind=bce"],
}
QUICK = ["train.epochs=1", "train.warmup_epochs=0", "stream.image_px=64", "shards.image_px=64"]


@dataclass(frozen=True)
class Work:
    """A training: what is changed, on which fold."""

    variant: str
    changes: list[str]
    fold: int

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.fold}"


class Quiet:
    """Progress that nobody watches."""

    def start(self, what: str, total: int) -> None:
        """Not shown."""

    def advance(self, count: int) -> None:
        """Not shown."""

    def say(self, line: str) -> None:
        """Not shown."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("teaching"))
    parser.add_argument(
        "--fold", type=int, action="append", help="train only this of the folds 0 to 4; may be repeated"
    )
    parser.add_argument("--only", action="append", help="train only this variant; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one fold, one epoch, small films: does it run?")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_intermixed_args(arguments)
    overrides = [*(QUICK if given.quick else []), *given.overrides]
    table = build_label_table(load_job(JOB, [*overrides, *_places(given.work, 0)]).source, None)
    folds = deal_folds(table.frame, table.findings)
    write_lists(given.work, table.frame, folds)
    works = list(
        plan(most_positives(table.frame, table.findings), [0] if given.quick else given.fold, given.only)
    )
    for number, work in enumerate(works, 1):
        seconds = carry_out(work, given.work, overrides)
        print(f"{number}/{len(works)} {work.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    page = render(read_results(given.work, works))
    (given.work / "teaching.md").write_text(page, encoding="utf-8")
    print(page)


def deal_folds(films: pd.DataFrame, findings: list[str], folds: int = FOLDS) -> np.ndarray[Any, Any]:
    """Fold [N] of every film: patients stay together, and each film's rarest finding is spread evenly."""
    labels = films[findings].to_numpy(np.float32) == 1
    rarest_first = np.argsort(labels.sum(0), kind="stable")
    has = labels[:, rarest_first]
    kind = np.where(has.any(1), has.argmax(1), len(findings))
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    fold = np.zeros(len(films), np.int64)
    for number, (_, test) in enumerate(dealer.split(films, kind, films["patient_id"])):
        fold[test] = number
    return fold


def most_positives(films: pd.DataFrame, findings: list[str]) -> list[str]:
    """The findings that get a model of their own."""
    positives = (films[findings] == 1).sum().sort_values(ascending=False, kind="stable")
    return list(positives.index[:SINGLE_FINDINGS])


def plan(singles: list[str], folds: list[int] | None, only: list[str] | None) -> Iterator[Work]:
    """Fold by fold, so that a table of the folds done can be made at any time."""
    variants = VARIANTS | {f"only {f}": [f"findings=[{f}]"] for f in singles}
    for fold in range(FOLDS) if folds is None else folds:
        for variant, changes in variants.items():
            if only is None or variant in only:
                yield Work(variant, changes, fold)


def write_lists(work: Path, films: pd.DataFrame, folds: np.ndarray[Any, Any]) -> None:
    """Names of the films of each fold, as the split method `lists` reads them."""
    (work / "lists").mkdir(parents=True, exist_ok=True)
    names = films["image_id"].to_numpy()
    for fold in range(FOLDS):
        for title, chosen in (("test", folds == fold), ("rest", folds != fold)):
            (work / f"lists/{title}-{fold}.txt").write_text("\n".join(names[chosen]) + "\n", encoding="utf-8")


def _places(work: Path, fold: int) -> list[str]:
    return [
        f"dataset={work}/datasets/{fold}",
        f"split.lists={{test: {work}/lists/test-{fold}.txt, train_validation: {work}/lists/rest-{fold}.txt}}",
    ]


def carry_out(work: Work, folder: Path, overrides: list[str]) -> float:
    """Trains and scores, unless that is done; gives the seconds it took, or had taken."""
    job = load_job(JOB, [*overrides, *work.changes, *_places(folder, work.fold)])
    key = hashlib.sha256(to_yaml(job).encode()).hexdigest()
    # Named by its settings: a run that was cut goes on, one of other settings is not in the way.
    job = job.model_copy(update={"out": str(folder / f"runs/{work.name}-{key[:8]}")})
    results = Folder(str(folder / "results"))
    if results.exists(f"{work.name}.json"):
        done = results.read_json(f"{work.name}.json")
        if done["job"] == key:
            return float(done["seconds"])
    started = time.perf_counter()
    _train_and_score(job, results, work.name)
    seconds = round(time.perf_counter() - started, 1)
    results.write_json(
        f"{work.name}.json", {"job": key, "seconds": seconds, "fold": work.fold, "variant": work.variant}
    )
    return seconds


def _train_and_score(job: Job, results: Folder, name: str) -> None:
    run = Folder(job.out)
    prepare(job, Quiet())
    fit(job, to_yaml(job), lambda event: None)
    evaluate_run(run, None, lambda what, total: None, lambda count: None)
    results.write_bytes(f"{name}.parquet", run.read_bytes("predictions-test.parquet"))
    shutil.rmtree(job.out)


def read_results(folder: Path, works: list[Work]) -> dict[str, pd.DataFrame]:
    """Variant → the out-of-fold predictions of its folds, with a column `fold`."""
    results: dict[str, list[pd.DataFrame]] = {}
    for work in works:
        place = folder / "results" / work.name
        frame = pd.read_parquet(io.BytesIO(place.with_name(f"{work.name}.parquet").read_bytes()))
        results.setdefault(work.variant, []).append(frame.assign(fold=work.fold))
    return {variant: pd.concat(frames, ignore_index=True) for variant, frames in results.items()}


if __name__ == "__main__":
    main()
