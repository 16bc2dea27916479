"""What is explored: a label table before `prepare`, or a data set after it.

Reads: a job's sources, or `manifest.json`, `index.parquet` and the facts in `films/`. Gives: `Material`, in memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.films.parts import PART_NAME
from ray_cxr.labels.table import build_label_table
from ray_cxr.parquet import read_frame, read_table
from ray_cxr.report.explore.films import FilmSource, PreparedFilms, UnpreparedFilms
from ray_cxr.shards.claim import settings_of
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.shards.index import split_films
from ray_cxr.shards.settings import Preparation
from ray_cxr.splits.lists import read_lists
from ray_cxr.storage import Folder

_SIZE_COLUMNS = ["image_id", "original_width", "original_height"]


@dataclass(frozen=True)
class Material:
    """frame: a row per film in film order, with the index's columns as far as they are known.

    Always: `patient_id`, `source`, `split` ("" = none), `here` (bool: the film was found) and a column per finding.
    A row's number is its name. sources: what each source gave. refused: reason → films, None = not known yet.
    sizes: original `width` and `height` by row, None = not known without reading films. leak: why the job's split would be
    refused. notes: what weakens this.
    """

    prepared: bool
    frame: pd.DataFrame
    findings: list[str]
    sources: list[dict[str, Any]]
    films: FilmSource
    films_from: str
    image_px: int
    seed: int
    refused: dict[str, int] | None = None
    sizes: pd.DataFrame | None = None
    dataset: dict[str, Any] | None = None
    leak: str | None = None
    notes: tuple[str, ...] = ()


def same_preparation(job: Preparation) -> tuple[bool, bool]:
    """Whether the job's data set is there, and whether it was prepared with the job's settings."""
    folder = Folder(job.dataset)
    if not folder.exists("manifest.json"):
        return False, False
    try:
        made: dict[str, Any] = folder.read_json("manifest.json")["settings"]
        return True, all(made.get(n) == value for n, value in settings_of(job).items() if n != "dataset")
    except (ValueError, KeyError, TypeError, AttributeError):
        return True, False


def material_of_job(job: Preparation) -> Material:
    """The job's data set, if it was prepared with these settings; else the labels as its sources give them."""
    there, same = same_preparation(job)
    if same:
        return material_of_dataset(job.dataset)
    notes = (
        "The job's data set was prepared with other settings, so this page shows what preparing it anew would find.",
    )
    return _unprepared(job, notes if there else ())


def material_of_dataset(url: str) -> Material:
    """A data set; one that shares patients between its splits is shown, too. Raises InputError."""
    try:
        dataset = open_dataset(url, ())
    except RefusedError:
        # Whoever explores wants to see the leak; `open_dataset` has read both files before it refused.
        folder = Folder(url)
        index = read_frame(folder.read_bytes("index.parquet"), f"{folder}/index.parquet")
        dataset = Dataset(folder, folder.read_json("manifest.json"), index)
    manifest = dataset.manifest
    split = "train" if len(dataset.rows("train")) else str(dataset.index["split"].iloc[0])
    known = ("fingerprint", "films_fingerprint", "protocol", "pixel_statistics")
    return Material(
        prepared=True,
        frame=dataset.index.assign(here=True),
        findings=dataset.findings,
        sources=manifest["sources"],
        films=PreparedFilms(dataset, split),
        films_from=split,
        image_px=dataset.image_px,
        seed=int(manifest["settings"]["seed"]),
        refused=manifest["refused"]["reasons"],
        sizes=_stored_sizes(dataset),
        dataset={name: manifest.get(name) for name in known},
    )


def _stored_sizes(dataset: Dataset) -> pd.DataFrame | None:
    """Width and height of the files that the films came from, by row of the index; None where the store is gone."""
    store = dataset.folder / "films"
    names = [name for name in store.names() if PART_NAME.fullmatch(name)]
    if not names:
        return None
    facts = (
        pd.concat([_sizes_in(store, name) for name in names])
        .drop_duplicates("image_id")
        .set_index("image_id")
    )
    facts.columns = pd.Index(["width", "height"])
    sizes: pd.DataFrame = (
        facts.reindex(dataset.index["image_id"]).reset_index(drop=True).dropna().astype(np.int64)
    )
    return sizes


def _sizes_in(store: Folder, part: str) -> pd.DataFrame:
    with store.open(part) as file:
        frame: pd.DataFrame = read_table(file, f"{store}/{part}", _SIZE_COLUMNS).to_pandas()
    return frame


def _unprepared(job: Preparation, notes: tuple[str, ...]) -> Material:
    table = build_label_table(job.source, job.findings, keep_missing=True)
    here = table.frame["locator"].notna()
    # Without any film the labels still tell what a split would be.
    dealt = here if here.any() else pd.Series(True, index=here.index)
    frame = table.frame.assign(here=here, split="")
    leak = None
    try:
        planned, said = planned_split(frame[dealt], table.findings, job)
        notes = (*notes, *said)
        frame = pd.concat([frame.drop(columns="split"), planned], axis=1).fillna({"split": ""})
    except InputError as error:
        notes = (*notes, f"The job's split cannot be drawn: {error.message}")
    except RefusedError as error:
        leak = error.message
    train = here & (frame["split"] == "train")
    shown = train if train.any() else here
    return Material(
        prepared=False,
        frame=frame.drop(columns=["image_id", "film_name", "locator"]),
        findings=table.findings,
        sources=[asdict(count) for count in table.counts],
        films=UnpreparedFilms(frame.loc[shown, "locator"], job.shards.image_px),
        films_from="train" if train.any() else "",
        image_px=job.shards.image_px,
        seed=job.seed,
        leak=leak,
        notes=notes,
    )


def planned_split(
    frame: pd.DataFrame, findings: list[str], job: Preparation
) -> tuple[pd.DataFrame, list[str]]:
    """`split`, `fold` and `sampling_weight` of each row, as `prepare` would deal these films out if it refused none.

    And what there is to say of it. Patients that are shared are no error here: they are shown. Raises InputError (the
    split is not possible), RefusedError (a film in two lists).
    """
    lists = read_lists(job.split, job.label_files())
    index, notes = split_films(frame.drop(columns="split"), findings, job, lists)
    return index[["split", "fold", "sampling_weight"]].set_index(frame.index), notes
