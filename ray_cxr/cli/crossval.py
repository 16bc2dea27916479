"""`crossval`: a run for each fold, and what the films say that each run never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray_cxr.cli.arguments import JobFile, Json, Overrides
from ray_cxr.cli.output import number, output, table
from ray_cxr.cli.work import run_crossval
from ray_cxr.job import load_job
from ray_cxr.storage import Folder

if TYPE_CHECKING:
    from rich.table import Table


def crossval(job: JobFile, overrides: Overrides = None, json_: Json = False) -> None:
    """Train on all folds but one, for each fold in turn; mean and spread per finding; go on where it was cut."""
    settings = load_job(job, overrides or ())
    found, report = run_crossval(settings)
    metrics, out = found.metrics, Folder(settings.out)
    lines: list[str | Table] = [
        _table(metrics),
        f"{_spread(metrics, 'mean_auroc')} mean AUROC over {metrics['folds']} folds, {metrics['films']:,} films of "
        f"{metrics['patients']:,} patients",
        *[f"{f}: not measurable in every fold ({why})" for f, why in metrics["not_measurable"].items()],
        f"out-of-fold predictions: {out}/predictions-out-of-fold.parquet",
        f"report: {report}",
    ]
    output().result({"out": out.url, "report": report, **metrics}, lines)


def _spread(metrics: dict[str, Any], name: str, finding: str | None = None) -> str:
    """A mean over folds with its standard deviation."""
    value, deviation = metrics[name], metrics["standard_deviation"][name]
    if finding is not None:
        value, deviation = value[finding], deviation[finding]
    return number(value) if deviation is None else f"{number(value)} ± {deviation:.3f}"


def _table(metrics: dict[str, Any]) -> Table:
    rows: list[list[object]] = [
        [f, f"{metrics['positives'][f]:,}", _spread(metrics, "auroc", f), _spread(metrics, "average_precision", f)]
        for f in metrics["auroc"]
    ]  # fmt: skip
    title = f"Mean ± standard deviation over {metrics['folds']} folds"
    return table(title, ["finding", "positive films", "AUROC", "average precision"], rows)
