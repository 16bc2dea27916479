"""A data set as one fold of a cross-validation sees it: which films train, which validate, and what is said of them. Pure.

Reads: the index with its `fold` column, and the manifest. Gives: both anew; no shard is written, folds are cut across them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.shards.manifest import fold_fingerprint, protocol_details, split_counts
from ray_cxr.splits.cautions import cautions
from ray_cxr.splits.leak import check_leaks, refuse_leak
from ray_cxr.splits.settings import SplitSettings

FOLDED = ("train", "validation")
"""The splits whose films are dealt into folds; test and unused films stay what they are."""


def number_of_folds(index: pd.DataFrame) -> int:
    """0 where the data set was prepared without."""
    folds = index["fold"].dropna()
    return int(folds.max()) + 1 if len(folds) else 0


def check_fold(index: pd.DataFrame, fold: int, dataset: str) -> None:
    """Raises InputError where there is no such fold. dataset: its place, for the message."""
    folds = number_of_folds(index)
    if not folds:
        raise InputError(
            f"fold: got {fold}, but the data set {dataset} was prepared without folds; prepare it with split.folds=5 (no film "
            "is decoded anew), or leave fold out."
        )
    if fold >= folds:
        raise InputError(
            f"fold: got {fold}, but the data set {dataset} has the folds 0 to {folds - 1}; use one of these, or prepare it "
            "with another split.folds."
        )


def fold_index(index: pd.DataFrame, fold: int) -> pd.DataFrame:
    """The index with `split` validation for the films of this fold and train for those of the others.

    Each prepared set's weights stand for all films of nature; put together, each counts by its share of films, so their
    means are made equal.
    """
    view = index.copy()
    folded = index["split"].isin(FOLDED)
    weight = index.loc[folded].groupby("split")["sampling_weight"].transform(lambda w: w / w.mean())
    view.loc[folded, "sampling_weight"] = weight
    view.loc[folded, "split"] = np.where(
        index.loc[folded, "fold"].to_numpy(int) == fold, "validation", "train"
    )
    return view


def fold_manifest(manifest: dict[str, Any], view: pd.DataFrame, fold: int) -> dict[str, Any]:
    """What a manifest says of the index of a fold. RefusedError where patients are shared between folds.

    The pixel statistics stay those of the prepared training films: two numbers, which some validation films of a fold
    had a part in.
    """
    findings = list(manifest["findings"])
    leaks = check_leaks(view, manifest["leak_check"]["allowed"])
    refuse_leak(leaks)
    counts = split_counts(view, findings)
    details = protocol_details(view, findings, SplitSettings.model_validate(manifest["settings"]["split"]))
    return manifest | {
        "fingerprint": fold_fingerprint(view, manifest["fingerprint"], fold),
        "protocol": "kfold",
        "protocol_details": details | {"fold": fold},
        "splits": counts,
        "leak_check": leaks.as_dict(),
        "warnings": cautions(counts, findings, leaks),
    }
