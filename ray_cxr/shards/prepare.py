"""`prepare`: sources → label table → film store → split → shards → index and manifest.

Reads: settings and sources. Writes: the data set directory. `manifest.json` is written last: a directory
without it is not a data set.
"""

from __future__ import annotations

import io
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow

from ray_cxr import __version__
from ray_cxr.errors import InputError
from ray_cxr.films.store import FILMS_PER_PART, build_film_store
from ray_cxr.labels.settings import Source
from ray_cxr.labels.table import LabelTable, build_label_table
from ray_cxr.ray_session import ray_session
from ray_cxr.shards.layout import lay_out, shard_tasks
from ray_cxr.shards.manifest import films_fingerprint, fingerprint, pixel_statistics, split_counts
from ray_cxr.shards.settings import Preparation
from ray_cxr.shards.write import write_shards
from ray_cxr.splits.leak import check_leaks, refuse_leak
from ray_cxr.splits.sampled import sampled_split
from ray_cxr.storage import Folder

FORMAT = 1
_HASHES = ["file_sha256", "pixel_sha256"]
_LAYOUT = ["split", "fold", "shard", "row_group", "row", "sampling_weight"]


class Progress(Protocol):
    """Where progress goes: a terminal bar, plain lines, or nowhere."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def say(self, line: str) -> None: ...


def prepare(job: Preparation, progress: Progress) -> dict[str, Any]:
    """Makes the data set and gives its manifest; Ray is started once the label table is known to be sound.

    Raises InputError, RefusedError.
    """
    dataset = Folder(job.dataset)
    table = build_label_table(job.source, job.findings)
    for count in table.counts:
        progress.say(_count_sentence(**asdict(count)))
    dataset.remove("manifest.json")
    progress.say("starting Ray")
    with ray_session(workers=0):
        films = _films(table, job, dataset, progress)
        index = _with_split(films, table.findings, job)
        leaks = check_leaks(index)
        refuse_leak(leaks)
        _copy_films(index, job, dataset, progress)
    manifest = _manifest(job, table, films, index, leaks.as_dict())
    _write_parquet(dataset, "index.parquet", index[_index_columns(table.findings)])
    _write_parquet(dataset, "refused.parquet", _refused(films))
    dataset.write_json("manifest.json", manifest)
    progress.say(leaks.sentence())
    return manifest


def _count_sentence(source: str, rows: int, films: int, without_file: int, other_views: int) -> str:
    parts = [f"source {source}: {rows:,} rows in the label table, {films:,} films found"]
    parts += [f"{without_file:,} rows without a film"] * bool(without_file)
    parts += [f"{other_views:,} of other views"] * bool(other_views)
    return ", ".join(parts)


def _films(table: LabelTable, job: Preparation, dataset: Folder, progress: Progress) -> pd.DataFrame:
    """The label table with the facts of each film; stops where a source has too many that are refused."""
    progress.start("films", len(table.frame))
    facts = build_film_store(
        table.frame, dataset / "films", job.shards.image_px, job.shards.codec, progress.advance
    )
    films = pd.concat([table.frame, facts.drop(columns="image_id")], axis=1)
    films["film_number"] = np.arange(len(films))
    for source, name in zip(job.source, (c.source for c in table.counts), strict=True):
        _refuse_too_many(films[films["source"] == name], source, name)
    return films


def _refuse_too_many(films: pd.DataFrame, source: Source, name: str) -> None:
    reasons = films["refused"].dropna().value_counts()
    if reasons.sum() > source.max_refused * len(films):
        listed = "; ".join(f"{n} × {reason}" for reason, n in reasons.items())
        raise InputError(
            f"source.max_refused: {reasons.sum()} of {len(films)} films of source {name} cannot be used, more than "
            f"the fraction {source.max_refused:g} allowed ({listed}); mend the files or allow a larger fraction."
        )


def _with_split(films: pd.DataFrame, findings: list[str], job: Preparation) -> pd.DataFrame:
    """The index: usable films in film order with split and place. The row number is the film's name in messages."""
    index = films[films["refused"].isna()].reset_index(drop=True)
    labels = index[findings].to_numpy(np.float32)
    index["split"] = sampled_split(index["patient_id"].tolist(), labels, job.split, job.seed)
    index["fold"] = pd.array([pd.NA] * len(index), dtype="Int8")
    index["sampling_weight"] = 1.0
    return index.join(lay_out(index, job.shards.rows_per_group, job.shards.shard_mib))


def _copy_films(index: pd.DataFrame, job: Preparation, dataset: Folder, progress: Progress) -> None:
    dataset.remove("shards")
    progress.start("shards", len(index))
    write_shards(shard_tasks(index), dataset, job.shards.rows_per_group, progress.advance)


def _index_columns(findings: list[str]) -> list[str]:
    return ["image_id", "patient_id", *_LAYOUT, *findings, "view", "age", "sex", "source", *_HASHES]


def _refused(films: pd.DataFrame) -> pd.DataFrame:
    """Names the films: the one artifact, beside an audit, whose purpose that is."""
    refused = films[films["refused"].notna()]
    return refused[["image_id", "source", "locator", "refused"]].rename(columns={"refused": "reason"})


def _manifest(
    job: Preparation, table: LabelTable, films: pd.DataFrame, index: pd.DataFrame, leaks: dict[str, object]
) -> dict[str, Any]:
    refused = films["refused"].dropna()
    pixels = films_fingerprint(index, job.shards.image_px)
    train = index[index["split"] == "train"]
    return {
        "format": FORMAT,
        "films_fingerprint": pixels,
        "fingerprint": fingerprint(index, table.findings, pixels),
        "protocol": "sampled",
        "findings": table.findings,
        "splits": split_counts(index, table.findings),
        "leak_check": leaks,
        "refused": {
            "count": len(refused),
            "reasons": {str(r): int(n) for r, n in refused.value_counts().items()},
        },
        "sources": [asdict(c) for c in table.counts],
        "pixel_statistics": pixel_statistics(train, job.shards.image_px),
        "image_px": job.shards.image_px,
        "codec": job.shards.codec,
        "rows_per_group": job.shards.rows_per_group,
        "film_bytes_mean": float(index["film_bytes"].mean()),
        "settings": job.model_dump(mode="json", include=set(Preparation.model_fields)),
        "versions": {
            "ray_cxr": __version__,
            "python": platform.python_version(),
            "ray": metadata.version("ray"),
            "pyarrow": pyarrow.__version__,
            "films_per_part": FILMS_PER_PART,
        },
    }


def _write_parquet(dataset: Folder, name: str, frame: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    dataset.write_bytes(name, buffer.getvalue())
