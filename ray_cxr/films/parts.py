"""The parts of the film store: which films go into which file, and what its name says. Pure but for a look at files.

A part's name carries a hash of all that it is made from: settings, ids, and place, size and time of each file. So a
part that is there is the right one, whoever wrote it, and what is missing is known from the names alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from ray_cxr.films.settings import Codec

FILMS_PER_PART = 64
"""At most, on average: there are a power of two of parts, so that a few films more change few parts."""
PART_NAME = re.compile(r"part-[0-9a-f]{5}(-[0-9a-f]{16})?\.parquet")
STORE_VERSION = 2
"""Raised when the same films would give other bytes than before: parts of older versions are made again."""
_LOOKS_AT_ONCE = 16


@dataclass(frozen=True)
class PartTask:
    """One file of the film store, what goes into it, and how."""

    name: str
    image_ids: list[str]
    locators: list[str]
    image_px: int
    codec: Codec


def part_tasks(table: pd.DataFrame, image_px: int, codec: Codec) -> list[PartTask]:
    """The parts that a label table (`image_id`, `locator`, in film order) is stored as, in film order.

    A film's part is given by the first bits of a hash of its id, so films that come or go leave other parts alone.
    """
    ids, locators = table["image_id"].tolist(), table["locator"].tolist()
    bits = max((len(ids) - 1) // FILMS_PER_PART, 0).bit_length()
    groups = [list(rows) for _, rows in groupby(range(len(ids)), key=lambda row: _number(ids[row], bits))]

    def task(rows: list[int]) -> PartTask:
        own_ids, own_locators = [ids[r] for r in rows], [locators[r] for r in rows]
        key = _key(own_ids, own_locators, image_px, codec)
        return PartTask(
            f"part-{_number(own_ids[0], bits):05x}-{key}.parquet", own_ids, own_locators, image_px, codec
        )

    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        return list(pool.map(task, groups))


def _number(image_id: str, bits: int) -> int:
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest()) >> (64 - bits)


def _key(image_ids: Iterable[str], locators: Iterable[str], image_px: int, codec: Codec) -> str:
    digest = hashlib.sha256(f"{STORE_VERSION} {image_px} {codec}".encode())
    for image_id, locator in zip(image_ids, locators, strict=True):
        digest.update(f"\n{image_id}\t{locator}\t{_look(locator)}".encode())
    return digest.hexdigest()[:16]


def _look(locator: str) -> str:
    """Size and time of a file, and whether it may be read: a film with new rights is a new film."""
    if locator.startswith("phantom:"):
        return "drawn"
    try:
        found = os.stat(locator)
    except OSError:
        return "not there"
    readable = stat.S_ISREG(found.st_mode) and os.access(locator, os.R_OK)
    return f"{found.st_size}\t{found.st_mtime_ns}" if readable else "unreadable"
