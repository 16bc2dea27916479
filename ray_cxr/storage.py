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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from ray_cxr.errors import InputError, reason_of

_UNFINISHED = ".writing-"


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


class UnreachableError(InputError):
    """An object store that did not answer; it may the next time."""


class Folder:
    """A folder at a local path or URL. Pickles as its URL, so it can be sent to workers."""

    def __init__(self, url: str | Path) -> None:
        text = str(url)
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
        return Folder(f"{self.url}{'' if self.url.endswith('/') else '/'}{name}")

    def __str__(self) -> str:
        return self.url

    def full(self, name: str) -> str:
        """The path of `name` in this folder, as the file system below understands it."""
        return f"{self.path.rstrip('/')}/{name}"

    def exists(self, name: str = "") -> bool:
        with self._reached():
            return bool(self.fs.exists(self.full(name) if name else self.path))

    def names(self) -> list[str]:
        """The names directly in this folder, sorted; empty if there is no such folder."""
        if not self.exists():
            return []
        self.fs.invalidate_cache(self.path)
        with self._reached():
            found = cast(list[str], self.fs.ls(self.path, detail=False))
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
        except OSError:
            raise
        except Exception as error:
            if self.is_local or self.in_this_process:
                raise
            raise InputError(
                f"{self} cannot be reached ({reason_of(error)}); check its address, and the keys and rights for it."
            ) from None

    def read_bytes(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def read_json(self, name: str) -> Any:
        return json.loads(self.read_bytes(name))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes `name` so that it is there whole or not at all, also after a power cut.

        Raises InputError where this is no place to write to.
        """
        target = self.full(name)
        try:
            if self.is_local:
                _write_local(target, data)
            else:
                with self._reached():
                    self.fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                    self.fs.pipe_file(target, data)
        except OSError as error:
            reason = why_not_written(target, error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                reason += f": {in_bytes(len(data))} needed, {in_bytes(self.free_bytes() or 0)} free"
            raise InputError(
                f"{self}/{name} cannot be written ({reason}); make room or rights there and give the same command "
                "again, or give another place."
            ) from None

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
            self.fs.rm(self.full(name), recursive=True)


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
