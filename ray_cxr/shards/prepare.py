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
from ray_cxr.shards.manifest import (
    films_fingerprint,
    fingerprint,
    manifest_hash,
    pixel_statistics,
    split_counts,
)
from ray_cxr.shards.settings import Preparation
from ray_cxr.shards.write import write_shards
from ray_cxr.splits.leak import SPLITS, check_leaks, refuse_leak
from ray_cxr.splits.sampled import sampled_split
from ray_cxr.storage import Folder

FORMAT = 1
BEGUN = "preparing.json"
"""There while a data set is made: what lies beside it is ours, and an interrupted preparation may go on."""
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
    _claim(dataset, job, progress)
    table = build_label_table(job.source, job.findings)
    for count in table.counts:
        progress.say(_count_sentence(**asdict(count)))
    progress.say("starting Ray")
    with ray_session(workers=0):
        films = _films(table, job, dataset, progress)
        index = _with_split(films, table.findings, job)
        leaks = check_leaks(index)
        refuse_leak(leaks)
        # Up to here a data set that was there before is as it was; from here on it is this one.
        dataset.remove("manifest.json")
        _copy_films(index, job, dataset, progress)
    manifest = _manifest(job, table, films, index, leaks.as_dict())
    _write_parquet(dataset, "index.parquet", index[_index_columns(table.findings)])
    dataset.write_json("manifest.json", manifest | {"manifest_sha256": manifest_hash(manifest)})
    dataset.remove(BEGUN)
    progress.say(leaks.sentence())
    return manifest


def _claim(dataset: Folder, job: Preparation, progress: Progress) -> None:
    """Makes sure that nothing but a data set of ours is written over, and says what is replaced."""
    for source in job.source:
        for folder in getattr(source, "images", []):
            if (Folder(folder).url + "/").startswith((dataset.url + "/films/", dataset.url + "/shards/")):
                raise InputError(
                    f"dataset: {dataset.url} would be written over the films of source.images ({folder}); "
                    "give a directory of its own."
                )
    names = dataset.names()
    if names and "manifest.json" not in names and BEGUN not in names:
        raise InputError(
            f"dataset: {dataset.url} holds something that is no data set of ray-cxr; give a new or empty directory."
        )
    dataset.write_json(BEGUN, {"format": FORMAT})
    if "manifest.json" in names:
        before = _settings_before(dataset)
        now = job.model_dump(mode="json", include=set(Preparation.model_fields))
        changed = [name for name in now if name != "dataset" and before.get(name) != now[name]]
        if changed:
            progress.say(
                f"the data set there was made with other settings ({', '.join(changed)}) and will be replaced; "
                "runs that were trained on it can then not be evaluated any more"
            )


def _settings_before(dataset: Folder) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = dataset.read_json("manifest.json")["settings"]
    except (ValueError, KeyError, TypeError):
        return {}
    return settings


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


def _with_split(films: pd.DataFrame, findings: list[str], job: Preparation) -> pd.DataFrame:
    """The index: usable films in film order with split and place. The row number is the film's name in messages."""
    index = films[films["refused"].isna()].reset_index(drop=True)
    labels = index[findings].to_numpy(np.float32)
    index["split"] = sampled_split(index["patient_id"].tolist(), labels, job.split, job.seed)
    index["fold"] = pd.array([pd.NA] * len(index), dtype="Int8")
    index["sampling_weight"] = 1.0
    return index.join(lay_out(index, job.shards.rows_per_group, job.shards.shard_mib))


def _copy_films(index: pd.DataFrame, job: Preparation, dataset: Folder, progress: Progress) -> None:
    for split in SPLITS:
        dataset.remove(f"shards/{split}")
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
