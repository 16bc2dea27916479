"""Training on all folds but one: whom it scores, what it says of itself, and what may not go on in its directory."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError, RefusedError
from ray_cxr.evaluate.evaluate import evaluate_run
from ray_cxr.evaluate.figures import Choices
from ray_cxr.job import Job
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.storage import Folder
from ray_cxr.train.fit import check_recipe, fit


def _train(job: Job) -> None:
    fit(job, to_yaml(job), lambda event: None)


@pytest.fixture(scope="module")
def folded(nih_job: Callable[..., Job], nih_dataset: str) -> Job:
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=1", "fold=2")
    _train(job)
    return job


def test_fold_run_scores_its_fold_and_says_so(folded: Job) -> None:
    view = open_dataset(folded.dataset, (), 2)
    scored = pd.read_parquet(Path(folded.out) / "predictions-validation.parquet")
    assert scored["image_id"].tolist() == view.index["image_id"].iloc[view.rows("validation")].tolist()
    metrics = json.loads((Path(folded.out) / "metrics.json").read_text())
    assert (metrics["split"], metrics["protocol"], metrics["fingerprint"]) == (
        "validation",
        "kfold",
        view.fingerprint,
    )
    line = json.loads((Path(folded.out) / "history.jsonl").read_text())
    assert line["films"] == len(view.rows("train"))


def test_fold_run_is_tested_on_the_test_films_of_the_data_set(folded: Job) -> None:
    found = evaluate_run(
        Folder(folded.out), None, lambda what, total: None, lambda films: None, Choices(draws=100)
    )
    whole = open_dataset(folded.dataset, ())
    assert found.rows.tolist() == whole.rows("test").tolist()
    assert found.metrics["protocol_details"]["split_fold"] == 2


@pytest.mark.parametrize(("fold", "words"), [("null", "fold was 2, now None"), ("1", "fold was 2, now 1")])
def test_another_fold_in_its_directory_is_refused(
    folded: Job, nih_job: Callable[..., Job], fold: str, words: str
) -> None:
    job = nih_job(f"dataset={folded.dataset}", f"out={folded.out}", "train.epochs=1", f"fold={fold}")
    with pytest.raises(RefusedError, match=words):
        _train(job)


def test_fold_that_cannot_be_measured_is_told_before_training(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = nih_job(f"dataset={nih_dataset}", "fold=0", "findings=[Hernia]", "loss.drop_unlearnable=true")
    view = open_dataset(nih_dataset, ("train",), 0)
    view.index.loc[view.rows("validation"), "Hernia"] = 0.0
    monkeypatch.setattr("ray_cxr.train.fit.open_dataset", lambda *_: view)
    with pytest.raises(
        InputError, match=r"fold: no finding has .* among the films of fold 0.*fewer split\.folds"
    ):
        check_recipe(job)
