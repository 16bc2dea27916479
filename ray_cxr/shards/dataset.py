"""Opens a prepared data set, and checks it again: patients, fingerprint, shards.

Reads: `manifest.json`, `index.parquet` and the names of the shards of the splits asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ray_cxr.axes import Labels, Rows
from ray_cxr.errors import InputError, reason_of
from ray_cxr.films.settings import Codec
from ray_cxr.parquet import read_frame
from ray_cxr.shards.folds import check_fold, fold_index, fold_manifest, number_of_folds
from ray_cxr.shards.manifest import fingerprint, manifest_hash, sha256
from ray_cxr.splits.leak import check_leaks, leak_warning, refuse_leak
from ray_cxr.storage import Folder


@dataclass(frozen=True)
class Dataset:
    """An opened data set. `index` holds every film, also of splits that were not asked for, without pixels."""

    folder: Folder
    manifest: dict[str, Any]
    index: pd.DataFrame

    @property
    def findings(self) -> list[str]:
        return list(self.manifest["findings"])

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def image_px(self) -> int:
        return int(self.manifest["image_px"])

    @property
    def codec(self) -> Codec:
        codec: Codec = self.manifest["codec"]
        return codec

    @property
    def leak_warning(self) -> str | None:
        """What must be said before any result on this data set; None where no patient is shared."""
        return leak_warning(self.manifest["leak_check"])

    def rows(self, split: str) -> Rows:
        """Row numbers in the index of a split's films, in shard order."""
        return np.flatnonzero(self.index["split"].to_numpy() == split)

    def labels(self, findings: Sequence[str]) -> Labels:
        """[N, F] float32 of all films of the index."""
        return self.index[list(findings)].to_numpy(np.float32)

    @property
    def folds(self) -> int:
        """Number of folds that patients were dealt into; 0 where the data set was prepared without."""
        return number_of_folds(self.index)

    def with_fold(self, fold: int) -> Dataset:
        """The same films, where `validation` are those of this fold and `train` those of the others; test films stay.

        Its fingerprint is of this fold alone. Raises InputError (no such fold) and RefusedError (patients shared).
        """
        check_fold(self.index, fold, str(self.folder))
        view = fold_index(self.index, fold)
        return Dataset(self.folder, fold_manifest(self.manifest, view, fold), view)


def open_dataset(url: str, splits: Sequence[str], fold: int | None = None) -> Dataset:
    """Opens a data set for work on `splits`, as prepared or as a fold of it sees it.

    The shards of other splits are neither needed nor looked at.
    Raises InputError (not a data set, changed or incomplete, no such fold) and RefusedError (patients shared).
    """
    folder = Folder(url)
    if not folder.exists("manifest.json"):
        hint = "its preparation has not ended; run `ray-cxr prepare` again" if folder.exists("films") else (
            "run `ray-cxr prepare` first"
        )  # fmt: skip
        raise InputError(f"dataset: {folder} holds no prepared data set (no manifest.json); {hint}.")
    try:
        manifest = folder.read_json("manifest.json")
        if manifest_hash(manifest) != manifest["manifest_sha256"]:
            raise InputError(
                f"dataset: manifest.json of {folder} was changed by hand; prepare the data set again."
            )
        data = folder.read_bytes("index.parquet")
        index, index_hash = read_frame(data, f"{folder}/index.parquet"), sha256(data)
        del data  # of 10 million films, 1.6 GB
        refuse_leak(check_leaks(index, manifest["leak_check"]["allowed"]))
        found = fingerprint(index, manifest["findings"], manifest["films_fingerprint"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, OSError, ValueError) as error:
        raise InputError(
            f"dataset: {folder} cannot be read ({reason_of(error)}); prepare it again."
        ) from None
    if found != manifest["fingerprint"]:
        raise InputError(
            f"dataset: index.parquet of {folder} is not the one that its manifest describes (films, labels or split "
            "were changed); prepare the data set again."
        )
    if index_hash != manifest["index_sha256"]:
        raise InputError(
            f"dataset: index.parquet of {folder} is not the one that its manifest describes (folds, weights or places "
            "of films were changed); prepare the data set again."
        )
    dataset = Dataset(folder, manifest, index)
    if fold is not None:
        dataset = dataset.with_fold(fold)
    for split in splits:
        _check_shards(dataset, split, url)
    return dataset


def _check_shards(dataset: Dataset, split: str, url: str) -> None:
    rows = dataset.rows(split)
    if not len(rows):
        raise InputError(
            f"dataset: {url!r} has no films in its {split} split; prepare it with a larger split.{split}."
        )
    # A fold is cut across the shards of training and validation.
    named = set(dataset.index["shard"].iloc[rows])
    folders = {str(path).rpartition("/")[0] for path in named}
    missing = sorted(named - {f"{f}/{name}" for f in folders for name in (dataset.folder / f).names()})
    if missing:
        raise InputError(
            f"dataset: {url!r} lacks {missing[0]} ({len(missing)} shards are missing); prepare the data set again."
        )


def check_findings(dataset: Dataset, wanted: Sequence[str] | None) -> list[str]:
    """The findings to work on: all of the data set's, or those asked for, in the order asked for."""
    if wanted is None:
        return dataset.findings
    unknown = [f for f in wanted if f not in dataset.findings]
    if unknown:
        raise InputError(
            f"findings: {unknown[0]!r} is not in the data set, which has {', '.join(dataset.findings)}; "
            "prepare it with this finding, or leave it out."
        )
    if len(set(wanted)) < len(wanted):
        raise InputError(f"findings: got {', '.join(wanted)}; give each finding once.")
    return list(wanted)
