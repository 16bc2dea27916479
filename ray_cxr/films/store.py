"""Builds the film store: every film decoded, checked, hashed and resized once, by Ray Data.

Reads: the label table's `image_id` and `locator`, and the films there. Writes: `films/part-*.parquet`, a row per
film in film order (`image_id`, `film` = encoded pixels or null, `refused` = reason or null, hashes, size, pixel
sums). A part that is there already and was made from the same files with the same settings is not made again.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from ray_cxr.axes import Pixels
from ray_cxr.films.codec import encode
from ray_cxr.films.phantom import draw_phantom
from ray_cxr.films.read import MAX_BYTES, FilmRefused, read_film, resize_square
from ray_cxr.films.settings import Codec
from ray_cxr.ray_session import errors_of_tasks
from ray_cxr.storage import Folder

FILMS_PER_PART = 256
PART_ROW_GROUP = 64
_PART = re.compile(r"part-\d{5}\.parquet")
STORE_VERSION = 1
"""Raised when the same films would give other bytes than before: parts of older versions are made again."""

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
"""What is known of each film without its pixels."""


@dataclass(frozen=True)
class PartTask:
    """One file of the film store and the films that go into it."""

    name: str
    image_ids: list[str]
    locators: list[str]


def part_name(number: int) -> str:
    """File name of part `number` of the film store."""
    return f"part-{number:05d}.parquet"


def part_tasks(table: pd.DataFrame) -> list[PartTask]:
    """The parts that a label table (in film order) is stored as: FILMS_PER_PART films each."""
    ids, locators = table["image_id"].tolist(), table["locator"].tolist()
    starts = range(0, len(ids), FILMS_PER_PART)
    return [
        PartTask(part_name(n), ids[s : s + FILMS_PER_PART], locators[s : s + FILMS_PER_PART])
        for n, s in enumerate(starts)
    ]


def build_film_store(
    table: pd.DataFrame, folder: Folder, image_px: int, codec: Codec, advance: Callable[[int], None]
) -> pd.DataFrame:
    """Makes what is missing of the store and gives FACTS per film, in film order. Needs a running Ray.

    `advance` is called with the number of films that came to be finished.
    """
    tasks = part_tasks(table)
    items = [asdict(t) for t in tasks]

    def make(item: dict[str, Any]) -> dict[str, Any]:
        return {"films": make_part(PartTask(**item), folder, image_px, codec).num_rows}

    made = ray.data.from_items(items, override_num_blocks=len(items)).map(make)
    with errors_of_tasks():
        for row in made.iter_rows():
            advance(row["films"])
    for name in set(folder.names()) - {t.name for t in tasks}:
        if _PART.fullmatch(name):  # whatever else lies there is not ours
            folder.remove(name)
    facts = [
        pq.read_table(folder.full(t.name), columns=FACTS, filesystem=folder.fs).to_pandas() for t in tasks
    ]
    joined: pd.DataFrame = pd.concat(facts, ignore_index=True)
    return joined


def make_part(task: PartTask, folder: Folder, image_px: int, codec: Codec) -> pa.Table:
    """Writes one part, unless it is there from the same files and settings; gives its FACTS."""
    key = _part_key(task, image_px, codec)
    if folder.exists(task.name):
        kept = pq.ParquetFile(folder.full(task.name), filesystem=folder.fs)
        if (kept.schema_arrow.metadata or {}).get(b"part_key") == key:
            return kept.read(columns=FACTS)
    rows = [
        _film_row(image_id, locator, image_px, codec)
        for image_id, locator in zip(task.image_ids, task.locators, strict=True)
    ]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({b"part_key": key}))
    folder.write_bytes(task.name, parquet_bytes(table, PART_ROW_GROUP))
    return table.select(FACTS)


def parquet_bytes(table: pa.Table, row_group_films: int) -> bytes:
    """A Parquet file in memory: films are compressed already, and every page carries a checksum."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, row_group_size=row_group_films, compression="none", use_dictionary=False,
        write_page_checksum=True, write_statistics=False,
    )  # fmt: skip
    return bytes(sink.getvalue())


def _part_key(task: PartTask, image_px: int, codec: Codec) -> bytes:
    """What the part is made from: settings, ids, and place, size and time of each file."""
    digest = hashlib.sha256(f"{STORE_VERSION} {image_px} {codec}".encode())
    for image_id, locator in zip(task.image_ids, task.locators, strict=True):
        digest.update(f"\n{image_id}\t{locator}".encode())
        if not locator.startswith("phantom:"):
            try:
                stat = os.stat(locator)
                digest.update(f"\t{stat.st_size}\t{stat.st_mtime_ns}".encode())
            except OSError:
                digest.update(b"\tunreadable")
    return digest.hexdigest().encode()


def _film_row(image_id: str, locator: str, image_px: int, codec: Codec) -> dict[str, Any]:
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
    try:
        if os.path.getsize(locator) > MAX_BYTES:
            raise FilmRefused(f"file larger than {MAX_BYTES // 2**20} MiB")
        with open(locator, "rb") as file:
            data = file.read()
    except OSError as error:
        raise FilmRefused(f"unreadable: {error.strerror}") from None
    film = read_film(data)
    return resize_square(film, image_px), (film.shape[0], film.shape[1]), hashlib.sha256(data).hexdigest()
