"""Which epoch's model is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.numpy import load_file

from ray_cxr.config import to_yaml
from ray_cxr.job import Job
from ray_cxr.train import validate
from ray_cxr.train.fit import fit


@pytest.mark.parametrize(("keep", "kept"), [("best", 2), ("last", 3)])
def test_the_epoch_that_is_asked_for_goes_to_best(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch, keep: str, kept: int
) -> None:
    """Epochs whose mean AUROC is made up: 0.5, 0.7, 0.6."""
    figures, made_up = validate.metrics_by_finding, [0.5, 0.7, 0.6]

    def invented(*arguments: Any) -> dict[str, Any]:
        return figures(*arguments) | {"mean_auroc": made_up.pop(0)}

    monkeypatch.setattr(validate, "metrics_by_finding", invented)
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=3", f"train.keep={keep}")
    fit(job, to_yaml(job), lambda event: None)
    out = Path(job.out)
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [line["best"] for line in lines] == [True, True, False]
    card = json.loads((out / "best/model.json").read_text())
    assert (card["epoch"], card["mean_auroc"]) == (kept, [0.5, 0.7, 0.6][kept - 1])
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["epoch"], metrics["keep"]) == (kept, keep)
    # The model of the last epoch is in the newest checkpoint, that of the epoch before in the other.
    saved = sorted((out / "checkpoints").iterdir())[kept - 4]
    weights, checkpoint = load_file(out / "best/model.safetensors"), load_file(saved / "model.safetensors")
    assert weights.keys() == checkpoint.keys()
    assert all((weights[n] == checkpoint[n]).all() for n in weights)
    assert len(pd.read_parquet(out / "predictions-validation.parquet")) > 0


def test_training_ends_when_patience_does_and_stays_ended(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best after epoch 2; epochs 3 and 4 are no better, so epoch 5 does not come."""
    figures, made_up = validate.metrics_by_finding, [0.5, 0.7, 0.6, 0.7, 0.9]

    def invented(*arguments: Any) -> dict[str, Any]:
        return figures(*arguments) | {"mean_auroc": made_up.pop(0)}

    monkeypatch.setattr(validate, "metrics_by_finding", invented)
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=6", "train.patience=2")
    for trained in ([1, 2, 3, 4], []):
        events: list[dict[str, Any]] = []
        fit(job, to_yaml(job), events.append)
        assert [e["epoch"] for e in events if e["kind"] == "epoch"] == trained
        assert events[-1]["text"] == "no better epoch in 2 after epoch 2: training ends"
    assert json.loads((Path(job.out) / "metrics.json").read_text())["epoch"] == 2
