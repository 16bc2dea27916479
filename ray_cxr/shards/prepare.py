"""`prepare`: sources → label table → film store → split → shards → index and manifest.

Reads: settings and sources. Writes: the data set directory. `manifest.json` is written last: a directory
without it is not a data set.
"""

from __future__ import annotations

import io
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from ray_cxr import __version__
from ray_cxr.errors import InputError
from ray_cxr.films.store import FILMS_PER_PART, build_film_store
from ray_cxr.labels.settings import Source
from ray_cxr.labels.table import LabelTable, build_label_table
from ray_cxr.ray_session import ray_session
from ray_cxr.shards.claim import BEGUN, claim
from ray_cxr.shards.index import build_index, index_columns
from ray_cxr.shards.layout import shard_tasks
from ray_cxr.shards.manifest import (
    films_fingerprint,
    fingerprint,
    manifest_hash,
    pixel_statistics,
    split_counts,
)
from ray_cxr.shards.progress import Progress
from ray_cxr.shards.settings import Preparation
from ray_cxr.shards.write import write_shards
from ray_cxr.splits.leak import SPLITS, check_leaks, refuse_leak
from ray_cxr.storage import Folder

FORMAT = 1


def prepare(job: Preparation, progress: Progress) -> dict[str, Any]:
    """Makes the data set and gives its manifest; Ray is started once the label table is known to be sound.

    Raises InputError, RefusedError.
    """
    dataset = Folder(job.dataset)
    claim(dataset, job, progress)
    table = build_label_table(job.source, job.findings)
    for count in table.counts:
        progress.say(_count_sentence(**asdict(count)))
    progress.say("starting Ray")
    with ray_session(workers=0):
        films = _films(table, job, dataset, progress)
        index = build_index(films, table.findings, job)
        leaks = check_leaks(index)
        refuse_leak(leaks)
        # Up to here a data set that was there before is as it was; from here on it is this one.
        dataset.remove("manifest.json")
        _copy_films(index, job, dataset, progress)
    manifest = _manifest(job, table, films, index, leaks.as_dict())
    _write_parquet(dataset, "index.parquet", index[index_columns(table.findings)])
    dataset.write_json("manifest.json", manifest | {"manifest_sha256": manifest_hash(manifest)})
    dataset.remove(BEGUN)
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
    _write_parquet(dataset, "refused.parquet", _refused(films))
    for source, name in zip(job.source, (c.source for c in table.counts), strict=True):
        _refuse_too_many(films[films["source"] == name], source, name)
    return films


def _refuse_too_many(films: pd.DataFrame, source: Source, name: str) -> None:
    reasons = films["refused"].dropna().value_counts()
    if reasons.sum() > source.max_refused * len(films):
        listed = "; ".join(f"{n} × {reason}" for reason, n in reasons.items())
        raise InputError(
            f"source.max_refused: {reasons.sum()} of {len(films)} films of source {name} cannot be used, more than "
            f"the fraction {source.max_refused:g} allowed ({listed}); refused.parquet in the data set's directory names "
            "them: mend the files, or allow a larger fraction."
        )


def _copy_films(index: pd.DataFrame, job: Preparation, dataset: Folder, progress: Progress) -> None:
    for split in SPLITS:
        dataset.remove(f"shards/{split}")
    progress.start("shards", len(index))
    write_shards(shard_tasks(index), dataset, job.shards.rows_per_group, progress.advance)


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
