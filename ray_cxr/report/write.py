"""Writes `report/index.html` of a run from what its evaluation gave and what lies in the run directory."""

from __future__ import annotations

import json
from typing import Any

from ray_cxr.evaluate.evaluate import Evaluation
from ray_cxr.report.html import ReportContents, render_report
from ray_cxr.storage import Folder


def write_report(run: Folder, evaluation: Evaluation) -> None:
    """One self-contained file, `report/index.html`."""
    contents = ReportContents(
        title="/".join(run.url.rstrip("/").split("/")[-2:]),
        metrics=evaluation.metrics,
        findings=evaluation.card.findings,
        labels=evaluation.labels,
        scores=evaluation.scores,
        history=_history(run),
        manifest=evaluation.dataset.manifest,
        model=(run / "best").read_json("model.json"),
        config_yaml=run.read_bytes("config.yaml").decode(),
        environment=run.read_json("environment.json") if run.exists("environment.json") else {},
    )
    (run / "report").write_bytes("index.html", render_report(contents).encode())


def _history(run: Folder) -> list[dict[str, Any]]:
    if not run.exists("history.jsonl"):
        return []
    return [json.loads(line) for line in run.read_bytes("history.jsonl").decode().splitlines()]
