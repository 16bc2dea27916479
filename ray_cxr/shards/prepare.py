"""`prepare`: sources → label table → film store → split → shards → index and manifest.

Reads: settings and sources. Writes: the data set directory. `manifest.json` is written last: a directory
without it is not a data set.
"""

from __future__ import annotations

import io
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import pandas as pd
import pyarrow
import pyarrow as pa

from ray_cxr import __version__
from ray_cxr.cores import usable_cores
from ray_cxr.errors import InputError
from ray_cxr.films.crew import Crew
from ray_cxr.films.parts import FILMS_PER_PART, PartTask, part_tasks
from ray_cxr.films.read import reason_kind
from ray_cxr.films.store import join_facts, kept_parts, make_parts, remove_other_parts
from ray_cxr.labels.settings import Source
from ray_cxr.labels.table import LabelTable, build_label_table
from ray_cxr.shards.claim import claimed, settings_of, tell_replacement
from ray_cxr.shards.forecast import forecast, refuse_too_little_space
from ray_cxr.shards.index import index_columns, place_films, split_films
from ray_cxr.shards.layout import ShardTask, name_by_content, shard_tasks
from ray_cxr.shards.manifest import (
    films_fingerprint,
    fingerprint,
    manifest_hash,
    pixel_statistics,
    protocol_details,
    sha256,
    split_counts,
)
from ray_cxr.shards.progress import Progress
from ray_cxr.shards.settings import Preparation
from ray_cxr.shards.write import missing_shards, remove_other_shards, write_shards
from ray_cxr.splits.cautions import cautions
from ray_cxr.splits.deal import PROTOCOLS
from ray_cxr.splits.leak import LeakCheck, check_leaks, refuse_leak
from ray_cxr.splits.lists import Lists, read_lists
from ray_cxr.storage import Folder

FORMAT = 1
_WORTH_RAY_S = 30.0
"""Work of one machine's cores from which the start of Ray, 5 to 10 s, pays."""
_COPIED_BYTES_PER_S = 200e6


def prepare(job: Preparation, progress: Progress) -> dict[str, Any]:
    """Makes the data set and gives its manifest, with what had to be done for it under `films` and `shards`.

    films: {decoded, kept}; shards: {written, kept}, all in numbers of films and of shards. A data set that was there
    before stays whole until the new one is. Raises InputError, RefusedError.
    """
    dataset = Folder(job.dataset)
    _check_engine(job, dataset)
    with claimed(dataset, job, progress) as held, Crew(progress.say) as crew:
        table = build_label_table(job.source, job.findings)
        for line in table.lines():
            progress.say(line)
        lists = read_lists(job.split, job.label_files())
        parts = part_tasks(table.frame, job.shards.image_px, job.shards.codec)
        films, film_counts = _films(table, parts, job, lists, dataset, crew, progress)
        index, leaks, notes = _split(films, table.findings, job, lists)
        if not film_counts["decoded"]:  # else it was said before they were
            tell_replacement(dataset, job, progress)
        index = place_films(index, job)
        index["shard"] = name_by_content(index, job.shards.codec, job.shards.rows_per_group)
        shards = shard_tasks(index)
        shard_counts = _copy_films(shards, index, job, dataset, crew, progress)
        held.check()
        manifest = _publish(_Made(job, table, films, index, leaks), dataset)
        remove_other_shards(shards, dataset)
        remove_other_parts(parts, dataset / "films")
    progress.say(
        "films: {decoded:,} decoded, {kept:,} kept; ".format(**film_counts)
        + "shards: {written:,} written, {kept:,} kept".format(**shard_counts)
    )
    for sentence in (*notes, *(f"warning: {w}" for w in manifest["warnings"])):
        progress.say(sentence)
    progress.say(leaks.sentence())
    return manifest | {"films": film_counts, "shards": shard_counts}


@dataclass(frozen=True)
class _Made:
    """What a manifest is written from."""

    job: Preparation
    table: LabelTable
    films: pd.DataFrame
    index: pd.DataFrame
    leaks: LeakCheck


def _split(
    films: pd.DataFrame, findings: list[str], job: Preparation, lists: Lists
) -> tuple[pd.DataFrame, LeakCheck, list[str]]:
    """Films with their split, its leak check, and what is worth saying. Raises RefusedError where it leaks."""
    index, notes = split_films(films, findings, job, lists)
    leaks = check_leaks(index, job.split.allow_leak)
    refuse_leak(leaks)
    return index, leaks, notes


def _check_engine(job: Preparation, dataset: Folder) -> None:
    if job.shards.engine == "ray" and dataset.in_this_process:
        raise InputError(
            f"shards.engine: got 'ray', but {dataset} exists in this process only, and Ray's processes would not see "
            "it; use threads or auto."
        )


def _by_ray(job: Preparation, dataset: Folder, core_s: float) -> bool:
    """Whether so much work is for Ray. A cluster is there to be used; this machine alone does little work at once."""
    if dataset.in_this_process or job.shards.engine != "auto":
        return job.shards.engine == "ray"
    return bool(os.environ.get("RAY_ADDRESS")) or core_s / usable_cores() > _WORTH_RAY_S


def _films(
    table: LabelTable, parts: Sequence[PartTask], job: Preparation, lists: Lists, dataset: Folder, crew: Crew,
    progress: Progress,
) -> tuple[pd.DataFrame, dict[str, int]]:  # fmt: skip
    """The label table with the facts of each film, and counts; stops where a source has too many that are refused."""
    store = dataset / "films"
    facts = kept_parts(parts, store)
    todo = [t for t in parts if t.name not in facts]
    if todo:
        # Nobody should decode for hours and then hear that the split is impossible, or leaks.
        _split(table.frame, table.findings, job, lists)
        tell_replacement(dataset, job, progress)
        facts |= _make_films(todo, len(table.frame), job, dataset, crew, progress)
    films = pd.concat([table.frame, join_facts(parts, facts).drop(columns="image_id")], axis=1)
    _write_parquet(dataset, "refused.parquet", _refused(films))
    for source, name in zip(job.source, (c.source for c in table.counts), strict=True):
        _refuse_too_many(films[films["source"] == name], source, name)
    if films["refused"].notna().all():
        raise InputError(
            f"source: none of the {len(films)} films can be used ({_listed(_reasons(films))}); mend the files, which "
            "refused.parquet in the data set's directory names."
        )
    decoded = sum(len(t.image_ids) for t in todo)
    return films, {"decoded": decoded, "kept": len(films) - decoded}


def _make_films(
    todo: Sequence[PartTask], all_films: int, job: Preparation, dataset: Folder, crew: Crew, progress: Progress
) -> dict[str, pa.Table]:  # fmt: skip
    ahead = forecast(todo, all_films)
    progress.say(ahead.sentence(dataset.free_bytes(), cluster=bool(os.environ.get("RAY_ADDRESS"))))
    if job.shards.check_space:
        refuse_too_little_space(dataset, ahead.written_bytes)
    by_ray = _by_ray(job, dataset, ahead.core_s)
    if by_ray:
        crew.start_ray()
    progress.start("films", ahead.films)
    return make_parts(todo, dataset / "films", crew, by_ray=by_ray, advance=progress.advance)


def _refuse_too_many(films: pd.DataFrame, source: Source, name: str) -> None:
    reasons = _reasons(films)
    refused = sum(reasons.values())
    if refused > source.max_refused * len(films):
        raise InputError(
            f"source.max_refused: {refused} of {len(films)} films of source {name} cannot be used, more than "
            f"the fraction {source.max_refused:g} allowed ({_listed(reasons)}); refused.parquet in the data set's directory names "
            "them: mend the files, or allow a larger fraction."
        )


def _reasons(films: pd.DataFrame) -> dict[str, int]:
    """Refused films by kind of reason, the most frequent first."""
    kinds = films["refused"].dropna().map(reason_kind)
    return {str(kind): int(n) for kind, n in kinds.value_counts().items()}


def _listed(reasons: dict[str, int]) -> str:
    return "; ".join(f"{n} × {reason}" for reason, n in reasons.items())


def _copy_films(
    tasks: Sequence[ShardTask], index: pd.DataFrame, job: Preparation, dataset: Folder, crew: Crew, progress: Progress
) -> dict[str, int]:  # fmt: skip
    """Writes the shards that are missing, beside those of a data set that is there; gives counts of shards."""
    missing = missing_shards(tasks, dataset, crew)
    if missing:
        rows = index["shard"].isin({t.path for t in missing})
        size = float(index.loc[rows, "film_bytes"].sum())
        if job.shards.check_space:
            refuse_too_little_space(dataset, size)
        progress.start("shards", int(rows.sum()))
        by_ray = _by_ray(job, dataset, size / _COPIED_BYTES_PER_S)
        write_shards(
            missing, dataset, job.shards.rows_per_group, crew, by_ray=by_ray, advance=progress.advance
        )
    return {"written": len(missing), "kept": len(tasks) - len(missing)}


def _publish(made: _Made, dataset: Folder) -> dict[str, Any]:
    """Index, then manifest: a directory without a manifest is no data set. Nothing is written where nothing changed."""
    index = _parquet(made.index[index_columns(made.table.findings)])
    manifest = _manifest(made) | {"index_sha256": sha256(index)}
    manifest["manifest_sha256"] = manifest_hash(manifest)
    if not _is_published(dataset, manifest, index):
        dataset.remove("manifest.json")
        dataset.write_bytes("index.parquet", index)
        dataset.write_json("manifest.json", manifest)
    return manifest


def _is_published(dataset: Folder, manifest: dict[str, Any], index: bytes) -> bool:
    try:
        return (
            bool(dataset.read_json("manifest.json") == manifest)
            and dataset.read_bytes("index.parquet") == index
        )
    except (OSError, ValueError):
        return False


def _refused(films: pd.DataFrame) -> pd.DataFrame:
    """Names the films: the one artifact, beside an audit, whose purpose that is."""
    refused = films[films["refused"].notna()]
    return refused[["image_id", "source", "locator", "refused"]].rename(columns={"refused": "reason"})


def _manifest(made: _Made) -> dict[str, Any]:
    job, table, index = made.job, made.table, made.index
    pixels = films_fingerprint(index, job.shards.image_px)
    train = index[index["split"] == "train"]
    reasons = _reasons(made.films)
    counts = split_counts(index, table.findings)
    return {
        "format": FORMAT,
        "films_fingerprint": pixels,
        "fingerprint": fingerprint(index, table.findings, pixels),
        "protocol": PROTOCOLS[job.split.method],
        "protocol_details": protocol_details(index, table.findings, job.split),
        "findings": table.findings,
        "splits": counts,
        "leak_check": made.leaks.as_dict(),
        "warnings": cautions(counts, table.findings, made.leaks),
        "refused": {"count": sum(reasons.values()), "reasons": reasons},
        "sources": [asdict(c) for c in table.counts],
        "pixel_statistics": pixel_statistics(train, job.shards.image_px),
        "image_px": job.shards.image_px,
        "codec": job.shards.codec,
        "rows_per_group": job.shards.rows_per_group,
        "film_bytes_mean": float(index["film_bytes"].mean()),
        "settings": settings_of(job),
        "versions": {
            "ray_cxr": __version__,
            "python": platform.python_version(),
            "ray": metadata.version("ray"),
            "pyarrow": pyarrow.__version__,
            "films_per_part": FILMS_PER_PART,
        },
    }


def _write_parquet(dataset: Folder, name: str, frame: pd.DataFrame) -> None:
    dataset.write_bytes(name, _parquet(frame))


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
