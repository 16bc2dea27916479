"""The decoded films of a split, once per node, in memory that every worker and trial on the node maps.

Reads: the shards of one split, once. Writes: a file of raw pixels in shared memory (or, where that is too small, in
the temporary directory, read through the page cache) in a folder that only its user may enter. Whoever uses it holds
a lock that dies with the process; the last user removes the file, and the next user what a killed one has left.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from ray_cxr.axes import Pixels, Rows
from ray_cxr.errors import InputError
from ray_cxr.shards.dataset import Dataset
from ray_cxr.stream.decode import FilmDecoder
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.plan import ALONE, scoring_work
from ray_cxr.stream.read import ReadHealth, new_groups, read_films, read_of, step_films

PLACE_VARIABLE = "RAY_CXR_CACHE_DIR"
"""Environment variable: the only place to keep decoded films in, instead of those chosen here."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108  a folder of our own is made in it, closed to others
KEPT_FREE = 0.1
"""Fraction of the node's memory that must stay available beside the films."""
_FILMS_AT_ONCE = 512


@dataclass
class NodeCache:
    """Decoded films [N, H, W] uint8 of a split, in the order of its layout; read only, shared by the node."""

    films: Pixels
    path: Path
    lock: int
    spilled: bool
    """True where the films lie on disk, since shared memory was too small."""

    def close(self) -> None:
        """Gives the films back; the last user on the node removes them."""
        if self.lock < 0:
            return
        self.films = np.zeros((0, 0, 0), np.uint8)
        if _locked(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _remove(self.path)
        os.close(self.lock)
        self.lock = -1


def open_cache(dataset: Dataset, split: str, layout: Layout, threads: int) -> NodeCache:
    """Maps the node's decoded films of a split, filling them first where nobody has.

    Waits while another process fills them. InputError where neither memory nor disk has room, or a film is damaged.
    """
    side, key = dataset.image_px, _key(dataset, split)
    needed = layout.films * side**2
    places = _places()
    for place in places:
        _clear_left_behind(place, but=key)
    # Films that are there already cost nothing more.
    for place in sorted(places, key=lambda p: not (p / f"{key}.films").exists()):
        path = place / f"{key}.films"
        if not path.exists() and needed > _room(place):
            continue
        lock = _lock_file(path)
        try:
            if not path.exists():
                _fill(path, dataset, layout, threads)
            fcntl.flock(lock, fcntl.LOCK_SH)
            films = np.memmap(path, np.uint8, "r", shape=(layout.films, side, side))
        except BaseException:
            _remove(path)
            os.close(lock)
            raise
        return NodeCache(films, path, lock, spilled=not _in_memory(place))
    room = ", ".join(f"{_room(place) / 2**30:.1f} GiB in {place.parent}" for place in places)
    raise InputError(
        f"stream.cache: the {layout.films:,} films of the {split} split need {needed / 2**30:.1f} GiB when decoded, but "
        f"there is room for {room}; use stream.cache=none, a smaller shards.image_px, or name a larger place in "
        f"{PLACE_VARIABLE}."
    )


def _key(dataset: Dataset, split: str) -> str:
    return hashlib.sha256(f"{dataset.fingerprint} {split} {dataset.image_px}".encode()).hexdigest()[:32]


def _places() -> list[Path]:
    """Our folders in the places that may hold films, best first."""
    asked = os.environ.get(PLACE_VARIABLE)
    parents = [asked] if asked else [SHARED_MEMORY, tempfile.gettempdir()]
    return [_own_folder(Path(p)) for p in parents if asked or os.access(p, os.W_OK)]


def _own_folder(parent: Path) -> Path:
    folder = parent / f"ray-cxr-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
    except OSError as error:
        raise InputError(
            f"{PLACE_VARIABLE}: films cannot be kept in {parent} ({error.strerror}); name a folder to write to."
        ) from None
    if folder.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise InputError(
            f"stream.cache: {folder} is open to others or not yours, and films in it would be too; remove it, or name "
            f"another place in {PLACE_VARIABLE}."
        )
    return folder


def _in_memory(place: Path) -> bool:
    return place.is_relative_to(SHARED_MEMORY)


def _room(place: Path) -> int:
    """Bytes that films may take here: free space, and for shared memory what the node can spare of its memory."""
    about = os.statvfs(place)
    free = int(about.f_bavail * about.f_frsize)
    if not _in_memory(place):
        return free
    memory = psutil.virtual_memory()
    return max(0, min(free, int(memory.available) - int(KEPT_FREE * memory.total)))


def _lock_file(path: Path) -> int:
    """An exclusive lock beside `path`, waited for. Whoever had it may have removed the file: then the next one."""
    name = path.with_suffix(".lock")
    while True:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not path.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if os.fstat(lock).st_ino == name.stat().st_ino:
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    for name in (path, path.with_suffix(".filling"), path.with_suffix(".lock")):
        name.unlink(missing_ok=True)


def _clear_left_behind(place: Path, but: str) -> None:
    """Removes the films of processes that were killed: nobody holds their lock."""
    for name in place.glob("*.lock"):
        if name.stem == but:
            continue
        try:
            lock = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _remove(name.with_suffix(".films"))
        os.close(lock)


def _fill(path: Path, dataset: Dataset, layout: Layout, threads: int) -> None:
    """Decodes every film of the split into a file that gets its name when it is whole."""
    side = dataset.image_px
    filling = path.with_suffix(".filling")
    with filling.open("wb") as file:
        # Reserved at once: memory that runs out later would end the process without a word.
        os.posix_fallocate(file.fileno(), 0, layout.films * side**2)
    films = np.memmap(filling, np.uint8, "r+", shape=(layout.films, side, side))
    decoder = FilmDecoder.of(dataset, layout)
    work = scoring_work(layout, _FILMS_AT_ONCE, ALONE)
    reads = (read_of(layout, groups) for groups in new_groups(layout, work.windows))
    steps = step_films(layout, work, (read_films(dataset.folder, r) for r in reads), ReadHealth())
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        first = 0
        for encoded in steps:
            chunks = np.array_split(np.arange(len(encoded)), threads)
            list(pool.map(partial(_decode_into, films, decoder, encoded, first), chunks))
            first += len(encoded)
    films.flush()
    filling.rename(path)


def _decode_into(
    films: Pixels, decoder: FilmDecoder, encoded: Sequence[memoryview], first: int, chunk: Rows
) -> None:
    """Decodes some of the films that begin at position `first` of the layout."""
    for i in chunk.tolist():
        films[first + i] = decoder(first + i, encoded[i])
