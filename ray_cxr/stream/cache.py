"""The decoded films of a split, once per node, in memory that every worker and trial on the node maps.

Reads: the shards of one split, once. Keeps: raw pixels in shared memory (or, where that is too small, in the temporary
directory, read through the page cache). Their file has no name, so the kernel frees it when the last process that uses it
ends, however it ends; others on the node open it through the descriptor of one that has it (Linux: /proc/PID/fd). Who has it
stands in a small file, in a folder that only its user may enter.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import psutil

from ray_cxr.axes import Pixels, Rows
from ray_cxr.errors import InputError
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import own_folder
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
    users: Path
    """The file that lists the processes that have them."""
    file: IO[bytes]
    spilled: bool
    """True where the films lie on disk, since shared memory was too small."""

    def close(self) -> None:
        """Gives the films back."""
        if self.file.closed:
            return
        self.films = np.zeros((0, 0, 0), np.uint8)
        with _locked(self.users) as users:
            _write(users, [u for u in _read(users) if u != _user(self.file)])
        self.file.close()


def open_cache(dataset: Dataset, split: str, layout: Layout, threads: int) -> NodeCache:
    """Maps the node's decoded films of a split, decoding them first where nobody has.

    Waits while another process decodes them. InputError where neither memory nor disk has room, or a film is damaged.
    """
    needed = layout.films * dataset.image_px**2
    places = _places()
    for place in places:
        _clear_left_behind(place)
    name = f"{_key(dataset, split)}.users"
    # Films that are there already cost nothing more, wherever they are.
    for place in places:
        if (place / name).exists() and (found := _open_in(place / name, dataset, layout, 0)):
            return found
    for place in places:
        if needed <= _room(place) and (made := _open_in(place / name, dataset, layout, threads)):
            return made
    room = ", ".join(f"{_room(place) / 2**30:.1f} GiB in {place.parent}" for place in places)
    raise InputError(
        f"stream.cache: the {layout.films:,} films of the {split} split need {needed / 2**30:.1f} GiB when decoded, but "
        f"there is room for {room}; use stream.cache=none, a smaller shards.image_px, or name a larger place in "
        f"{PLACE_VARIABLE}."
    )


def _open_in(name: Path, dataset: Dataset, layout: Layout, threads: int) -> NodeCache | None:
    """The films that somebody has here, or, with threads, decoded anew; None where there are none, or no more room."""
    shape = (layout.films, dataset.image_px, dataset.image_px)
    with _locked(name) as users:
        listed = _read(users)
        file = _opened(listed, int(np.prod(shape)))
        try:
            if file is None and threads:
                file = _filled(name.parent, dataset, layout, threads)
        except OSError as error:
            # The room that was there a moment ago has been taken by another.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        if file is None:
            return None
        _write(users, [*listed, _user(file)])
    films = np.memmap(file, np.uint8, "r", shape=shape)
    return NodeCache(films, name, file, spilled=not _in_memory(name))


def _key(dataset: Dataset, split: str) -> str:
    return hashlib.sha256(f"{dataset.fingerprint} {split} {dataset.image_px}".encode()).hexdigest()[:32]


def _places() -> list[Path]:
    """Our folders in the places that may hold films, best first."""
    asked = os.environ.get(PLACE_VARIABLE)
    parents = [asked] if asked else [SHARED_MEMORY, tempfile.gettempdir()]
    return [own_folder(Path(p), PLACE_VARIABLE, "films") for p in parents if asked or os.access(p, os.W_OK)]


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


@contextmanager
def _locked(name: Path, how: int = fcntl.LOCK_EX) -> Iterator[IO[str]]:
    """The list of users, alone; it is removed where nobody is left on it."""
    while True:
        users = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            fcntl.flock(users, how)
            # Whoever had the lock may have removed the file: then the next one counts.
            if os.fstat(users.fileno()).st_ino == name.stat().st_ino:
                break
        except FileNotFoundError:
            pass
        except BlockingIOError:
            users.close()
            raise
        users.close()
    with users:
        try:
            yield users
        finally:
            if not _read(users):
                name.unlink()


def _read(users: IO[str]) -> list[str]:
    users.seek(0)
    return users.read().splitlines()


def _write(users: IO[str], lines: Sequence[str]) -> None:
    users.seek(0)
    users.truncate()
    users.write("".join(f"{line}\n" for line in lines))
    users.flush()


def _user(file: IO[bytes]) -> str:
    """This process as a user of a file: process, descriptor, and which file that is."""
    about = os.fstat(file.fileno())
    return f"{os.getpid()} {file.fileno()} {about.st_dev} {about.st_ino}"


def _opened(listed: Sequence[str], size: int) -> IO[bytes] | None:
    """The file of any of these users that is alive; a descriptor's number may mean another file by now."""
    for user in listed:
        process, descriptor, device, inode = user.split()
        try:
            file = open(f"/proc/{process}/fd/{descriptor}", "rb", buffering=0)  # noqa: SIM115  kept open
        except OSError:
            continue
        about = os.fstat(file.fileno())
        if (str(about.st_dev), str(about.st_ino), about.st_size) == (device, inode, size):
            return file
        file.close()
    return None


def _clear_left_behind(place: Path) -> None:
    """Removes lists of users that have all been killed; their films went with them."""
    for name in place.glob("*.users"):
        # Whoever decodes films holds the lock, and is alive.
        with suppress(BlockingIOError), _locked(name, fcntl.LOCK_EX | fcntl.LOCK_NB) as users:
            _write(users, [user for user in _read(users) if Path("/proc", user.split()[0]).exists()])


def _filled(place: Path, dataset: Dataset, layout: Layout, threads: int) -> IO[bytes]:
    """A file without a name that holds every film of the split."""
    side = dataset.image_px
    file = tempfile.TemporaryFile(dir=place, buffering=0)  # noqa: SIM115  kept open
    try:
        # Reserved at once: memory that runs out later would end the process without a word.
        os.posix_fallocate(file.fileno(), 0, layout.films * side**2)
        films = np.memmap(file, np.uint8, "r+", shape=(layout.films, side, side))
        _decode_all(films, dataset, layout, threads)
    except BaseException:
        file.close()
        raise
    return file


def _decode_all(films: Pixels, dataset: Dataset, layout: Layout, threads: int) -> None:
    decoder = FilmDecoder.of(dataset, layout)
    work = scoring_work(layout, _FILMS_AT_ONCE, ALONE)
    reads = (read_of(layout, groups) for groups in new_groups(layout, work.windows))
    steps = step_films(layout, [work], (read_films(dataset.folder, r) for r in reads), ReadHealth())
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        first = 0
        for encoded in steps:
            chunks = np.array_split(np.arange(len(encoded)), threads)
            list(pool.map(partial(_decode_into, films, decoder, encoded, first), chunks))
            first += len(encoded)


def _decode_into(
    films: Pixels, decoder: FilmDecoder, encoded: Sequence[memoryview], first: int, chunk: Rows
) -> None:
    """Decodes some of the films that begin at position `first` of the layout."""
    for i in chunk.tolist():
        films[first + i] = decoder(first + i, encoded[i])
