"""The index: a row per usable film, with its split, fold, weight and place in the shards. Pure.

Reads: the label table with the facts of each film. Gives: what becomes `index.parquet`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ray_cxr.shards.layout import lay_out
from ray_cxr.shards.settings import Preparation
from ray_cxr.splits.sampled import sampled_split

_HASHES = ["file_sha256", "pixel_sha256"]
_LAYOUT = ["split", "fold", "shard", "row_group", "row", "sampling_weight"]


def build_index(films: pd.DataFrame, findings: list[str], job: Preparation) -> pd.DataFrame:
    """The index: usable films in film order with split and place. The row number is the film's name in messages."""
    index = films[films["refused"].isna()].reset_index(drop=True)
    labels = index[findings].to_numpy(np.float32)
    index["split"] = sampled_split(index["patient_id"].tolist(), labels, job.split, job.seed)
    index["fold"] = pd.array([pd.NA] * len(index), dtype="Int8")
    index["sampling_weight"] = 1.0
    return index.join(lay_out(index, job.shards.rows_per_group, job.shards.shard_mib))


def index_columns(findings: list[str]) -> list[str]:
    """The columns of `index.parquet`, in order."""
    return ["image_id", "patient_id", *_LAYOUT, *findings, "view", "age", "sex", "source", *_HASHES]
