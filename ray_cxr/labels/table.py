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
from ray_cxr.labels.csv_source import csv_table
from ray_cxr.labels.folder_source import folder_table
from ray_cxr.labels.join import alike_patients, common_names, join_patients, part_films, pseudonymise
from ray_cxr.labels.nih import nih_table
from ray_cxr.labels.phantom import FINDINGS as PHANTOM_FINDINGS
from ray_cxr.labels.phantom import phantom_table
from ray_cxr.labels.pseudonym import read_key, readable_by_others
from ray_cxr.labels.settings import CsvSource, FolderSource, NihSource, PhantomSource, Source
from ray_cxr.labels.source import SourceTable
from ray_cxr.labels.who_labels import label_lines

DESCRIPTION_COLUMNS = [
    "image_id", "patient_id", "film_name", "given_split", "locator", "view", "age", "sex", "source",
]  # fmt: skip
"""Columns before the findings.

`film_name` is the film's name by which lists of films know it, whatever the pseudonyms: its file's name with suffix, or
the path in the table where files of one name repeat; `given_split` the text of the source's own split column (missing
without one); `locator` says where the film is: a path, `phantom:…`, or missing where the film was not found. The three
serve preparation and do not get into the data set.
"""


@dataclass(frozen=True)
class SourceCount:
    """What one source gave: rows of its table, why rows are not films here, and who labels what.

    labelled, positives: by finding, 0 where the source does not know it. notes: what was guessed, joined or not
    understood.
    """

    source: str
    rows: int
    films: int
    without_file: int = 0
    other_views: int = 0
    patients: int = 0
    labelled: dict[str, int] = field(default_factory=dict)
    positives: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        parts = [
            f"source {self.source}: {self.rows:,} rows in the label table, {self.films:,} films of "
            f"{self.patients:,} patients found"
        ]
        parts += [f"{self.without_file:,} rows without a film"] * bool(self.without_file)
        parts += [f"{self.other_views:,} of other views"] * bool(self.other_views)
        return ", ".join(parts)


@dataclass(frozen=True)
class LabelTable:
    """One row per film, in film order (a fixed shuffle by image id, the same for every split).

    frame: DESCRIPTION_COLUMNS as str (age float32, years, NaN = unknown), then one float32 column per
    finding (0, 1, NaN = not labelled). findings: their names, in the order of the model's outputs.
    notes: what holds for the sources together.
    """

    frame: pd.DataFrame
    findings: list[str]
    counts: list[SourceCount] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to tell a person: counts, notes, and with several sources the table of who labels what."""
        lines = [line for c in self.counts for line in (c.sentence(), *(f"  {note}" for note in c.notes))]
        lines += self.notes
        if len(self.counts) > 1:
            lines += label_lines({c.source: (c.labelled, c.positives) for c in self.counts}, self.findings)
        return lines


def build_label_table(
    sources: Sequence[Source], findings: Sequence[str] | None, keep_missing: bool = False
) -> LabelTable:
    """Reads all sources and joins them by finding name; InputError where that cannot be done.

    keep_missing: rows whose film was not found stay, without a locator, for those who look at labels only.
    """
    alone = len(sources) == 1
    named = {s.kind if alone else f"{n}:{s.kind}": s for n, s in enumerate(sources)}
    keys, notes = _keys(named)
    tables = {name: _read(source, keep_missing) for name, source in named.items()}
    chosen, renamed, joined = common_names(tables, findings)
    _check_films(tables)
    frames = [
        t.frame.drop(columns=[f for f in t.findings if f not in renamed[name]])
        .rename(columns=renamed[name])
        .reindex(columns=[*DESCRIPTION_COLUMNS, *chosen])
        .assign(source=name)
        for name, t in tables.items()
    ]
    frame = pd.concat([_as_stated(f, chosen) for f in frames], ignore_index=True)
    _check(frame)
    frame["patient_id"], shared = join_patients(frame["patient_id"], frame["source"])
    public = {name for name, source in named.items() if not isinstance(source, (CsvSource, FolderSource))}
    frame["image_id"], parted = part_films(frame, public)
    notes += [*joined, *_shared_notes(shared, parted), *_alike_notes(alike_patients(frame["patient_id"]))]
    counts = [_count(name, table, frame[frame["source"] == name], chosen) for name, table in tables.items()]
    return LabelTable(_in_film_order(pseudonymise(frame, keys)), chosen, counts, notes)


def _keys(sources: dict[str, Source]) -> tuple[dict[str, bytes], list[str]]:
    """The keys of the sources that make pseudonyms, looked for before any table is read."""
    keys: dict[str, bytes] = {}
    notes: list[str] = []
    for name, source in sources.items():
        if isinstance(source, PhantomSource) or not source.pseudonymise:
            continue
        file = source.pseudonym_key_file
        keys[name] = read_key(file)
        if file is not None and readable_by_others(file):
            notes.append(
                f"source {name}: other users of this machine may read the key {file}; chmod 600 {file}"
            )
    return keys, notes


def _read(source: Source, keep_missing: bool) -> SourceTable:
    match source:
        case NihSource():
            return nih_table(source, keep_missing)
        case CsvSource():
            return csv_table(source, keep_missing)
        case FolderSource():
            return folder_table(source)
        case PhantomSource():
            frame = phantom_table(source.patients, source.drawing_seed, source.min_films)
            return SourceTable(frame.assign(film_name=frame["image_id"]), PHANTOM_FINDINGS, len(frame))


def _as_stated(frame: pd.DataFrame, findings: list[str]) -> pd.DataFrame:
    """Text columns as text also where a source knows nothing of them, labels and age as float32."""
    texts = [c for c in DESCRIPTION_COLUMNS if c != "age"]
    frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), None)
    frame[["age", *findings]] = frame[["age", *findings]].astype(np.float32)
    return frame


def _shared_notes(shared: int, parted: int) -> list[str]:
    notes = []
    if shared:
        notes.append(
            f"{shared:,} patient ids stand in more than one source; they count as the same people and stay in one split"
        )
    if parted:
        notes.append(
            f"{parted:,} film names stand in more than one source with different files; they count as different films"
        )
    return notes


def _alike_notes(alike: int) -> list[str]:
    if not alike:
        return []
    return [
        f"{alike:,} patient ids differ only by capitals or leading zeros and count as different people; if they are the "
        "same people, write their ids alike in the table, or one person's films may get into two splits"
    ]


def _count(name: str, table: SourceTable, films: pd.DataFrame, findings: list[str]) -> SourceCount:
    return SourceCount(
        name,
        table.rows,
        int(films["locator"].notna().sum()),
        table.without_file,
        table.other_views,
        int(films["patient_id"].nunique()),
        {f: int(films[f].notna().sum()) for f in findings},
        {f: int((films[f] == 1).sum()) for f in findings},
        table.notes,
    )


def _check_films(tables: dict[str, SourceTable]) -> None:
    for name, table in tables.items():
        if table.frame.empty:
            which = "source" if len(tables) == 1 else f"source {name}"
            views = f", {table.other_views:,} are of other views" if table.other_views else ""
            raise InputError(
                f"{which}: no film was found for the {table.rows:,} rows of the label table{views}; check that "
                "source.images holds the files that the label table names."
            )


def _check(frame: pd.DataFrame) -> None:
    nameless = int((frame["patient_id"].isna() | (frame["patient_id"] == "")).sum())
    if nameless:
        raise InputError(
            f"source: {nameless} films have no patient id, so nobody could keep patients apart; fill the column in."
        )


def _in_film_order(frame: pd.DataFrame) -> pd.DataFrame:
    """A fixed shuffle: neighbours in the film store are then unrelated, and shards are copied in stretches."""
    keys = [hashlib.blake2b(i.encode(), digest_size=8).digest() for i in frame["image_id"]]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return frame.iloc[order].reset_index(drop=True)
