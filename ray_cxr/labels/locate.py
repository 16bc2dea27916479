"""Where the films are: the files below some folders, and which of them a label table means.

Reads: names of files in folders, never their bytes. Gives: paths.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ray_cxr.errors import InputError

FILM_SUFFIXES = (".png", ".jpg", ".jpeg")
_NAMED_SUFFIXES = (*FILM_SUFFIXES, ".dcm", ".dicom", ".tif", ".tiff", ".bmp")
"""What a table may call a film that was converted since. Other dots belong to the name (DICOM's ids have many)."""


def list_films(folders: Sequence[str]) -> list[str]:
    """Absolute paths of all films below the folders, each once. InputError where a folder is missing."""
    return list(dict.fromkeys(path for _, path in walk_films(folders)))


def walk_films(folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(folder given, absolute path) of every film below the folders, in the order of their names."""
    entered: set[str] = set()
    for folder in folders:
        if not os.path.isdir(folder):
            raise InputError(
                f"source.images: {folder!r} is not a folder; give the folder that holds the films."
            )
        for parent, below, names in os.walk(folder, followlinks=True):
            if os.path.realpath(parent) in entered:  # a link back up, or a second way in
                below.clear()
                continue
            entered.add(os.path.realpath(parent))
            below.sort()
            base = os.path.abspath(parent)
            for name in sorted(filter(is_film, names)):
                yield folder, os.path.join(base, name)


def is_film(name: str) -> bool:
    """Whether a file of this name is looked at; macOS leaves shadows (`._name.png`) that are none."""
    return name.lower().endswith(FILM_SUFFIXES) and not name.startswith("._")


def composed(name: str) -> str:
    """A name with each accent in its letter (Unicode NFC): archives made on a Mac have it behind the letter (NFD)."""
    return unicodedata.normalize("NFC", name)


def film_stems(films: Sequence[str]) -> set[str]:
    """The films' file names without suffix."""
    return {composed(os.path.splitext(os.path.basename(film))[0]) for film in films}


def find_films(folders: Sequence[str]) -> dict[str, str]:
    """File name → path of every film below the folders. InputError where a folder is missing or a name is double."""
    found: dict[str, str] = {}
    twice = 0
    for path in list_films(folders):
        twice += found.setdefault(os.path.basename(path), path) != path
    if twice:
        raise InputError(
            f"source.images: {twice} file names stand in more than one place below the folders given; "
            "keep one file per name, since the label table knows films by name only."
        )
    return found


@dataclass(frozen=True)
class Matched:
    """locators: the path of each name's film, missing where there is none. ambiguous: names that fit several films."""

    locators: pd.Series
    ambiguous: int


def match_films(names: pd.Series, films: Sequence[str]) -> Matched:
    """Finds the film of each name: a file name or a relative path, with or without suffix, however deep it lies.

    names [N] str; films: absolute paths. Of a path, as many trailing parts are compared as find the most films: a table
    may begin above or below the folder given. The number is one for the whole table, so that
    `patient2/study1/view1.png` is never taken for the missing `patient1/study1/view1.png`.
    """
    texts = list(names.unique())
    there = [composed(film).replace(os.sep, "/") for film in films]
    wanted = [_path(text) for text in texts]
    found, ambiguous = _best_depth(wanted, there)
    if not found:  # the table leaves suffixes out, or names the original (.dcm) of a film that was converted
        found, ambiguous = _best_depth([_stem(w) for w in wanted], [_stem(f) for f in there])
    return Matched(names.map({texts[n]: films[f] for n, f in found.items()}).astype(object), ambiguous)


def _path(text: str) -> str:
    """A relative path with slashes, as most tables write it already."""
    path = composed(text).strip().replace("\\", "/")
    return "/".join(p for p in path.split("/") if p not in ("", ".")) if "/" in path else path


def _stem(path: str) -> str:
    lower = path.lower()
    return next((path[: -len(s)] for s in _NAMED_SUFFIXES if lower.endswith(s)), path)


def _tail(path: str, parts: int) -> str:
    """The last parts of a path; all of a path that has fewer."""
    above = path.rsplit("/", parts)
    return path if len(above) <= parts else path[len(above[0]) + 1 :]


def _best_depth(names: Sequence[str], files: Sequence[str]) -> tuple[dict[int, int], int]:
    """Position of a name → that of its file, at the number of trailing parts that finds most; and how many fit several."""
    best: tuple[dict[int, int], int] = ({}, 0)
    for depth in range(max((name.count("/") + 1 for name in names), default=0), 0, -1):
        tails = [_tail(name, depth) for name in names]
        wanted, position = Counter(tails), dict(zip(tails, range(len(tails)), strict=True))
        there: dict[str, list[int]] = {}
        for length in {tail.count("/") + 1 for tail in wanted}:
            for number, file in enumerate(files):
                tail = _tail(file, length)
                if tail in wanted:
                    there.setdefault(tail, []).append(number)
        found = {position[t]: f[0] for t, f in there.items() if len(f) == 1 and wanted[t] == 1}
        doubtful = sum(wanted[t] for t in there) - len(found)
        if len(found) > len(best[0]) or (not best[0] and doubtful > best[1]):
            best = (found, doubtful)
    return best
