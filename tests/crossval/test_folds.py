"""A cross-validation in this process: whom it scores, how it goes on, what it refuses, and its page."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.crossval import run_here
from ray_cxr.crossval.folds import TrainedFolds, train_folds
from ray_cxr.crossval.gather import gather
from ray_cxr.crossval.plan import plan_folds
from ray_cxr.errors import InputError, RayCxrError, RefusedError
from ray_cxr.evaluate.crossval import CrossValidation, measure_folds
from ray_cxr.evaluate.figures import Choices
from ray_cxr.job import Job
from ray_cxr.report.crossval.write import render_crossval, write_crossval_report
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.shards.prepare import prepare
from ray_cxr.storage import Folder
from ray_cxr.train.alone import alone
from ray_cxr.train.fit import fit
from tests.conftest import Silent

SETTINGS = ("loss.drop_unlearnable=true", "train.learning_rate=0.003")


def _ignore(event: dict[str, Any]) -> None:
    pass


def _files(run: Path) -> dict[str, int]:
    """When each file of a run was written; its settings are by every start."""
    files = [p for p in run.rglob("*") if p.is_file() and p.name != "config.yaml"]
    return {str(p.relative_to(run)): p.stat().st_mtime_ns for p in files}


def _trained_s(run: Path) -> list[float]:
    """Seconds that each epoch was trained, which no second training of it would repeat."""
    lines = (run / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["seconds"]["train"] for line in lines]


@pytest.fixture(scope="module")
def job(nih_job: Callable[..., Job], nih_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Two folds, so that there is little to train."""
    copy = tmp_path_factory.mktemp("two") / "dataset"
    shutil.copytree(nih_dataset, copy)
    made = nih_job(f"dataset={copy}", "split.folds=2", *SETTINGS)
    prepare(made, Silent())
    return made


@pytest.fixture(scope="module")
def trained(job: Job) -> TrainedFolds:
    """Ctrl-C in the second epoch of the second fold, and the same command again."""

    def interrupt(event: dict[str, Any]) -> None:
        if (event["kind"], event.get("fold"), event.get("epoch")) == ("step", 1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_folds(job, interrupt)
    out = Path(job.out)
    done, half = _files(out / "fold-0"), _trained_s(out / "fold-1")
    assert len(half) == 1 and not (out / "predictions-out-of-fold.parquet").exists()

    events: list[dict[str, Any]] = []
    found = train_folds(job, events.append)
    assert _files(out / "fold-0") == done
    assert _trained_s(out / "fold-1")[:1] == half, "its first epoch was trained again"
    (folds,) = [e for e in events if e["kind"] == "folds"]
    assert folds["standing"] == {0: 2, 1: 1}
    assert [e["epoch"] for e in events if e["kind"] == "epoch"] == [2]
    return found


@pytest.fixture(scope="module")
def measured(trained: TrainedFolds) -> CrossValidation:
    return measure_folds(trained, Choices(draws=50))


def test_every_film_but_the_test_films_is_scored_once_by_the_run_of_its_fold(
    job: Job, trained: TrainedFolds
) -> None:
    index = open_dataset(job.dataset, ()).index
    films = index[index["split"].isin(["train", "validation"])]
    table = pd.read_parquet(Path(job.out) / "predictions-out-of-fold.parquet")
    assert table["image_id"].tolist() == films["image_id"].tolist()
    assert table["fold"].tolist() == films["fold"].tolist()
    for fold in (0, 1):
        of_run = pd.read_parquet(Path(job.out) / f"fold-{fold}/predictions-validation.parquet")
        pd.testing.assert_frame_equal(
            table[table["fold"] == fold].drop(columns="fold").reset_index(drop=True), of_run
        )
    assert not set(table["patient_id"]) & set(index.loc[index["split"] == "test", "patient_id"])


def test_figures_of_each_fold_are_those_of_its_run(job: Job, measured: CrossValidation) -> None:
    written = json.loads((Path(job.out) / "metrics.json").read_text())
    assert written == measured.metrics
    for fold in (0, 1):
        of_run = json.loads((Path(job.out) / f"fold-{fold}/metrics.json").read_text())
        assert written["by_fold"][fold]["auroc"] == of_run["auroc"]
        assert written["by_fold"][fold]["epoch"] == of_run["epoch"]


def test_predictions_that_are_not_each_film_once_are_refused(trained: TrainedFolds) -> None:
    path = Path(trained.runs[0].recipe.out) / "predictions-validation.parquet"
    whole = path.read_bytes()
    table = pd.read_parquet(path)
    rows = trained.runs[0].dataset.rows("validation")
    pd.concat([table.iloc[1:], table.iloc[-1:]]).to_parquet(path)
    with pytest.raises(
        RayCxrError, match=rf"fold 0: .*lacking: index rows {rows[0]}; twice: index rows {rows[-1]}\)"
    ):
        gather(trained.dataset, trained.runs, trained.findings)
    path.write_bytes(whole)


def test_the_page_says_mean_spread_and_what_is_missing_and_names_nobody(
    job: Job, measured: CrossValidation
) -> None:
    write_crossval_report(Folder(job.out), measured)
    page = (Path(job.out) / "report/index.html").read_text()
    metrics = measured.metrics
    assert f"AUROC {metrics['mean_auroc']:.3f} ± {metrics['standard_deviation']['mean_auroc']:.3f}" in page
    for finding, why in metrics["not_measurable"].items():
        assert f"{finding}: {why}." in page
    assert not [n for n in {*measured.scored.patient_ids} | {*measured.scored.image_ids} if f">{n}<" in page]
    measured.metrics["leak"] |= {"clean": False}
    assert render_crossval("x", measured).count('class="alarm') == page.count('class="alarm') + 1
    folds = pd.read_csv(Path(job.out) / "report/tables/folds.csv")
    assert len(folds) == 2 * len(metrics["auroc"])


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (
            ["train.epochs=3"],
            RefusedError,
            r"fold-0 holds a run of another job \(train\.epochs was 2, now 3\)",
        ),
        (["fold=1"], InputError, r"fold: got 1, but crossval trains every fold"),
    ],
)
def test_another_job_in_its_directory_is_refused(
    trained: TrainedFolds, nih_job: Callable[..., Job], overrides: list[str], error: type[Exception], words: str
) -> None:  # fmt: skip
    recipe = trained.recipe
    other = nih_job(f"dataset={recipe.dataset}", f"out={recipe.out}", *SETTINGS, *overrides)
    with pytest.raises(error, match=words):
        train_folds(other, _ignore)


def test_a_run_and_a_cross_validation_do_not_share_a_directory(
    job: Job, trained: TrainedFolds, nih_job: Callable[..., Job]
) -> None:
    with pytest.raises(InputError, match="holds something that is no run"):
        fit(job, to_yaml(job), _ignore)
    of_fold = nih_job(f"dataset={job.dataset}", f"out={trained.runs[0].recipe.out}")
    with pytest.raises(InputError, match=r"holds a run of ray-cxr train; give a new or empty directory"):
        train_folds(of_fold, _ignore)


def test_a_second_command_at_work_in_it_is_refused(job: Job, trained: TrainedFolds) -> None:
    with (
        alone(Folder(job.out), ".crossval.lock", "it"),
        pytest.raises(
            RefusedError, match="another process is at work on the cross-validation .*nothing was changed"
        ),
    ):
        train_folds(job, _ignore)


def test_a_fold_that_fails_does_not_stop_the_others(
    job: Job, nih_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def fail_once(recipe: Job, show: Any) -> None:
        begun.append(recipe.fold)
        raise RayCxrError(f"the loss of fold {recipe.fold} is not finite.")

    other = nih_job(f"dataset={job.dataset}", *SETTINGS)
    monkeypatch.setattr(run_here, "fit_here", fail_once)
    with pytest.raises(
        RayCxrError,
        match=r"2 of 2 folds failed \(fold 0: the loss of fold 0 is not finite; fold 1: .*same command",
    ):
        train_folds(other, _ignore)
    assert begun == [0, 1]


def test_data_set_without_folds_is_told(nih_job: Callable[..., Job], nih_dataset: str) -> None:
    dataset = open_dataset(nih_dataset, ())
    dataset.index["fold"] = pd.NA
    with pytest.raises(InputError, match=r"prepared without folds; prepare it with split\.folds=5"):
        plan_folds(nih_job(f"dataset={nih_dataset}"), dataset)
