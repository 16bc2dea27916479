"""`ray-cxr tune`: the search for the best recipe."""

from __future__ import annotations

from typing import Any

from ray_cxr.cli.arguments import JobFile, Json, Overrides
from ray_cxr.cli.output import number, output
from ray_cxr.cli.work import run_final, run_tune
from ray_cxr.job import load_job
from ray_cxr.storage import Folder


def tune(job: JobFile, overrides: Overrides = None, json_: Json = False) -> None:
    """Search settings for the best validation score; the same command goes on where a search was cut."""
    settings = load_job(job, overrides or ())
    summary = run_tune(settings)
    if settings.tune.final:
        summary = run_final(Folder(settings.out))
    out = Folder(settings.out).url
    output().result({"out": out, **summary}, _lines(out, summary))


def _lines(out: str, summary: dict[str, Any]) -> list[str]:
    objective, winner, lead = next(iter(summary["objectives"])), summary["winner"], summary["difference"]
    lines = [
        f"{summary['compared']} trials compared, {summary['epochs_spent']:,} of {summary['epochs_full']:,} epochs trained",
        f"best: trial {winner['number']}, validation {objective} {_figure(winner)}",
    ]
    if lead is not None:
        lines.append(f"better than trial {summary['runner_up']['number']} by {_figure(lead)}")
    final = summary.get("final")
    if final is None:
        lines.append(f"train it: ray-cxr train {out}/best.yaml")
    else:
        lines += [f"trained again: test {final['metric']} {_figure(final)}", f"run: {out}/{final['run']}"]
    return lines


def _figure(of: dict[str, Any]) -> str:
    interval = of["interval"]
    if interval is None:
        return number(of["value"])
    return f"{number(of['value'])} (95 % {number(interval[0])} to {number(interval[1])})"
