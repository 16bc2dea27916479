"""`demo`: the whole line once, on drawn films."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ray_cxr.cli.arguments import Json
from ray_cxr.cli.output import number, output
from ray_cxr.cli.work import run_evaluate, run_prepare, run_train
from ray_cxr.console import ConsoleProgress
from ray_cxr.job import Job, load_job
from ray_cxr.storage import Folder

SETTINGS = (
    "split.validation=0.15",
    "shards.image_px=144",
    "stream.image_px=128",
    "stream.normalisation=dataset",
    "model.backbone=regnetx_002",
    "train.epochs=10",
    "train.learning_rate=0.003",
    "train.workers=2",
)
"""What the demonstration sets beside the defaults; `jobs/demo.yaml` is the same job as a file, with comments."""


def demo_job(out: Path) -> Job:
    """The demonstration's job, everything below one directory."""
    return load_job(None, [*SETTINGS, f"out={out / 'run'}", f"dataset={out / 'dataset'}"])


def demo(
    out: Annotated[Path, typer.Option(help="Directory for everything that the demonstration makes.")] = Path(
        "demo"
    ),
    json_: Json = False,
) -> None:
    """Draw phantom films, prepare, train on 2 workers, test, and write a report. No data, no network, no GPU."""
    from ray_cxr.films.samples import write_samples

    job = demo_job(out)
    Folder(out).check_writable()
    with ConsoleProgress() as progress:
        progress.say("1/3  drawing phantom films and preparing them (ray-cxr prepare)")
        write_samples(job.source, out / "films")
        run_prepare(job)
        progress.say("2/3  training on 2 workers (ray-cxr train)")
        run_train(job)
        progress.say("3/3  testing on films of other patients (ray-cxr evaluate)")
        metrics, report = run_evaluate(Folder(job.out), None)
    figures = ", ".join(f"{f} {number(a)}" for f, a in metrics["auroc"].items())
    output().result(
        {"out": str(out.resolve()), "report": report, **metrics},
        [
            f"mean AUROC on {metrics['films']} test films: {number(metrics['mean_auroc'])} ({figures})",
            f"films to look at: {out / 'contact-sheet.png'}",
            f"score films of your own choice: ray-cxr predict {job.out} {out / 'films'} --out scores.csv",
            f"report: {report}",
        ],
    )
