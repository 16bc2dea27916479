"""Writes the page of a cross-validation: `report/index.html`, and its tables as `report/tables/*.csv`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from ray_cxr.evaluate.crossval import CrossValidation
from ray_cxr.report.blocks import Section
from ray_cxr.report.crossval import sections
from ray_cxr.report.html import render_page
from ray_cxr.report.origin_sections import leak_text
from ray_cxr.storage import Folder

SECTIONS: tuple[Callable[[CrossValidation], Section], ...] = (
    sections.summary, sections.results, sections.by_fold, sections.pooled, sections.learning, sections.films,
    sections.settings, sections.provenance,
)  # fmt: skip
"""In reading order."""


def write_crossval_report(out: Folder, found: CrossValidation) -> None:
    """The page of the cross-validation in `out`."""
    report = out / "report"
    title = "/".join(out.url.rstrip("/").split("/")[-2:])
    report.write_bytes("index.html", render_crossval(title, found).encode())
    report.write_json("figures.json", found.metrics)
    (report / "tables").write_bytes("folds.csv", folds_table(found.metrics).to_csv(index=False).encode())


def render_crossval(title: str, found: CrossValidation) -> str:
    """The whole page. A leak between the folds or to the test is its first line."""
    leak = leak_text(found.metrics["leak"])
    alarm = leak if leak.tone == "alarm" else None
    made = [section(found) for section in SECTIONS]
    return render_page("crossval/crossval.html.jinja", title, made, alarm)


def folds_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """A row for each finding and fold."""
    return pd.DataFrame(
        [
            {"finding": f, "fold": fold["fold"]}
            | {k: fold[k][f] for k in ("positives", "labelled", "auroc", "average_precision")}
            for f in metrics["auroc"]
            for fold in metrics["by_fold"]
        ]
    )
