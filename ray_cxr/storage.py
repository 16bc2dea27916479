"""Folders that are a local path or a URL (`memory://`, `s3://`, whatever fsspec knows), with safe writes.

A local write goes to a temporary name first and is renamed when it is whole and on disk; on object stores a
put is all or nothing already. So a reader sees a file either whole or not at all.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, TypeVar, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from ray_cxr.errors import InputError, reason_of
from ray_cxr.urls import REFUSED_URL, holds_secret

_UNFINISHED = ".writing-"
_AGAIN_AFTER_S = (0.5, 2.0, 8.0, 16.0)
"""Pauses before an object store that has answered before, and now does not, is asked again."""
T = TypeVar("T")


def in_bytes(count: float) -> str:
    """A number of bytes for a person: "1.4 GiB"."""
    unit, *larger = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and larger:
        count, unit, *larger = count / 1024, *larger
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"


def why_not_written(target: str, error: OSError) -> str:
    """Why a local file cannot be written, in a few words that name what stands in its way."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        for place in Path(target).parents:
            if place.exists() and not place.is_dir():
                return f"{place} is a file"
    if error.errno == errno.EISDIR:
        return f"{target} is a directory"
    return reason_of(error)


def own_folder(parent: Path, variable: str, what: str) -> Path:
    """Our folder below `parent`, which only this user may enter, made where it is missing.

    variable: the environment variable that names another parent; what: is kept there, in the plural. Raises InputError where it
    cannot be made, or somebody else has made one of this name.
    """
    folder = parent / f"ray-cxr-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
    except OSError as error:
        raise InputError(
            f"{variable}: {what} cannot be kept in {parent} ({error.strerror}); name a folder to write to."
        ) from None
    if folder.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise InputError(
            f"{variable}: {folder} is open to others or not yours, and {what} in it would be too; remove it, or name another "
            f"place in {variable}."
        )
    return folder


class UnreachableError(InputError):
    """An object store that did not answer; it may the next time."""


class Folder:
    """A folder at a local path or URL. Pickles as its URL, so it can be sent to workers.

    An object store that has answered this process once is given half a minute when it does not; at first it is told at once, since
    then its address may be wrong.
    """

    _have_answered: ClassVar[set[str]] = set()
    """Stores, by protocol and the first part of the path, as a bucket is."""

    def __init__(self, url: str | Path) -> None:
        text = str(url)
        if holds_secret(text):
            raise InputError(f"folder: {REFUSED_URL}.")
        try:
            # Others write here too, so what a folder held a minute ago says nothing.
            self.fs, self.path = fsspec.core.url_to_fs(text, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"folder {text!r} cannot be opened: {error}; use a local path or a known URL."
            ) from None
        except OSError as error:  # some connect at once: ftp, sftp
            raise InputError(
                f"folder {text!r} cannot be reached ({reason_of(error)}); check its address, and the keys and "
                "rights for it."
            ) from None
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self.in_this_process = isinstance(self.fs, MemoryFileSystem)
        # `memory://` is the root of a store; without its slashes it would be a local path.
        url = text if text.endswith("://") else text.rstrip("/")
        self.url = os.path.abspath(self.path) if self.is_local else url
        if self.is_local:
            self.path = self.url

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return (Folder, (self.url,))

    def __truediv__(self, name: str) -> Folder:
        self._refuse_way_out(name)
        return Folder(f"{self.url}{'' if self.url.endswith('/') else '/'}{name}")

    def __str__(self) -> str:
        return self.url

    def full(self, name: str) -> str:
        """The path of `name` in this folder, as the file system below understands it."""
        self._refuse_way_out(name)
        return f"{self.path.rstrip('/')}/{name}"

    def _refuse_way_out(self, name: str) -> None:
        """Names come from indexes and markers too, which somebody else may have written. An absolute one lies below as well."""
        if ".." in name.split("/"):
            raise InputError(
                f"{self}: the name {name!r}, which stands in it, leads out of it; do not use it unless you know who made it."
            )

    def exists(self, name: str = "", *, patient: bool = True) -> bool:
        """Whether it is there; not patient: UnreachableError at once where the store does not answer."""
        path = self.full(name) if name else self.path
        return self._asked(lambda: bool(self.fs.exists(path)), patient=patient)

    def names(self) -> list[str]:
        """The names directly in this folder, sorted; empty if there is no such folder."""
        if not self.exists():
            return []
        self.fs.invalidate_cache(self.path)
        found = self._asked(lambda: cast(list[str], self.fs.ls(self.path, detail=False)))
        return sorted(p.rstrip("/").rsplit("/", 1)[-1] for p in found)

    def open(self, name: str, *, ahead: bool = True) -> IO[bytes]:
        """ahead: clients of object stores may fetch more than is asked for, s3fs 50 MB; False: for whoever reads here and there."""
        with self._reached():
            options = {} if ahead else {"cache_type": "none"}
            return cast(IO[bytes], self.fs.open(self.full(name), "rb", **options))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Tells in one sentence that an object store cannot be reached: each client has errors of its own."""
        try:
            yield
        except Exception as error:
            away = not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError)
            if self.is_local or self.in_this_process or not away:
                raise
            raise UnreachableError(
                f"{self} cannot be reached ({reason_of(error)}); check its address, and the keys and rights for it."
            ) from None

    def _asked(self, ask: Callable[[], T], *, patient: bool = True) -> T:
        """What the file system gives."""
        store = f"{self.fs.protocol} {self.path.lstrip('/').partition('/')[0]}"
        pauses = _AGAIN_AFTER_S if patient and store in self._have_answered else ()
        for pause_s in (*pauses, None):
            try:
                with self._reached():
                    given = ask()
            except UnreachableError:
                if pause_s is None:
                    raise
                time.sleep(pause_s)
            else:
                self._have_answered.add(store)
                return given
        raise AssertionError("unreachable")

    def read_bytes(self, name: str) -> bytes:
        return self._asked(lambda: self._read(name))

    def _read(self, name: str) -> bytes:
        with self.fs.open(self.full(name), "rb") as file:
            return cast(bytes, file.read())

    def read_json(self, name: str) -> Any:
        return json.loads(self.read_bytes(name))

    def write_bytes(self, name: str, data: bytes, *, patient: bool = True) -> None:
        """Writes `name` so that it is there whole or not at all, also after a power cut.

        Raises InputError where this is no place to write to; not patient: UnreachableError at once where a store does not answer.
        """
        target = self.full(name)
        try:
            if self.is_local:
                _write_local(target, data)
            else:
                self._asked(lambda: self._put(target, data), patient=patient)
        except OSError as error:
            reason = why_not_written(target, error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                reason += f": {in_bytes(len(data))} needed, {in_bytes(self.free_bytes() or 0)} free"
            raise InputError(
                f"{self}/{name} cannot be written ({reason}); make room or rights there and give the same command "
                "again, or give another place."
            ) from None

    def _put(self, target: str, data: bytes) -> None:
        self.fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self.fs.pipe_file(target, data)

    def append_bytes(self, name: str, data: bytes) -> None:
        """Adds to a local file, in one write; errors as of `write_bytes`."""
        target = self.full(name)
        try:
            os.makedirs(self.path, exist_ok=True)
            with open(target, "ab", buffering=0) as file:
                file.write(data)
        except OSError as error:
            reason = why_not_written(target, error)
            raise InputError(
                f"{self}/{name} cannot be written ({reason}); make room or rights there."
            ) from None

    def check_writable(self) -> None:
        """Raises InputError where nothing can be written here: better now than after hours of work."""
        self.write_bytes(".ray-cxr-writable", b"")
        self.remove(".ray-cxr-writable")

    def free_bytes(self) -> int | None:
        """Room for new files, or None where nobody can tell (object stores)."""
        if not self.is_local:
            return None
        place = Path(self.path)
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    def remove_unfinished(self) -> None:
        """Removes what killed writers left below this folder. Only for who knows that nobody writes here now."""
        if self.is_local:
            for path in Path(self.path).rglob(f"{_UNFINISHED}*"):
                path.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
        self.write_bytes(name, text.encode() + b"\n")

    def remove(self, name: str) -> None:
        """Removes a file or folder below this one; nothing happens if it is not there."""
        if self.exists(name):
            self._asked(lambda: self.fs.rm(self.full(name), recursive=True))


def _write_local(target: str, data: bytes) -> None:
    directory = os.path.dirname(target)
    os.makedirs(directory, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=_UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()
