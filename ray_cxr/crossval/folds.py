"""Trains a run for each fold of a data set, and gathers what each says of the films that it never saw.

Reads: the data set's training and validation films; never the test split. Writes: `crossval.yaml` (the job), a run directory
for each fold (`fold-0/` …) and `predictions-out-of-fold.parquet`. What is done is found done by the next call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ray_cxr.axes import Rows
from ray_cxr.config import to_yaml
from ray_cxr.crossval.gather import gather
from ray_cxr.crossval.plan import FoldRun, check_runs, fold_name, plan_folds
from ray_cxr.crossval.run_here import run_here
from ray_cxr.errors import InputError, RayCxrError, RefusedError, count_text
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.train.alone import alone
from ray_cxr.train.findings import trained_findings
from ray_cxr.train.fit import Show, open_for
from ray_cxr.train.run import claim_run, write_predictions
from ray_cxr.train.settings import Recipe

JOB = "crossval.yaml"
PREDICTIONS = "predictions-out-of-fold.parquet"


@dataclass(frozen=True)
class TrainedFolds:
    """A cross-validation whose folds are all trained.

    rows: [N] of the index, ascending; predictions: the contents of `predictions-out-of-fold.parquet`, a row for each of them.
    """

    recipe: Recipe
    dataset: Dataset
    runs: list[FoldRun]
    findings: list[str]
    rows: Rows
    predictions: pd.DataFrame


def train_folds(recipe: Recipe, show: Show) -> TrainedFolds:
    """Trains all folds below `recipe.out`, or what is left of them. `show` gets events of `Worker.report` with `fold`, and others.

    Raises InputError, RefusedError, and at last the reasons of the folds that failed.
    """
    dataset, out = open_for(recipe), Folder(recipe.out)
    runs, notes = plan_folds(recipe, dataset)
    _refuse_foreign(out, len(runs))
    with alone(out, ".crossval.lock", f"the cross-validation {out}"):
        check_runs(runs)
        for run in runs:
            claim_run(run.recipe, to_yaml(run.recipe), run.dataset)
        out.write_bytes(JOB, to_yaml(recipe).encode())
        if dataset.leak_warning:
            notes.append(f"warning: {dataset.leak_warning}")
        for text in notes:
            show({"kind": "note", "text": text})
        _train(runs, show)
        findings, _ = trained_findings(runs[0].dataset, runs[0].recipe)
        rows, predictions = gather(dataset, runs, findings)
        write_predictions(out, PREDICTIONS, predictions)
    return TrainedFolds(recipe, dataset, runs, findings, rows, predictions)


def _refuse_foreign(out: Folder, folds: int) -> None:
    """Raises InputError where `out` holds something else, and RefusedError where it holds a fold that there is not."""
    names = [n for n in out.names() if not n.startswith(".")]
    if names and JOB not in names:
        what = "a run of ray-cxr train" if "config.yaml" in names else "something that is no cross-validation"
        raise InputError(f"out: {out} holds {what}; give a new or empty directory.")
    theirs = [n for n in names if n.startswith("fold-") and n not in map(fold_name, range(folds))]
    if theirs:
        raise RefusedError(
            f"out: {out} holds a cross-validation of another data set (it has {theirs[-1]}, but the folds of this one are 0 to "
            f"{folds - 1}); give another out, or the data set that it was started with."
        )


def _train(runs: Sequence[FoldRun], show: Show) -> None:
    """Trains what is not done. Raises, when all others have ended, the reasons of those that failed."""
    todo = [run for run in runs if not run.done]
    show(
        {"kind": "folds", "folds": len(runs), "epochs": runs[0].recipe.train.epochs,
         "standing": {run.fold: _epochs_done(run) for run in runs}}
    )  # fmt: skip
    if not todo:
        return
    if runs[0].recipe.train.in_process:
        failed = run_here(todo, show)
    else:
        from ray_cxr.crossval.run_on_ray import run_on_ray

        failed = run_on_ray(todo, len(runs), show)
    if failed:
        raise _all_reasons(failed, len(runs))


def _epochs_done(run: FoldRun) -> int:
    state = run.state()
    return 0 if state is None else state.epoch


def _all_reasons(failed: Mapping[int, RayCxrError], folds: int) -> RayCxrError:
    """One error for all: of the folds' own kind where that is one, or its exit code would be wrong."""
    codes = {error.exit_code for error in failed.values()}
    kind = next((k for k in (InputError, RefusedError) if codes == {k.exit_code}), RayCxrError)
    reasons = "; ".join(f"fold {k}: {failed[k].message.rstrip('.')}" for k in sorted(failed))
    return kind(
        f"{len(failed)} of {count_text(folds, 'fold')} failed ({reasons}); what the others have done is kept, and the same command "
        "goes on."
    )
