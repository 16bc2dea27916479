"""Lists of films: who made a split wrote down which film is in which set.

Reads: list files (a film name a line, plain or .gz) and folders of films. Gives: film names.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from ray_cxr.errors import InputError, reason_of
from ray_cxr.films.read import SUFFIXES
from ray_cxr.splits.settings import ListedSet, SplitSettings

OFFICIAL_NAMES: dict[ListedSet, str] = {"train_validation": "train_val_list.txt", "test": "test_list.txt"}
"""How NIH ChestX-ray14 names its lists."""

Lists = dict[ListedSet, set[str]]
"""Set → names of its films, as written and without folder."""


def read_list(setting: str, path: Path) -> list[str]:
    """Films of a list file, one a line (the first column of a CSV), plain or .gz. InputError names `setting`."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(
            f"{setting}: {str(path)!r} is neither a folder nor a readable list of films ({reason_of(error)})."
        ) from None
    cells = (line.split(",")[0].strip().strip('"') for line in text.splitlines())
    return [cell.replace("\\", "/") for cell in cells if cell]


def read_film_list(setting: str, path: Path) -> list[str]:
    """As `read_list`, but only what is named like a film. InputError where there is none."""
    films = [os.path.basename(f) for f in read_list(setting, path) if f.lower().endswith(SUFFIXES)]
    if not films:
        raise InputError(
            f"{setting}: {str(path)!r} names no film; a list has a file name ending in .png or .jpg a line."
        )
    return films


def read_lists(settings: SplitSettings, label_files: Sequence[str]) -> Lists:
    """The lists of `split.lists`; for `official`, those beside the label files where they are not given.

    Empty for the other methods. Raises InputError.
    """
    given: dict[ListedSet, Sequence[str]] = dict(settings.lists.given())
    if settings.method == "official":
        given = {name: given.get(name) or _beside(label_files, name) for name in OFFICIAL_NAMES}
    lists: Lists = {}
    for name, places in given.items():
        lists[name] = set()
        for place in places:
            lists[name] |= _names(f"split.lists.{name}", Path(place))
    return lists


def _beside(label_files: Sequence[str], name: ListedSet) -> list[str]:
    wanted = OFFICIAL_NAMES[name]
    folders = list(dict.fromkeys(os.path.dirname(f) for f in label_files))
    found = [
        path for folder in folders for path in (os.path.join(folder, wanted + end) for end in ("", ".gz"))
        if os.path.isfile(path)
    ]  # fmt: skip
    if not found:
        where = f"beside {', '.join(label_files)}" if label_files else "since no source has a label file"
        raise InputError(
            f"split.method: official needs the data set's lists, but {wanted} (or .gz) was not found {where}; put it "
            f"there, give its path as split.lists.{name}, or use method sampled."
        )
    return found[:1] if len(folders) == 1 else found


def _names(setting: str, place: Path) -> set[str]:
    if place.is_dir():
        films = {p.name for p in place.rglob("*") if p.suffix.lower() in SUFFIXES}
    else:
        listed = read_list(setting, place)
        films = {*listed, *map(os.path.basename, listed)}
    if not films:
        raise InputError(f"{setting}: {str(place)!r} names no film; a list has a film's file name a line.")
    return films
