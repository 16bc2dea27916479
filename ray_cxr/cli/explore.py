"""`explore`: what is in the data, before or after `prepare`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ray_cxr.cli.arguments import Json, Overrides
from ray_cxr.cli.output import output, table
from ray_cxr.console import ConsoleProgress
from ray_cxr.errors import InputError
from ray_cxr.job import Job, load_job
from ray_cxr.storage import Folder

if TYPE_CHECKING:
    from rich.table import Table

    from ray_cxr.report.explore.counts import FindingCount
    from ray_cxr.report.explore.exploration import Exploration


def explore(
    target: Annotated[
        str,
        typer.Argument(
            metavar="JOB-or-DATASET", help="Job file (YAML), or a prepared data set.", show_default=False
        ),
    ],
    overrides: Overrides = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Directory for the page; default: the data set's name with -explore."
        ),
    ] = None,
    films: Annotated[
        int,
        typer.Option(
            min=0,
            help="Training films whose pixels are measured, beside a few per finding that are shown; 0: labels only.",
        ),
    ] = 400,
    json_: Json = False,
) -> None:
    """Show what is in the data: prevalence, patients, views, pixels, sample films, leaks; one HTML page and a JSON file."""
    from ray_cxr.report.explore.exploration import explore as explore_material
    from ray_cxr.report.explore.material import material_of_dataset, material_of_job
    from ray_cxr.report.explore.remarks import leak_alarm, remarks
    from ray_cxr.report.explore.write import FIGURES, PAGE, output_folder, write_exploration

    job, is_job = _job_of(target, overrides or [])
    folder = output_folder(out, job.dataset)
    with ConsoleProgress() as progress:
        material = material_of_job(job) if is_job else material_of_dataset(job.dataset)
        progress.say(
            "exploring a prepared data set"
            if material.prepared
            else "exploring labels; nothing is prepared yet"
        )
        found = explore_material(material, job.stream, job.loss, films, progress.start, progress.advance)
    folder.check_writable()
    title = os.path.basename(target.rstrip("/")).removesuffix(".yaml").removesuffix(".yml") or "data set"
    chosen = job.stream.normalisation if is_job else None
    figures = write_exploration(folder, title, found, job.model.backbone, chosen)
    alarm = leak_alarm(found)
    lines: list[str | Table] = [alarm.text] if alarm else []
    lines += [_summary(found), _findings_table(found), *(f"! {text.text}" for text in remarks(found))]
    lines.append(f"report: {folder.url}/{PAGE}")
    output().result(
        {"report": f"{folder.url}/{PAGE}", "figures": f"{folder.url}/{FIGURES}", **figures}, lines
    )


def _job_of(target: str, overrides: list[str]) -> tuple[Job, bool]:
    """The job, and whether the target is one; of a data set, the defaults with its place. InputError for neither."""
    if os.path.isfile(target):
        return load_job(target, overrides), True
    if not Folder(target).exists("manifest.json"):
        raise InputError(
            f"explore: {target!r} is neither a job file nor a prepared data set (no manifest.json in it); give the YAML file "
            "of a job, or the directory that `ray-cxr prepare` made."
        )
    if overrides:
        raise InputError(
            f"explore: {overrides[0]!r} is a setting of a job, but {target!r} is a data set, which is shown as it is; "
            "give the job file instead."
        )
    return load_job(None).model_copy(update={"dataset": Folder(target).url}), False


def _summary(found: Exploration) -> str:
    what = "films" if found.material.prepared else f"rows, {found.films_here:,} of their films found"
    return f"{found.overall.films:,} {what}; {found.patients.patients:,} patients, {found.patients.several:,} of them with several films"


def _findings_table(found: Exploration) -> Table:
    splits = {n: c for n, c in found.splits.items() if n != "unused"}
    rows: list[list[object]] = [
        [f, c.positives, _percent(c), _ratio(c), *(s.findings[f].positives for s in splits.values())]
        for f, c in found.overall.findings.items()
    ]
    heads = ["valid." if n == "validation" else n for n in splits]  # or the table is wider than a terminal
    planned = "" if found.material.prepared or not splits else " (splits as prepare would draw them)"
    return table(f"Findings{planned}", ["finding", "positive", "share", "neg : pos", *heads], rows)


def _percent(count: FindingCount) -> str:
    return "not labelled" if count.prevalence is None else f"{count.prevalence:.2%}"


def _ratio(count: FindingCount) -> str:
    ratio = count.negatives_per_positive
    return "–" if ratio is None else f"{ratio:,.1f}"
