"""One preparation, or search, at a time in a directory: an OS lock on a disk, a marker with a heartbeat in an object store.

Reads and writes one file, which stays where its owner was killed, and says who that was.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil

from ray_cxr.errors import InputError, RayCxrError, RefusedError
from ray_cxr.storage import Folder, why_not_written

BEAT_S = 20.0
"""An owner renews its marker so often."""
STALE_S = 120.0
"""A marker that is older than this, by the clocks of both machines, belongs to nobody any more."""
_SETTLE_S = 1.0
"""Two that begin at once both write, and the later write wins: so long to see whose it was."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Owner:
    """Who is at work: enough to name it, and to know on its own machine whether it still lives."""

    process: int = field(default_factory=os.getpid)
    process_began: float = field(default_factory=lambda: psutil.Process().create_time())
    host: str = field(default_factory=platform.node)
    machine: str = field(default_factory=lambda: f"{uuid.getnode():012x}")
    since: str = field(default_factory=_now)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"

    def is_dead(self) -> bool:
        """Whether it ran on this machine and is gone; False where that cannot be known from here."""
        if (self.host, self.machine) != (platform.node(), f"{uuid.getnode():012x}"):
            return False
        try:
            return bool(abs(psutil.Process(self.process).create_time() - self.process_began) > 1)
        except psutil.NoSuchProcess:
            return True


@dataclass(frozen=True)
class Work:
    """What is done under a lock, for sentences. setting: names its directory; goes_on: passive, as `is being prepared`."""

    name: str
    setting: str
    goes_on: str


PREPARATION = Work("preparation", "dataset", "is being prepared")


class Held:
    """A lock that is held. `check` raises RefusedError where another has taken it over."""

    def __init__(self, work: Work, lost: Callable[[], bool] = lambda: False) -> None:
        self._work, self._lost = work, lost

    def check(self) -> None:
        if self._lost():
            raise RefusedError(
                f"{self._work.setting}: another {self._work.name} has taken this one's place, since nothing was heard of it for "
                f"{STALE_S:.0f} s; what was written is not lost, so give the command again when the other has ended."
            )


@contextmanager
def locked(
    folder: Folder, name: str, say: Callable[[str], None], stays: Callable[[], bool] = lambda: True,
    work: Work = PREPARATION,
) -> Iterator[Held]:  # fmt: skip
    """Holds the lock `name` of a folder. RefusedError where another does; says so where one is taken over.

    The file is removed at the end. Where the block raises a RayCxrError, nothing was interrupted: the file stays
    without an owner if `stays` says so, and is removed otherwise. It stays after any other error.
    """
    if folder.is_local:
        handle = _lock_file(folder, name, say, work)
        if handle is not None:
            try:
                yield Held(work)
                os.unlink(folder.full(name))
            except RayCxrError:
                _release(handle, folder.full(name), stays())
                raise
            finally:
                os.close(handle)
            return
    with _marked(folder, name, say, stays, work) as held:
        yield held


def _release(handle: int, path: str, stays: bool) -> None:
    if stays:
        os.ftruncate(handle, 0)  # needs no room, which may be what the block lacked
    else:
        os.unlink(path)


def _busy(folder: Folder, owner: Owner | None, work: Work) -> RefusedError:
    who = str(owner) if owner else "another process"
    return RefusedError(
        f"{work.setting}: {folder} {work.goes_on} by {who}; wait for its end, or stop it first; nothing was changed."
    )


def _lock_file(folder: Folder, name: str, say: Callable[[str], None], work: Work) -> int | None:
    """An open file with the lock, which the system gives back when the process dies; None where there are no locks."""
    path = folder.full(name)
    while True:
        try:
            os.makedirs(folder.path, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(
                f"{work.setting}: {path} cannot be written ({why_not_written(path, error)}); make room or rights there, or give another place."
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            before = _owner(os.pread(handle, 2**16, 0))
            os.close(handle)
            raise _busy(folder, before, work) from None
        except OSError:  # a network file system without locks
            os.close(handle)
            return None
        if _is_still(handle, path):
            break
        os.close(handle)  # its owner has ended and removed it meanwhile
    before = _owner(os.pread(handle, 2**16, 0))
    if before:
        say(f"going on from a {work.name} that did not end ({before})")
    text = json.dumps({"format": 1, "owner": asdict(Owner())}).encode()
    os.ftruncate(handle, 0)
    os.pwrite(handle, text, 0)
    return handle


def _is_still(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(data: bytes) -> Owner | None:
    try:
        return Owner(**json.loads(data)["owner"])
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def _marked(
    folder: Folder, name: str, say: Callable[[str], None], stays: Callable[[], bool], work: Work
) -> Iterator[Held]:
    marker = _Marker(folder, name, work)
    marker.take(say)
    beating = threading.Thread(target=marker.beat, daemon=True)
    beating.start()
    try:
        yield Held(work, lambda: marker.lost)
        marker.end()
        if not marker.lost:
            folder.remove(name)
    except RayCxrError:
        marker.end()
        beating.join()
        if not marker.lost and not stays():
            folder.remove(name)
        raise
    finally:
        marker.end()
        beating.join()
        if not marker.lost and folder.exists(name):
            folder.write_json(name, {"format": 1})


class _Marker:
    def __init__(self, folder: Folder, name: str, work: Work) -> None:
        self._folder, self._name, self._work, self._owner = folder, name, work, Owner()
        self._ended = threading.Event()
        self._written = 0.0
        self._taken = False

    @property
    def lost(self) -> bool:
        return self._taken or time.monotonic() - self._written > STALE_S

    def take(self, say: Callable[[str], None]) -> None:
        """Writes the marker and looks whether it stayed. Raises RefusedError where another is at work."""
        there = self._read()
        before = _owner(json.dumps(there).encode())
        if before:
            silent_s = time.time() - float(there.get("beat", 0))
            if not before.is_dead() and silent_s < STALE_S:
                raise _busy(self._folder, before, self._work)
            say(
                f"taking over from a {self._work.name} that has not been heard of for {silent_s:.0f} s ({before})"
            )
        self._write()
        time.sleep(0 if self._folder.in_this_process else _SETTLE_S)
        winner = _owner(json.dumps(self._read()).encode())
        if winner != self._owner:
            raise _busy(self._folder, winner, self._work)

    def beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                self._taken = _owner(json.dumps(self._read()).encode()) != self._owner
                if self._taken:
                    return
                self._write()
            except (OSError, InputError):
                continue  # the store may be back at the next beat; `lost` says when it was too long

    def end(self) -> None:
        self._ended.set()

    def _read(self) -> dict[str, Any]:
        try:
            value: dict[str, Any] = self._folder.read_json(self._name)
        except (FileNotFoundError, ValueError):
            return {}
        return value

    def _write(self) -> None:
        self._folder.write_json(self._name, {"format": 1, "owner": asdict(self._owner), "beat": time.time()})
        self._written = time.monotonic()
