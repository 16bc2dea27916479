"""The commands that do the work. Heavy imports wait until a command needs them, so that help comes at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_cxr.cli.arguments import JobFile, Json, Overrides, Raw
from ray_cxr.cli.output import number, output, table
from ray_cxr.cli.work import run_prepare, run_train
from ray_cxr.console import ConsoleProgress
from ray_cxr.job import load_job
from ray_cxr.splits.leak import leak_warning
from ray_cxr.storage import Folder

if TYPE_CHECKING:
    from rich.table import Table

RunDirectory = Annotated[str, typer.Argument(metavar="RUN", help="Directory of a run: the `out` of its job.")]


def prepare(job: JobFile, overrides: Overrides = None, json_: Json = False) -> None:
    """Turn a source into a data set: label table, film store, split by patient, shards; print the leak check."""
    settings = load_job(job, overrides or ())
    manifest = run_prepare(settings)
    result = {"dataset": Folder(settings.dataset).url} | {
        k: manifest[k] for k in ("fingerprint", "films_fingerprint", "protocol", "protocol_details", "splits", "leak_check", "warnings", "refused", "sources", "films", "shards")
    }  # fmt: skip
    lines: list[str | Table] = [_split_table(manifest), f"data set: {result['dataset']}"]
    if (leak := leak_warning(manifest["leak_check"])) is not None:
        lines.insert(0, leak)
    output().result(result, lines)


def train(job: JobFile, overrides: Overrides = None, json_: Json = False) -> None:
    """Fine-tune on the training split, choose the best epoch on the validation split; go on where a run was cut."""
    settings = load_job(job, overrides or ())
    metrics = run_train(settings)
    run = Folder(settings.out).url
    lines = [
        f"{metrics.get('keep', 'best')} epoch {metrics['epoch']}: validation mean AUROC {number(metrics['mean_auroc'])}",
        f"run: {run}",
    ]
    output().result({"out": run, **metrics}, lines)


def predict(
    run: RunDirectory,
    films: Annotated[
        list[str], typer.Argument(metavar="FILMS...", help="PNG or JPEG files, or folders of them.")
    ],
    out: Annotated[str, typer.Option("--out", metavar="P", help="Table to write: .parquet or .csv.")],
    raw: Raw = False,
    json_: Json = False,
) -> None:
    """Score new films with a trained model."""
    from ray_cxr.evaluate.predict import predict as predict_films

    with ConsoleProgress() as progress:
        scored = predict_films(Folder(run), films, out, progress.start, progress.advance, raw=raw)
        refused = scored.loc[scored["refused"] != "", "refused"]
        for row, reason in refused.items():
            progress.say(f"film {row} of the table (from 0) is refused: {reason}")
    result = {"out": str(Path(out).resolve()), "films": len(scored), "refused": len(refused)}
    output().result(result, [f"{len(scored) - len(refused)} films scored, {len(refused)} refused: {out}"])


def _split_table(manifest: dict[str, Any]) -> Table:
    splits = manifest["splits"]
    rows: list[list[object]] = [
        ["films", *(s["images"] for s in splits.values())],
        ["patients", *(s["patients"] for s in splits.values())],
    ]
    rows += [[f"{f} (positive)", *(s["positives"][f] for s in splits.values())] for f in manifest["findings"]]
    return table("Splits", ["", *splits], rows)
