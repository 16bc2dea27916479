"""Out-of-fold predictions: what each fold's run says of the films that it never saw, in one table.

Reads: `predictions-validation.parquet` of each fold's run. Gives: the rows of `predictions-out-of-fold.parquet`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ray_cxr.axes import Rows
from ray_cxr.crossval.plan import FoldRun
from ray_cxr.errors import RayCxrError, reason_of
from ray_cxr.parquet import read_frame
from ray_cxr.shards.dataset import Dataset
from ray_cxr.shards.folds import FOLDED

_SHOWN = 8


def gather(dataset: Dataset, runs: Sequence[FoldRun], findings: Sequence[str]) -> tuple[Rows, pd.DataFrame]:
    """Rows [N] of the index, ascending, and for each film `image_id`, `patient_id`, `fold`, `prob_<finding>`, `label_<finding>`.

    Raises RayCxrError unless every film of training and validation is there exactly once, scored by the run of its own fold.
    """
    tables = [_of_fold(dataset, run, findings) for run in runs]
    rows = np.concatenate([rows for rows, _ in tables])
    frame = pd.concat([table for _, table in tables], ignore_index=True)
    _reconcile(rows, np.concatenate([dataset.rows(s) for s in FOLDED]), "the folds together")
    order = np.argsort(rows, kind="stable")
    return rows[order], frame.iloc[order].reset_index(drop=True)


def _of_fold(dataset: Dataset, run: FoldRun, findings: Sequence[str]) -> tuple[Rows, pd.DataFrame]:
    columns = ["image_id", "patient_id", *(f"{kind}_{f}" for kind in ("prob", "label") for f in findings)]
    try:
        data = run.run.read_bytes("predictions-validation.parquet")
        frame = read_frame(data, f"{run.run}/predictions-validation.parquet", columns)
    except (OSError, ValueError) as error:
        raise RayCxrError(
            f"fold {run.fold}: predictions-validation.parquet of {run.run} cannot be read ({reason_of(error)}); remove that "
            "directory and give the same command again."
        ) from None
    rows = pd.Index(dataset.index["image_id"]).get_indexer(pd.Index(frame["image_id"]))
    _reconcile(rows, run.dataset.rows("validation"), f"fold {run.fold}")
    frame.insert(2, "fold", np.int8(run.fold))
    return rows, frame


def _reconcile(rows: Rows, planned: Rows, whose: str) -> None:
    """Raises RayCxrError unless the rows [N] are those that were planned, each once; -1 is a film that is not in the index."""
    if np.array_equal(np.sort(rows), np.sort(planned)):
        return
    found, times = np.unique(rows, return_counts=True)
    parts = {
        "lacking": np.setdiff1d(planned, found),
        "twice": found[times > 1],
        "of other folds or none": np.setdiff1d(found[found >= 0], planned),
    }
    said = "; ".join(f"{what}: index rows {_listed(of)}" for what, of in parts.items() if len(of))
    unknown = f"; not in the index: {(rows < 0).sum()} films" if (rows < 0).any() else ""
    raise RayCxrError(
        f"{whose}: the predictions are of {len(rows)} films where {len(planned)} were to be scored ({said}{unknown}); the "
        "figures would be wrong, so nothing is written."
    )


def _listed(rows: Rows) -> str:
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(map(str, rows[:_SHOWN].tolist())) + more
