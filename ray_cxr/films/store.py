"""Builds the film store: every film decoded, checked, hashed and resized once.

Reads: the label table's `image_id` and `locator`, and the films there. Writes: `films/part-*.parquet`, a row per
film in film order (`image_id`, `film` = encoded pixels or null, `refused` = reason or null, hashes, size, pixel
sums). A part that is there already and was made from the same files with the same settings is not made again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ray_cxr.axes import Pixels
from ray_cxr.films.codec import encode
from ray_cxr.films.crew import Crew
from ray_cxr.films.parts import PART_NAME, PartTask
from ray_cxr.films.phantom import draw_phantom
from ray_cxr.films.read import FilmRefused, read_file, read_film, resize_square
from ray_cxr.films.settings import Codec
from ray_cxr.parquet import read_table
from ray_cxr.storage import Folder

_READS_AT_ONCE = 16

SCHEMA = pa.schema(
    {
        "image_id": pa.string(),
        "film": pa.binary(),
        "refused": pa.string(),
        "file_sha256": pa.string(),
        "pixel_sha256": pa.string(),
        "original_height": pa.int32(),
        "original_width": pa.int32(),
        "film_bytes": pa.int32(),
        "pixel_sum": pa.float64(),
        "pixel_square_sum": pa.float64(),
    }
)
FACTS = [name for name in SCHEMA.names if name != "film"]
"""What is known of each film without its pixels: about 300 bytes a film."""


def kept_parts(tasks: Sequence[PartTask], folder: Folder) -> dict[str, pa.Table]:
    """Name → FACTS of the parts that are there and whole."""
    there = set(folder.names())

    def facts(task: PartTask) -> pa.Table | None:
        try:
            with folder.open(task.name) as file:
                return read_table(file, f"{folder}/{task.name}", FACTS)
        except (OSError, pa.ArrowInvalid):
            return None  # damaged or gone: it is made again

    found = [t for t in tasks if t.name in there]
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        kept = dict(zip((t.name for t in found), pool.map(facts, found), strict=True))
    return {name: table for name, table in kept.items() if table is not None}


def make_parts(
    tasks: Sequence[PartTask], folder: Folder, crew: Crew, *, by_ray: bool, advance: Callable[[int], None]
) -> dict[str, pa.Table]:
    """Makes these parts; gives name → FACTS. `advance` is called with the number of films that came to be finished."""

    def make(task: PartTask) -> tuple[str, pa.Table]:
        return task.name, make_part(task, folder)

    made = {}
    for name, facts in crew.run(make, tasks, by_ray=by_ray):
        made[name] = facts
        advance(facts.num_rows)
    return made


def join_facts(tasks: Sequence[PartTask], facts: dict[str, pa.Table]) -> pd.DataFrame:
    """FACTS of all films in film order, and `part` and `part_row`: where each lies in the store."""
    joined: pd.DataFrame = pa.concat_tables([facts[t.name] for t in tasks]).to_pandas()
    sizes = [len(t.image_ids) for t in tasks]
    joined["part"] = np.repeat(np.array([t.name for t in tasks], dtype=object), sizes)
    joined["part_row"] = np.concatenate([np.arange(n) for n in sizes])
    return joined


def remove_other_parts(tasks: Sequence[PartTask], folder: Folder) -> None:
    """Removes parts that no task names; whatever else lies there is not ours."""
    for name in set(folder.names()) - {t.name for t in tasks}:
        if PART_NAME.fullmatch(name):
            folder.remove(name)


def make_part(task: PartTask, folder: Folder) -> pa.Table:
    """Writes one part; gives its FACTS."""
    rows = [
        film_row(image_id, locator, task.image_px, task.codec)
        for image_id, locator in zip(task.image_ids, task.locators, strict=True)
    ]
    table = pa.Table.from_pylist(rows, SCHEMA)
    folder.write_bytes(task.name, parquet_bytes(table, table.num_rows))
    return table.select(FACTS)


def parquet_bytes(table: pa.Table, row_group_films: int) -> bytes:
    """A Parquet file in memory: films are compressed already, and every page carries a checksum."""
    sink = io.BytesIO()
    pq.write_table(
        table, sink, row_group_size=row_group_films, compression="none", use_dictionary=False,
        write_page_checksum=True, write_statistics=False,
    )  # fmt: skip
    return sink.getvalue()


def film_row(image_id: str, locator: str, image_px: int, codec: Codec) -> dict[str, Any]:
    """One film's row of SCHEMA; of a refused film only id and reason."""
    try:
        film, original, file_sha256 = _load(locator, image_px)
    except FilmRefused as reason:
        return {"image_id": image_id, "refused": str(reason)}
    data = encode(film, codec)
    pixels = film.astype(np.float64)
    return {
        "image_id": image_id,
        "film": data,
        "file_sha256": file_sha256,
        "pixel_sha256": hashlib.sha256(film.tobytes()).hexdigest(),
        "original_height": original[0],
        "original_width": original[1],
        "film_bytes": len(data),
        "pixel_sum": pixels.sum(),
        "pixel_square_sum": np.square(pixels).sum(),
    }


def _load(locator: str, image_px: int) -> tuple[Pixels, tuple[int, int], str]:
    """The resized film, its original height and width, and the sha256 of what it came from."""
    if locator.startswith("phantom:"):
        film = draw_phantom(locator, image_px)
        return film, (image_px, image_px), hashlib.sha256(film.tobytes()).hexdigest()
    data = read_file(locator)
    film = read_film(data)
    return resize_square(film, image_px), (film.shape[0], film.shape[1]), hashlib.sha256(data).hexdigest()
