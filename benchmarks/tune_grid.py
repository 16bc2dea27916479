"""The full grid of `tune.py`: every configuration trained with two seeds, recorded once as a table to look up in.

    python benchmarks/tune_grid.py --work tune --data ../shared/data

Trains what is not yet in WORK/results (a part of it with --part 0/2, at most so many with --most) and, when all is
there, writes `tune_lookup.json`: for each configuration and seed the validation score after every epoch and what an
epoch took, and the standard errors by draws of patients. It holds no film, no label and no prediction.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.bootstrap import auroc_draws, draw_patient_weights, mean_of_draws
from ray_cxr.config import to_yaml
from ray_cxr.job import Job, load_job
from ray_cxr.shards.prepare import prepare
from ray_cxr.train.fit import check_recipe
from ray_cxr.train.loop import train
from ray_cxr.train.run import claim_run
from ray_cxr.train.worker import Worker

HERE = Path(__file__).parent
JOB, LOOKUP = HERE / "tune.yaml", HERE / "tune_lookup.json"
PRETRAINED = "tf_efficientnet_lite0"
GRID: dict[str, list[Any]] = {
    "model.backbone": [PRETRAINED, "mobilenetv3_small_050", "test_resnet"],
    "model.freeze_depth": [0, 3, "head"],
    "stream.resampling": ["none", "balanced"],
    "train.learning_rate": [0.0003, 0.003],
}
SEEDS = (0, 1)
DRAWS = 2000
Configuration = dict[str, Any]


class Quiet:
    """Progress that nobody watches."""

    def start(self, what: str, total: int) -> None:
        """Not shown."""

    def advance(self, count: int) -> None:
        """Not shown."""

    def say(self, line: str) -> None:
        """Not shown."""


def configurations() -> list[Configuration]:
    """Every point of the grid."""
    return [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]


def name_of(configuration: Configuration) -> str:
    """As in `resnet10t 3 balanced 0.003`: the key of the table."""
    return " ".join(str(configuration[setting]) for setting in GRID)


def overrides_of(configuration: Configuration) -> list[str]:
    """The settings of a configuration as a command line has them; the one backbone with weights at hand begins with them."""
    weights = "efficientnet-lite0" if configuration["model.backbone"] == PRETRAINED else "none"
    return [f"{name}={value}" for name, value in configuration.items()] + [f"model.weights={weights}"]


def places(data: Path, work: Path) -> list[str]:
    """Where films, labels and the data set are."""
    return [
        f"source.images={data / 'nih-64'}",
        f"source.labels={data / 'nih/Data_Entry_2017_v2020.csv.gz'}",
        f"dataset={work / 'dataset'}",
    ]


def plan() -> Iterator[tuple[Configuration, int]]:
    """All trainings, one seed after the other."""
    for seed in SEEDS:
        for configuration in configurations():
            yield configuration, seed


def train_one(job: Job) -> dict[str, Any]:
    """Trains in this process on one thread; gives the scores and seconds of its epochs."""
    started = time.perf_counter()
    claim_run(job, to_yaml(job), check_recipe(job))
    train(job, Worker(threads=1))
    seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in Path(job.out, "history.jsonl").read_text("utf-8").splitlines()]
    return {
        "scores": [round(line["mean_auroc"], 5) for line in lines],
        "epoch_seconds": [round(line["seconds"]["train"] + line["seconds"]["validate"], 2) for line in lines],
        "seconds": round(seconds, 1),
    }


def carry_out(configuration: Configuration, seed: int, data: Path, work: Path) -> None:
    """One training into WORK/results, unless it is there."""
    name = f"{name_of(configuration)} {seed}".replace(" ", "-")
    done = work / "results" / f"{name}.json"
    if done.exists():
        return
    run = work / "runs" / name
    shutil.rmtree(run, ignore_errors=True)
    job = load_job(JOB, [*places(data, work), *overrides_of(configuration), f"seed={seed}", f"out={run}"])
    result = train_one(job)
    done.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "predictions-validation.parquet", done.with_suffix(".parquet"))
    done.write_text(json.dumps(result), encoding="utf-8")
    shutil.rmtree(run)
    print(f"{name}: {result['scores'][-1]:.3f} in {result['seconds']:.0f} s", file=sys.stderr, flush=True)


def score_draws(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """[D] mean AUROC over findings in each draw of patients; the same draws for every table of these films."""
    table = predictions.sort_values("image_id")
    findings = [c.removeprefix("prob_") for c in table if str(c).startswith("prob_")]
    draws = draw_patient_weights(table["patient_id"].tolist(), DRAWS, seed=0)
    return mean_of_draws(
        [auroc_draws(table[f"label_{f}"].to_numpy(), table[f"prob_{f}"].to_numpy(), draws) for f in findings]
    )


def make_lookup(work: Path) -> dict[str, Any]:
    """The table: by configuration its settings, scores and seconds by seed, the final score and its standard error."""
    entries: dict[str, Any] = {}
    draws: dict[str, NDArray[np.float64]] = {}
    for configuration in configurations():
        name = name_of(configuration)
        stems = [work / "results" / f"{name} {seed}".replace(" ", "-") for seed in SEEDS]
        results = [json.loads(Path(f"{stem}.json").read_text("utf-8")) for stem in stems]
        draws[name] = np.mean([score_draws(pd.read_parquet(f"{stem}.parquet")) for stem in stems], axis=0)
        entries[name] = {
            "parameters": configuration,
            "scores": [r["scores"] for r in results],
            "epoch_seconds": [round(float(np.mean(r["epoch_seconds"])), 2) for r in results],
            "final": round(float(np.mean([r["scores"][-1] for r in results])), 5),
            "standard_error": round(float(np.nanstd(draws[name])), 5),
        }
    best = max(entries, key=lambda name: float(entries[name]["final"]))
    for name, entry in entries.items():
        entry["standard_error_to_best"] = round(float(np.nanstd(draws[name] - draws[best])), 5)
    epochs = len(next(iter(entries.values()))["scores"][0])
    return {"epochs": epochs, "seeds": list(SEEDS), "draws": DRAWS, "best": best, "entries": entries}


def lookup_text(table: dict[str, Any]) -> str:
    """The table as JSON, a line for each configuration."""
    rows = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in table["entries"].items())
    head = json.dumps({name: value for name, value in table.items() if name != "entries"})
    return f'{head[:-1]}, "entries": {{\n' + ",\n".join(rows) + "\n}}\n"


def default_data() -> Path:
    """The folder of real films, as the tests find it."""
    return HERE.parent / os.environ.get("RAY_CXR_SHARED_DATA", "../shared/data")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("tune"))
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument(
        "--part", default="0/1", help="train only each so-manieth, as 0/2 and 1/2 on two cores"
    )
    parser.add_argument("--most", type=int, default=10_000, help="end after so many trainings")
    given = parser.parse_args(arguments)
    part, parts = map(int, given.part.split("/"))
    if not (given.work / "dataset/manifest.json").exists():
        prepare(load_job(JOB, places(given.data, given.work)), Quiet())
    results = given.work / "results"
    mine = list(plan())[part::parts]
    missing = [(c, s) for c, s in mine if not (results / f"{name_of(c)} {s}.json".replace(" ", "-")).exists()]
    for configuration, seed in missing[: given.most]:
        carry_out(configuration, seed, given.data, given.work)
    done = len(list(results.glob("*.json")))
    if done < len(list(plan())):
        print(f"{done} of {len(list(plan()))} trainings are done", file=sys.stderr)
        return
    LOOKUP.write_text(lookup_text(make_lookup(given.work)), encoding="utf-8")
    print(f"{LOOKUP}: written", file=sys.stderr)


if __name__ == "__main__":
    main()
