"""The index: a row per usable film, with its split, fold, weight and place in the shards. Pure.

Reads: the label table, with the facts of each film once they are known. Gives: what becomes `index.parquet`.
"""

from __future__ import annotations

import pandas as pd

from ray_cxr.shards.layout import lay_out
from ray_cxr.shards.settings import Preparation
from ray_cxr.splits.deal import deal
from ray_cxr.splits.lists import Lists

_HASHES = ["file_sha256", "pixel_sha256"]
_LAYOUT = ["split", "fold", "shard", "row_group", "row", "sampling_weight"]


def split_films(
    films: pd.DataFrame, findings: list[str], job: Preparation, lists: Lists
) -> tuple[pd.DataFrame, list[str]]:
    """Usable films in film order with `split`, `fold` (Int8), `sampling_weight` (float64), and sentences about the split.

    Needs no film: rows of a label table will do. Raises InputError, RefusedError (a film in two lists).
    """
    index = films[films["refused"].isna()] if "refused" in films else films
    index = index.reset_index(drop=True)
    dealt = deal(index, findings, job.split, job.seed, lists)
    index["split"] = dealt.split
    index["fold"] = pd.array(dealt.fold, dtype="Int8")
    index.loc[dealt.fold < 0, "fold"] = pd.NA
    index["sampling_weight"] = dealt.weight
    return index, dealt.notes


def place_films(index: pd.DataFrame, job: Preparation) -> pd.DataFrame:
    """The index with each film's place in the shards; its row number is the film's name in messages."""
    return index.join(lay_out(index, job.shards.rows_per_group, job.shards.shard_mib))


def index_columns(findings: list[str]) -> list[str]:
    """The columns of `index.parquet`, in order."""
    return ["image_id", "patient_id", *_LAYOUT, *findings, "view", "age", "sex", "source", *_HASHES]
