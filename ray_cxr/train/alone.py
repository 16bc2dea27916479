"""One process at a time at something that lies in a directory: a lock that the system gives back when its process dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray_cxr.errors import RefusedError
from ray_cxr.storage import Folder

_LOOK_S = 0.2


@contextmanager
def alone(folder: Folder, name: str, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the lock file `name` of a folder, waiting so long for a process that is about to end.

    what: names it in the sentence, as "the cross-validation runs/cv". Raises RefusedError where another process still
    holds it. On an object store, and on a network file system without locks, nothing is locked.
    """
    if not folder.is_local:
        yield
        return
    os.makedirs(folder.path, exist_ok=True)
    with open(folder.full(name), "wb") as lock:
        given_up = time.monotonic() + wait_s
        while not _locked(lock.fileno()):
            if time.monotonic() > given_up:
                raise RefusedError(
                    f"out: another process is at work on {what}; wait for its end, or stop it first; nothing was changed."
                )
            time.sleep(_LOOK_S)
        yield


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system without locks
        return True
    return True
