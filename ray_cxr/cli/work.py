"""What the commands do, with progress on stderr; the demonstration does the same things in a row.

Heavy imports wait until they are needed, so that help comes at once.
"""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from ray_cxr.config import to_yaml, validated
from ray_cxr.console import ConsoleProgress
from ray_cxr.job import Job
from ray_cxr.storage import Folder

if TYPE_CHECKING:
    from ray_cxr.evaluate.crossval import CrossValidation
    from ray_cxr.evaluate.evaluate import Evaluation
    from ray_cxr.evaluate.figures import Choices
    from ray_cxr.evaluate.from_files import Files, FilesEvaluation
    from ray_cxr.evaluate.readers import Readings
    from ray_cxr.evaluate.readers_files import ReaderFiles
    from ray_cxr.report.blocks import Section


def run_prepare(settings: Job) -> dict[str, Any]:
    """`prepare` with progress; gives the manifest."""
    from ray_cxr.shards.prepare import prepare as prepare_dataset

    with ConsoleProgress() as progress:
        return prepare_dataset(settings, progress)


def run_train(settings: Job) -> dict[str, Any]:
    """`train` with progress; gives the validation metrics of the best epoch."""
    from ray_cxr.cli.training_table import TrainingTable
    from ray_cxr.train.fit import fit

    with TrainingTable(in_process=settings.train.in_process) as table:
        table.say(f"training in {Folder(settings.out)}")
        # The run remembers the place of its data set, not the directory that the command was typed in.
        kept = settings.model_copy(update={"dataset": Folder(settings.dataset).url})
        fit(settings, to_yaml(kept), table.show)
    run = Folder(settings.out)
    metrics: dict[str, Any] = run.read_json("metrics.json")
    if metrics["split"] != "validation":  # the run has been evaluated since
        metrics = run.read_json("metrics-validation.json")
    return metrics


def run_crossval(settings: Job) -> tuple[CrossValidation, str]:
    """`crossval` with progress and report; gives what it found and the report's path."""
    from ray_cxr.cli.fold_progress import FoldProgress
    from ray_cxr.crossval.folds import train_folds
    from ray_cxr.evaluate.crossval import measure_folds
    from ray_cxr.report.crossval.write import write_crossval_report

    out = Folder(settings.out)
    with ConsoleProgress() as progress:
        progress.say(f"cross-validation in {out}")
        kept = settings.model_copy(update={"dataset": Folder(settings.dataset).url})
        trained = train_folds(kept, FoldProgress(progress))
    found = measure_folds(trained)
    write_crossval_report(out, found)
    return found, f"{out.url}/report/index.html"


def run_tune(settings: Job) -> dict[str, Any]:
    """`tune` with a live table and its report, also where too many trials failed; gives what `summary.json` holds."""
    from ray_cxr.cli.search_table import SearchTable
    from ray_cxr.report.tune.write import write_study_report
    from ray_cxr.tune.tune import FailedSearchError, search

    out = Folder(settings.out)
    try:
        with SearchTable() as table:
            table.say(f"searching in {out}")
            summary = search(settings, to_yaml(settings), table.show)
    except FailedSearchError:
        write_study_report(out)
        raise
    write_study_report(out)
    return summary


def run_final(study: Folder) -> dict[str, Any]:
    """Trains `best.yaml` of a search and evaluates that run, once; gives `summary.json`, which then holds its test score."""
    from ray_cxr.report.tune.write import write_study_report

    summary: dict[str, Any] = study.read_json("summary.json")
    best = validated(Job, yaml.safe_load(study.read_bytes("best.yaml")))
    run_train(best)
    run = Folder(best.out)
    # A search that goes on after its end shall not open the test split again for the same model.
    if not run.exists("predictions-test.parquet"):
        run_evaluate(run, None)
    metrics = run.read_json("metrics.json")
    summary["final"] = {
        "run": posixpath.basename(best.out),
        "metric": "mean_auroc",
        "value": metrics["mean_auroc"],
        "interval": metrics["intervals"]["mean_auroc"],
    }
    study.write_json("summary.json", summary)
    write_study_report(study)
    return summary


def run_evaluate(
    run: Folder,
    dataset: str | None,
    choices: Choices | None = None,
    *,
    raw: bool = False,
    with_pictures: bool = False,
    readers: ReaderFiles | None = None,
) -> tuple[dict[str, Any], str]:
    """`evaluate RUN` with progress and report; gives the test metrics and the report's path."""
    from ray_cxr.evaluate.evaluate import evaluate_run
    from ray_cxr.report.write import write_report

    readings = readers.read(make_labels=False) if readers else None  # before the test split is opened
    with ConsoleProgress() as progress:
        evaluation = evaluate_run(
            run, dataset, progress.start, progress.advance, choices, raw=raw, with_pictures=with_pictures
        )
        if evaluation.dataset.leak_warning:
            progress.say(f"warning: {evaluation.dataset.leak_warning}")
    sections = _beside_readers(run, evaluation, readers, readings, choices, made_here=False)
    write_report(run, evaluation, sections)
    return evaluation.metrics, f"{run.url}/report/index.html"


def run_evaluate_files(
    files: Files, out: Folder, choices: Choices, readers: ReaderFiles | None = None
) -> tuple[dict[str, Any], str]:
    """`evaluate --predictions` with its report; gives the test metrics and the report's path.

    Without a label table the readers make the labels.
    """
    from ray_cxr.evaluate.from_files import check_out, evaluate_files
    from ray_cxr.evaluate.readers_files import write_consensus
    from ray_cxr.report.write import write_files_report

    made_here = readers is not None and files.labels is None
    readings = readers.read(make_labels=made_here) if readers else None
    if readers and readings and made_here:
        check_out(out)
        files = replace(
            files, labels=write_consensus(out, readings, readers.options), leave_out_unlabelled=True
        )
    evaluation = evaluate_files(files, out, choices)
    sections = _beside_readers(out, evaluation, readers, readings, choices, made_here=made_here)
    write_files_report(out, evaluation, sections)
    return evaluation.metrics, f"{out.url}/report/index.html"


def _beside_readers(
    out: Folder, evaluation: Evaluation | FilesEvaluation, readers: ReaderFiles | None, readings: Readings | None,
    choices: Choices | None, *, made_here: bool,
) -> list[Section]:  # fmt: skip
    """Sections on readers, whose figures go into `metrics.json`; none where there are no readers."""
    if readers is None or readings is None:
        return []
    from ray_cxr.evaluate.figures import Choices
    from ray_cxr.evaluate.readers_files import study_scored
    from ray_cxr.report.reader_sections import reader_sections

    result = study_scored(
        evaluation.scored, readings, readers.options, choices or Choices(), made_here=made_here
    )
    evaluation.metrics["readers"] = result.as_dict()
    out.write_json("metrics.json", evaluation.metrics)
    return reader_sections(result)
