"""Writes the report of a test: `report/index.html`, the same figures as `report/figures.json` and as `report/tables/*.csv`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from ray_cxr import __version__
from ray_cxr.evaluate.bands import Band
from ray_cxr.evaluate.evaluate import Evaluation
from ray_cxr.evaluate.figures import Measured
from ray_cxr.evaluate.from_files import FilesEvaluation
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.misses import Miss
from ray_cxr.report.blocks import Section
from ray_cxr.report.contents import Contents, ReportContents, ShownMiss
from ray_cxr.report.data import figures_data, tables
from ray_cxr.report.html import render_report
from ray_cxr.storage import Folder

_PACKAGES = ("numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "ray", "plotly")


def write_report(run: Folder, evaluation: Evaluation, readers: Sequence[Section] = ()) -> None:
    """The report of a run, into its directory; `readers` are sections on readers."""
    contents = ReportContents(
        title="/".join(run.url.rstrip("/").split("/")[-2:]),
        metrics=evaluation.metrics,
        findings=evaluation.scored.findings,
        labels=evaluation.scored.labels,
        scores=evaluation.scored.scores,
        bands=_bands(evaluation.measured),
        misses=[
            ShownMiss(m, int(evaluation.rows[m.film]), evaluation.pictures.get(m.film))
            for m in evaluation.misses
        ],
        film_is="row in index.parquet of the data set, from 0",
        history=_history(run),
        manifest=evaluation.dataset.manifest,
        model=(run / "best").read_json("model.json"),
        config_yaml=run.read_bytes("config.yaml").decode(),
        environment=run.read_json("environment.json") if run.exists("environment.json") else {},
    )
    _write(run, contents, readers)


def write_files_report(out: Folder, evaluation: FilesEvaluation, readers: Sequence[Section] = ()) -> None:
    """The report of a test of somebody's predictions; `readers` are sections on readers."""
    contents = Contents(
        title=evaluation.title,
        metrics=evaluation.metrics,
        findings=evaluation.scored.findings,
        labels=evaluation.scored.labels,
        scores=evaluation.scored.scores,
        bands=_bands(evaluation.measured),
        misses=_misses_by_row(evaluation.misses, evaluation.scored),
        film_is="data row of the table of predictions (the header is not counted)",
        environment=_environment(),
    )
    _write(out, contents, readers)


def _write(folder: Folder, contents: Contents, readers: Sequence[Section]) -> None:
    report = folder / "report"
    report.write_bytes("index.html", render_report(contents, readers).encode())
    report.write_json("figures.json", figures_data(contents))
    for name, table in tables(contents.metrics).items():
        (report / "tables").write_bytes(f"{name}.csv", table.to_csv(index=False).encode())


def _bands(measured: Measured) -> dict[str, tuple[Band, Band]]:
    found = {f: g for f, g in measured.by_finding.items() if g is not None}
    return {f: (g.roc_band, g.precision_recall_band) for f, g in found.items()}


def _misses_by_row(misses: Sequence[Miss], scored: Scored) -> list[ShownMiss]:
    rows = np.arange(len(scored)) if scored.rows is None else scored.rows
    return [ShownMiss(m, int(rows[m.film]) + 1) for m in misses]


def _environment() -> dict[str, Any]:
    return {
        "ray_cxr": __version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def _history(run: Folder) -> list[dict[str, Any]]:
    if not run.exists("history.jsonl"):
        return []
    return [json.loads(line) for line in run.read_bytes("history.jsonl").decode().splitlines()]
