"""Which runs a cross-validation is made of, and whether they can be made: a run for each fold of the data set.

Reads: the data set's index and manifest. Gives: `FoldRun` by fold; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.train.alone import alone
from ray_cxr.train.checkpoint import TrainState, newest_state
from ray_cxr.train.findings import trained_findings
from ray_cxr.train.fit import check_films, check_training
from ray_cxr.train.settings import Recipe

_ORPHAN_S = 120.0
"""Well after a process whose cluster has gone must have ended."""


@dataclass(frozen=True)
class FoldRun:
    """An ordinary run directory below `out`, trained on all folds but one. dataset: as that fold sees it."""

    fold: int
    recipe: Recipe
    dataset: Dataset

    @property
    def run(self) -> Folder:
        return Folder(self.recipe.out)

    @property
    def done(self) -> bool:
        """Whether it is trained to its end and has scored its fold."""
        state = self.state()
        ended = state is not None and (
            state.epoch >= self.recipe.train.epochs or state.is_stopped(self.recipe.train.patience)
        )
        return ended and self.run.exists("predictions-validation.parquet")

    def state(self) -> TrainState | None:
        """Where it stands; None before its first checkpoint."""
        return newest_state(self.run / "checkpoints")


def fold_name(fold: int) -> str:
    """Name of a fold's run directory below `out`."""
    return f"fold-{fold}"


def plan_folds(recipe: Recipe, dataset: Dataset) -> tuple[list[FoldRun], list[str]]:
    """A run for each fold, all with the same findings, and sentences on what a person should know of them.

    Raises InputError (no folds, a fold that cannot be learned or judged) and RefusedError (patients shared).
    """
    if recipe.fold is not None:
        raise InputError(
            f"fold: got {recipe.fold}, but crossval trains every fold in turn; leave it out, or use ray-cxr train."
        )
    if not dataset.folds:
        raise InputError(
            f"dataset: {dataset.folder} was prepared without folds; prepare it with split.folds=5 (no film is decoded anew)."
        )
    runs = [_fold_run(recipe, dataset, fold) for fold in range(dataset.folds)]
    learnable = []
    for run in runs:
        with _naming(run.fold):
            learnable.append(trained_findings(run.dataset, run.recipe)[0])
    findings = [f for f in learnable[0] if all(f in others for others in learnable)]
    dropped = sorted({f for others in learnable for f in others} - set(findings))
    if not findings:
        raise InputError(
            "findings: none has both positives and negatives among the training films of every fold, so there is nothing "
            "that all could learn; prepare the data set with more films or fewer split.folds."
        )
    notes = []
    if dropped:
        notes.append(
            f"loss.drop_unlearnable: {', '.join(dropped)} left out in every fold, since the training films of some hold one class only"
        )
        chosen = recipe.model_copy(update={"findings": findings})
        runs = [_fold_run(chosen, dataset, run.fold) for run in runs]
    return runs, notes


def check_runs(runs: Sequence[FoldRun]) -> None:
    """Finds now what would fail later in a fold. Raises InputError, RefusedError."""
    for run in runs:
        with _naming(run.fold):
            check_films(run.recipe, run.dataset)
    check_training(runs[0].recipe, runs[0].dataset)


def lock_of(run: Folder) -> AbstractContextManager[None]:
    """Holds the run directory of a fold: a process of a killed cross-validation may outlive it by some seconds."""
    parent, _, name = run.url.rpartition("/")
    return alone(Folder(parent), f".{name}.lock", str(run), _ORPHAN_S)


@contextmanager
def _naming(fold: int) -> Iterator[None]:
    """Says in which fold something is wrong."""
    try:
        yield
    except RayCxrError as error:
        raise type(error)(f"(fold {fold}) {error.message}") from None


def _fold_run(recipe: Recipe, dataset: Dataset, fold: int) -> FoldRun:
    out = (Folder(recipe.out) / fold_name(fold)).url
    return FoldRun(fold, recipe.model_copy(update={"fold": fold, "out": out}), dataset.with_fold(fold))
