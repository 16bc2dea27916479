"""`evaluate`: the test of a run, or of anybody's predictions. Heavy imports wait until they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_cxr.cli.arguments import Json, Raw
from ray_cxr.cli.output import number, output, table
from ray_cxr.cli.readers import (
    Definitive,
    LeaveOneOut,
    Margin,
    Method,
    ReaderNames,
    Readers,
    ReferenceReaders,
    Remainder,
    Ties,
    Uncertain,
    reader_files,
    reader_lines,
    readers_alone,
)
from ray_cxr.cli.work import run_evaluate, run_evaluate_files
from ray_cxr.errors import InputError
from ray_cxr.storage import Folder

if TYPE_CHECKING:
    from rich.table import Table

    from ray_cxr.evaluate.figures import Choices

_FILES = "Without a run"
_POINTS = "Operating points and intervals"


def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Directory of a run: the `out` of its job.", show_default=False),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The run's data set, where it has moved.")] = None,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Show the worst misses as small films in the report.")
    ] = False,
    raw: Raw = False,
    predictions: Annotated[
        str | None, typer.Option(help="Scores: a row per film, a column per finding (CSV, TSV, Parquet, .gz).",
                                 rich_help_panel=_FILES, metavar="TABLE")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Labels of the same films, maybe of more; may stand in --predictions too.",
                                 rich_help_panel=_FILES, metavar="TABLE")
    ] = None,
    patients: Annotated[
        str | None, typer.Option(help="Table with image_id and patient_id, for intervals by patient.",
                                 rich_help_panel=_FILES, metavar="TABLE")
    ] = None,
    validation_predictions: Annotated[
        str | None, typer.Option(help="Scores of films of other patients, to choose thresholds on.",
                                 rich_help_panel=_FILES, metavar="TABLE")
    ] = None,
    validation_labels: Annotated[
        str | None, typer.Option(help="Their labels, where --labels does not hold them.",
                                 rich_help_panel=_FILES, metavar="TABLE")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="How the test films were chosen, such as official.", rich_help_panel=_FILES)
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Directory for figures and report; by default named after the predictions.",
                                 rich_help_panel=_FILES, metavar="DIR")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="Of the operating point with a fixed sensitivity (0.9).",
                                   rich_help_panel=_POINTS, min=0.01, max=1.0)
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(help="Of the operating point with a fixed specificity (0.9).",
                                   rich_help_panel=_POINTS, min=0.01, max=1.0)
    ] = None,
    readers: Readers = None,
    reference_readers: ReferenceReaders = None,
    consensus: Method = "majority",
    ties: Ties = "exclude",
    uncertain: Uncertain = "exclude",
    definitive: Definitive = None,
    remainder: Remainder = None,
    leave_one_out: LeaveOneOut = True,
    margin: Margin = None,
    reader_names: ReaderNames = False,
    draws: Annotated[
        int, typer.Option(help="Draws of the bootstrap.", rich_help_panel=_POINTS, min=100, max=100_000)
    ] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", rich_help_panel=_POINTS, min=0)] = 0,
    json_: Json = False,
) -> None:  # fmt: skip
    """Test a run on its test split, or anybody's predictions, and write the report; beside readers, where there are any."""
    from ray_cxr.evaluate.from_files import Files, default_out

    choices = _choices(draws, seed, sensitivity, specificity)
    files_of_readers = reader_files(
        readers, reference_readers, consensus, ties, uncertain, definitive, remainder, leave_one_out, margin, reader_names
    )  # fmt: skip
    if files_of_readers is not None and run is None and predictions is None:
        if any(
            t is not None for t in (dataset, patients, validation_predictions, validation_labels, protocol)
        ):
            raise InputError(
                "evaluate --readers: without a run or --predictions only --labels, --out and options on readers have a meaning."
            )
        answer, said = readers_alone(files_of_readers, labels, out, choices)
        output().result(answer, said)
        return
    tables = (labels, patients, validation_predictions, validation_labels, protocol, out)
    if predictions is None:
        if run is None:
            raise InputError("evaluate: give a RUN, or --predictions with --labels, or --readers.")
        if any(t is not None for t in tables):
            raise InputError(
                "evaluate RUN: --labels, --patients, --validation-…, --protocol and --out go with --predictions; a run has its own."
            )
        metrics, report = run_evaluate(
            Folder(run), dataset, choices, raw=raw, with_pictures=thumbnails, readers=files_of_readers
        )
        place = Folder(run).url
    else:
        if run is not None or dataset is not None or thumbnails or raw:
            raise InputError(
                "evaluate --predictions: RUN, --dataset, --raw and --thumbnails go with a run; give either a run or predictions."
            )
        files = Files(predictions, labels, patients, validation_predictions, validation_labels, protocol)
        folder = Folder(out or default_out(predictions))
        metrics, report = run_evaluate_files(files, folder, choices, files_of_readers)
        place = folder.url
    beside = reader_lines(metrics["readers"]) if "readers" in metrics else []
    lines: list[str | Table] = [*_notes(metrics), _metrics_table(metrics), *beside, f"report: {report}"]
    output().result({"out": place, "report": report, **metrics}, lines)


def _choices(draws: int, seed: int, sensitivity: float | None, specificity: float | None) -> Choices:
    from ray_cxr.evaluate.figures import Choices

    asked = sensitivity is not None or specificity is not None
    return Choices(
        draws,
        seed,
        0.9 if sensitivity is None else sensitivity,
        0.9 if specificity is None else specificity,
        asked,
    )


def _notes(metrics: dict[str, Any]) -> list[str]:
    """What was taken for what in somebody's tables, what weakens a figure, and why something is missing."""
    found, points = metrics["input"], metrics["operating_points"]
    notes = _input_notes(found) if "matched" in found else []
    if metrics["not_in_means"]:
        notes.append(f"in no mean: {', '.join(metrics['not_in_means'])}")
    if metrics["protocol_details"].get("protocol_stated_by"):
        notes.append(
            f"protocol: {metrics['protocol']}, as stated by {metrics['protocol_details']['protocol_stated_by']}"
        )
    cautions = [*found.get("cautions", []), *points.get("cautions", [])]
    notes += [f"caution: {caution}" for caution in cautions]
    if points["findings"] is None:
        notes.append(f"no operating points: {points['reason']}")
    reasons: dict[str, list[str]] = {}
    for finding, reason in points.get("not_chosen", {}).items():
        reasons.setdefault(reason, []).append(finding)
    notes += [f"no operating points for {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if metrics["calibration"]["findings"] is None:
        notes.append(f"calibration not measurable: {metrics['calibration']['reason']}")
    return notes


def _input_notes(found: dict[str, Any]) -> list[str]:
    from ray_cxr.labels.names import spelling

    listing = found["labels_listed_in"]
    alike, other = [], []
    for finding, column in found["matched"].items():
        if spelling(column["labelled_as"]) == spelling(finding):
            alike.append(finding)
        else:
            other.append(f"{column['score']} with {column['labelled_as']}")
    notes = [f"findings: {', '.join(alike)}"] if alike else []
    if other:
        notes.append(f"columns: {'; '.join(other)}")
    if listing is not None:
        apart = "" if found["listed_with"] == "|" else f", told apart by {found['listed_with']!r}"
        notes.append(f"labels: names listed in {listing!r}{apart}")
    notes.append(f"films joined by {found['joined_by']}; patients from {found['patients_from']}")
    for key, words in (
        ("scored_without_labels", "scored, but not labelled"),
        ("labelled_without_scores", "labelled, but not scored"),
        ("unused_numeric_columns", "other columns of numbers in --predictions, not used"),
    ):
        if found[key]:
            notes.append(f"{words}: {', '.join(found[key])}")
    return notes


def _metrics_table(metrics: dict[str, Any]) -> Table:
    intervals = metrics["intervals"]
    rows: list[list[object]] = [
        [
            f,
            f"{metrics['positives'][f]} / {metrics['labelled'][f]}",
            _with_interval(a, intervals["auroc"][f]),
            number(metrics["average_precision"][f]),
        ]
        for f, a in metrics["auroc"].items()
    ]
    mean = _with_interval(metrics["mean_auroc"], intervals["mean_auroc"])
    rows.append(["mean", "", mean, number(metrics["mean_average_precision"])])
    who = "" if metrics["patients"] is None else f" of {metrics['patients']} patients"
    opened = "" if metrics["test_openings"] is None else f", opened {metrics['test_openings']}×"
    title = f"Test: {metrics['films']} films{who}{opened} (95 % intervals: {intervals['method']})"
    return table(title, ["finding", "positive /\nlabelled", "AUROC", "average\nprecision"], rows)


def _with_interval(value: float | None, ends: list[float] | None) -> str:
    return number(value) + (f" ({ends[0]:.3f}–{ends[1]:.3f})" if ends else "")
