"""`demo`: the whole line once, on drawn films."""

from __future__ import annotations

from pathlib import Path

from ray_cxr.cli.commands import run_evaluate, run_prepare, run_train
from ray_cxr.cli.output import number, output
from ray_cxr.console import ConsoleProgress
from ray_cxr.films.samples import write_samples
from ray_cxr.job import Job, load_job
from ray_cxr.storage import Folder

OVERRIDES = ("train.workers=2",)


def demo_job(out: Path) -> Job:
    """The defaults of every setting, on two workers, below one directory."""
    return load_job(None, [*OVERRIDES, f"out={out / 'run'}", f"dataset={out / 'dataset'}"])


def run_demo(out: Path) -> None:
    """Draws, prepares, trains, tests, reports; every step is what the command of its name does."""
    job = demo_job(out)
    with ConsoleProgress() as progress:
        progress.say("1/4  drawing and preparing phantom films (ray-cxr prepare)")
        write_samples(job.source, out / "films")
        run_prepare(job)
        progress.say("2/4  training on 2 workers (ray-cxr train)")
        run_train(job)
        progress.say("3/4  testing on films of other patients (ray-cxr evaluate)")
        metrics, report = run_evaluate(Folder(job.out), None)
        progress.say("4/4  done")
    figures = ", ".join(f"{f} {number(a)}" for f, a in metrics["auroc"].items())
    output().result(
        {"out": str(out.resolve()), "report": report, **metrics},
        [
            f"mean AUROC on {metrics['films']} test films: {number(metrics['mean_auroc'])} ({figures})",
            f"films to look at: {out / 'contact-sheet.png'}",
            f"report: {report}",
        ],
    )
