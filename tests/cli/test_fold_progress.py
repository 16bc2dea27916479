"""Folds that train beside each other, in plain lines: which fold says what, and how far all are together."""

import pytest

from ray_cxr.cli.fold_progress import FoldProgress
from ray_cxr.console import ConsoleProgress


def test_lines_name_the_fold_and_count_the_epochs_of_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_cxr.console._PLAIN_INTERVAL_S", 0.0)
    with ConsoleProgress() as progress:
        show = FoldProgress(progress)
        show({"kind": "note", "text": "3 folds to train, 2 at a time"})
        show({"kind": "folds", "folds": 4, "epochs": 2, "standing": {0: 2, 1: 1, 2: 0, 3: 0}})
        show({"kind": "step", "fold": 2, "epoch": 1, "step": 4, "steps": 8, "loss": 0.5, "images_per_s": 9.0})
        show({"kind": "validation", "fold": 1, "epoch": 2, "epochs": 2, "films": 8, "of": 16})
        show(
            {"kind": "epoch", "fold": 1, "epoch": 2, "epochs": 2, "train_loss": 0.25, "mean_auroc": 0.75, "best": True,
             "images_per_s": 12.4}
        )  # fmt: skip
        show({"kind": "end", "fold": 1, "error": ""})
        show({"kind": "something that only a single run shows", "fold": 2})
        show({"kind": "end", "fold": 2, "error": "its process died"})
        # Stopped early, so two epochs are left out, and all are done.
        show({"kind": "end", "fold": 3, "error": ""})
    assert capsys.readouterr().err.splitlines() == [
        "3 folds to train, 2 at a time",
        "going on: 2 of 4 folds have been begun or are done",
        "training epochs: 3 of 8",
        "training epochs: 3 of 8 (fold 2: epoch 1, step 4/8)",
        "training epochs: 3 of 8 (fold 1: epoch 2, its own films; fold 2: epoch 1, step 4/8)",
        "fold 1, epoch 2/2: loss 0.2500, mean AUROC on the fold 0.7500, best so far (12 films/s)",
        "training epochs: 4 of 8 (fold 1: epoch 2, its own films; fold 2: epoch 1, step 4/8)",
        "training epochs: 4 of 8 (fold 2: epoch 1, step 4/8)",
        "fold 2 failed: its process died",
        "training epochs: 4 of 8",
        "training epochs: 6 of 8",
        "training epochs: 6 of 8 done",
    ]
