"""`tune`: writes `report/index.html` of a study from what lies in its directory.

Reads: what `study` reads. Writes: `report/index.html`.
"""

from __future__ import annotations

from collections.abc import Callable

from ray_cxr.report.blocks import Section
from ray_cxr.report.html import render_page
from ray_cxr.report.tune import result_sections, search_sections
from ray_cxr.report.tune.importance import Seen, importance
from ray_cxr.report.tune.study import Study, alternatives, bounds, read_settings, read_trials
from ray_cxr.storage import Folder

SECTIONS: tuple[Callable[[Study], Section | None], ...] = (
    result_sections.summary, result_sections.leaderboard, result_sections.certainty, search_sections.curves,
    search_sections.importances, search_sections.slices, search_sections.parallel, result_sections.pareto,
    search_sections.compute, search_sections.failures, result_sections.train_it, search_sections.settings,
)  # fmt: skip
"""In reading order; None where there is nothing to say."""


def write_study_report(folder: Folder) -> None:
    """The page of the study in `folder`."""
    (folder / "report").write_bytes("index.html", render_study(read_study(folder)).encode())


def render_study(study: Study) -> str:
    """The whole page."""
    made = [section(study) for section in SECTIONS]
    return render_page("tune/study.html.jinja", study.title, [s for s in made if s is not None], None)


def read_study(folder: Folder) -> Study:
    """What the page is made from."""
    config_yaml, job = read_settings(folder)
    trials = read_trials(folder)
    summary = folder.read_json("summary.json")
    objectives = summary.get("objectives") or {"mean_auroc": "maximize"}
    space = alternatives(job.get("tune", {}).get("space") or {})
    # Curves are of the validation mean AUROC, whatever the objectives.
    found = importance([Seen(t.parameters, dict(t.curve)) for t in trials], bounds(space))
    return Study(
        title="/".join(folder.url.rstrip("/").split("/")[-2:]),
        out=str(job["out"]),
        trials=trials,
        summary=summary,
        space=space,
        backbone=str(job["model"]["backbone"]),
        config_yaml=config_yaml,
        best_yaml=folder.read_bytes("best.yaml").decode() if folder.exists("best.yaml") else "",
        importance=found,
        folds=job.get("tune", {}).get("crossval"),
        objectives=objectives,
    )
