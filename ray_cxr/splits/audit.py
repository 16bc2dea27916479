"""Audits anybody's split: which patients, films and near-duplicates stand in more than one of its sets?

Reads: folders of films, or list files of film names. Gives: `Audit`. Naming patients and films is its purpose.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.cores import usable_cores
from ray_cxr.errors import InputError, reason_of
from ray_cxr.films.read import SUFFIXES, FilmRefused, read_film
from ray_cxr.splits.lists import read_film_list

NIH_PATIENT = r"^(\d{8})_\d{3}\."
"""The part of an NIH file name before the underscore is the patient."""

NEAR_DUPLICATE = 0.985
"""Correlation of two films' 32 × 32 thumbnails from which they count as the same film once more.

Measured on 1,796 NIH films: films of different patients reach 0.961, different films of one patient 0.982; a film
re-encoded as JPEG of quality 50 and cropped by 8 of 1,024 pixels on each side keeps at least 0.986 (8 films).
"""

_THUMBNAIL_PX = 32
_BLOCK = 4096
_TABLE_COLUMNS = (("image_id", "patient_id"), ("Image Index", "Patient ID"), ("Image ID", "Patient ID"))


@dataclass(frozen=True)
class FilmSet:
    """One set of a split. patients: film name → patient. Films of a folder have hashes and thumbnails [N, 1024]."""

    name: str
    patients: dict[str, str]
    hashes: dict[str, str]
    thumbnails: NDArray[np.float32] | None
    thumbnail_names: list[str]
    unreadable: int = 0


@dataclass(frozen=True)
class Pair:
    """What two sets share. shared_images: by name or by identical bytes; near_duplicates: (film, film, similarity)."""

    sets: tuple[str, str]
    shared_patients: list[str]
    shared_images: list[tuple[str, str]]
    near_duplicates: list[tuple[str, str, float]]

    @property
    def clean(self) -> bool:
        return not (self.shared_patients or self.shared_images or self.near_duplicates)


@dataclass(frozen=True)
class Audit:
    """films, patients, unreadable: by set. pairs: one for every two sets."""

    films: dict[str, int]
    patients: dict[str, int]
    unreadable: dict[str, int]
    pairs: list[Pair]

    @property
    def clean(self) -> bool:
        return all(p.clean for p in self.pairs)

    def as_dict(self) -> dict[str, Any]:
        return {
            "clean": self.clean,
            "shared_patients": len({p for pair in self.pairs for p in pair.shared_patients}),
            "shared_images": sum(len(pair.shared_images) for pair in self.pairs),
            "near_duplicates": sum(len(pair.near_duplicates) for pair in self.pairs),
            **asdict(self),
        }


def audit(
    sets: Mapping[str, str],
    patient_of: Callable[[str], str],
    advance: Callable[[int], None] = lambda films: None,
) -> Audit:
    """Compares the sets (name → folder or list file) two by two. Raises InputError where a set cannot be read."""
    read = [_read_set(name, place, patient_of, advance) for name, place in sets.items()]
    return Audit(
        films={s.name: len(s.patients) for s in read},
        patients={s.name: len(set(s.patients.values())) for s in read},
        unreadable={s.name: s.unreadable for s in read},
        pairs=[_compare(a, b) for a, b in itertools.combinations(read, 2)],
    )


def patients_by_name(pattern: str) -> Callable[[str], str]:
    """Patient ids from file names: the first group of a regular expression. InputError where it has none."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--patient-regex: {pattern!r} is no regular expression ({error}).") from None
    if compiled.groups < 1:
        raise InputError(
            f"--patient-regex: {pattern!r} needs a group, such as '^([^_]+)_', around the patient id."
        )

    def patient_of(film: str) -> str:
        match = compiled.search(film)
        if match is None:
            raise InputError(
                f"film {film!r} does not have the form {pattern!r}; say with --patient-regex where the patient id "
                "stands in a name, or give a table with --patients."
            )
        return match.group(1)

    return patient_of


def patients_by_table(path: str) -> Callable[[str], str]:
    """Patient ids from a CSV with columns image_id and patient_id (or NIH's names for them)."""
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise InputError(f"--patients: {path!r} cannot be read as CSV ({reason_of(error)}).") from None
    columns = next((c for c in _TABLE_COLUMNS if set(c) <= set(table.columns)), None)
    if columns is None:
        raise InputError(
            f"--patients: {path!r} needs the columns image_id and patient_id; it has {list(table.columns)}."
        )
    known = dict(zip(table[columns[0]], table[columns[1]], strict=True))

    def patient_of(film: str) -> str:
        if film not in known:
            raise InputError(f"--patients: film {film!r} is not in {path!r}.")
        return str(known[film])

    return patient_of


def _read_set(
    name: str, place: str, patient_of: Callable[[str], str], advance: Callable[[int], None]
) -> FilmSet:
    path = Path(place)
    if not path.is_dir():
        films = read_film_list(f"--{name}", path)
        return FilmSet(name, {f: patient_of(f) for f in films}, {}, None, [])
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"--{name}: no {', '.join(SUFFIXES)} file in {place!r}.")
    patients = {f.name: patient_of(f.name) for f in files}
    hashes: dict[str, str] = {}
    thumbnails, names, unreadable = [], [], 0
    with ThreadPoolExecutor(usable_cores()) as pool:
        for file, (sha256, thumbnail) in zip(files, pool.map(_look, files), strict=True):
            hashes[file.name] = sha256
            if thumbnail is None:
                unreadable += 1
            else:
                thumbnails.append(thumbnail)
                names.append(file.name)
            advance(1)
    return FilmSet(name, patients, hashes, np.array(thumbnails, np.float32), names, unreadable)


def _look(file: Path) -> tuple[str, NDArray[np.float32] | None]:
    """sha256 of the bytes, and the thumbnail with mean 0 and length 1; None where it cannot be read or is blank."""
    data = file.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        film = read_film(data)
    except FilmRefused:
        return sha256, None
    small = cv2.resize(film, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    centred = (small - small.mean()).ravel()
    length = float(np.linalg.norm(centred))
    return sha256, centred / length if length > 0 else None


def _compare(a: FilmSet, b: FilmSet) -> Pair:
    patients = sorted(set(a.patients.values()) & set(b.patients.values()))
    same_name = {(f, f) for f in a.patients.keys() & b.patients.keys()}
    by_hash: dict[str, list[str]] = {}
    for film, sha256 in b.hashes.items():
        by_hash.setdefault(sha256, []).append(film)
    same_bytes = {(film, other) for film, sha256 in a.hashes.items() for other in by_hash.get(sha256, [])}
    images = same_name | same_bytes
    near = [pair for pair in _near_duplicates(a, b) if pair[:2] not in images]
    return Pair((a.name, b.name), patients, sorted(images), sorted(near))


def _near_duplicates(a: FilmSet, b: FilmSet) -> list[tuple[str, str, float]]:
    if a.thumbnails is None or b.thumbnails is None or not (len(a.thumbnails) and len(b.thumbnails)):
        return []
    found: list[tuple[str, str, float]] = []
    for first in range(0, len(a.thumbnails), _BLOCK):
        similarity = a.thumbnails[first : first + _BLOCK] @ b.thumbnails.T
        rows, columns = np.nonzero(similarity >= NEAR_DUPLICATE)
        found += [
            (a.thumbnail_names[first + r], b.thumbnail_names[c], round(float(similarity[r, c]), 4))
            for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
    return found


def listed(sets: Sequence[Pair]) -> list[str]:
    """The findings as lines for a person."""
    lines: list[str] = []
    for pair in sets:
        where = " and ".join(pair.sets)
        lines += [f"{where}: patient {p} is in both" for p in pair.shared_patients]
        lines += [
            f"{where}: film {a} is in both" + (f" (as {b})" if a != b else "") for a, b in pair.shared_images
        ]
        lines += [
            f"{where}: films {a} and {b} are nearly the same ({s:.3f})" for a, b, s in pair.near_duplicates
        ]
    return lines
