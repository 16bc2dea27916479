"""The label table: what every source becomes, and how several are joined.

Reads: sources (settings). Gives: `LabelTable`, in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.nih import nih_table
from ray_cxr.labels.phantom import FINDINGS as PHANTOM_FINDINGS
from ray_cxr.labels.phantom import phantom_table
from ray_cxr.labels.settings import NihSource, PhantomSource, Source

DESCRIPTION_COLUMNS = [
    "image_id", "patient_id", "film_name", "given_split", "locator", "view", "age", "sex", "source",
]  # fmt: skip
"""Columns before the findings.

`film_name` is the film's name in the source's own table, by which lists of films know it; `given_split` the text of the
source's own split column (missing without one); `locator` says where the film is: a path, `phantom:…`, or missing
where the film was not found. The three serve preparation and do not get into the data set.
"""


@dataclass(frozen=True)
class SourceCount:
    """What one source gave: rows of its table, and why rows are not films here."""

    source: str
    rows: int
    films: int
    without_file: int = 0
    other_views: int = 0


@dataclass(frozen=True)
class LabelTable:
    """One row per film, in film order (a fixed shuffle by image id, the same for every split).

    frame: DESCRIPTION_COLUMNS as str (age float32, years, NaN = unknown), then one float32 column per
    finding (0, 1, NaN = not labelled). findings: their names, in the order of the model's outputs.
    """

    frame: pd.DataFrame
    findings: list[str]
    counts: list[SourceCount] = field(default_factory=list)


def build_label_table(
    sources: Sequence[Source], findings: Sequence[str] | None, keep_missing: bool = False
) -> LabelTable:
    """Reads all sources and joins them by finding name; InputError where that cannot be done.

    keep_missing: rows whose film was not found stay, without a locator, for those who look at labels only.
    """
    frames: list[pd.DataFrame] = []
    counts: list[SourceCount] = []
    known: list[str] = []
    for number, source in enumerate(sources):
        name = source.kind if len(sources) == 1 else f"{number}:{source.kind}"
        frame, labelled, count = _read(source, name, keep_missing)
        frames.append(frame.assign(source=name))
        counts.append(count)
        known += [f for f in labelled if f not in known]
    chosen = _choose(known, findings)
    frame = pd.concat([f.reindex(columns=DESCRIPTION_COLUMNS + chosen) for f in frames], ignore_index=True)
    frame[chosen] = frame[chosen].astype(np.float32)
    _check(frame)
    return LabelTable(_in_film_order(frame), chosen, counts)


def _read(source: Source, name: str, keep_missing: bool) -> tuple[pd.DataFrame, list[str], SourceCount]:
    if isinstance(source, PhantomSource):
        frame = phantom_table(source.patients, source.drawing_seed)
        frame["film_name"] = frame["image_id"]
        return frame, list(PHANTOM_FINDINGS), SourceCount(name, len(frame), len(frame))
    assert isinstance(source, NihSource)
    nih = nih_table(source, keep_missing)
    films = int(nih.frame["locator"].notna().sum())
    count = SourceCount(name, nih.rows, films, without_file=nih.without_file, other_views=nih.other_views)
    return nih.frame, list(nih.findings), count


def _choose(known: list[str], wanted: Sequence[str] | None) -> list[str]:
    if wanted is None:
        return known
    unknown = [f for f in wanted if f not in known]
    if unknown:
        raise InputError(
            f"findings: {unknown[0]!r} is labelled by no source; labelled are {', '.join(known)}."
        )
    if len(set(wanted)) < len(wanted):
        raise InputError(f"findings: got {', '.join(wanted)}; give each finding once.")
    return list(wanted)


def _check(frame: pd.DataFrame) -> None:
    if frame.empty:
        raise InputError(
            "source: no film was found; check that source.images holds the files that the label table names."
        )
    nameless = int((frame["patient_id"].isna() | (frame["patient_id"] == "")).sum())
    if nameless:
        raise InputError(
            f"source: {nameless} films have no patient id, so nobody could keep patients apart; fill the column in."
        )
    twice = int(frame["image_id"].duplicated().sum())
    if twice:
        raise InputError(
            f"source: {twice} image ids stand more than once in the label table; each must be unique."
        )


def _in_film_order(frame: pd.DataFrame) -> pd.DataFrame:
    """A fixed shuffle: neighbours in the film store are then unrelated, and shards are copied in stretches."""
    keys = [hashlib.blake2b(i.encode(), digest_size=8).digest() for i in frame["image_id"]]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return frame.iloc[order].reset_index(drop=True)
