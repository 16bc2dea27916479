"""Writes checkpoints beside the training, one at a time.

Writes: `checkpoints/`. Never through `ray.train.report`, which waits for the controller's poll.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from ray_cxr.storage import Folder
from ray_cxr.train.checkpoint import Snapshot, write_snapshot

PATIENCE_S = 5.0


class Saver:
    """Writes snapshots in a thread of its own; what fails there is raised by the next call."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, take: Callable[[], Snapshot]) -> None:
        """Takes a snapshot and begins to write it, once the one before is written, so that memory never holds two."""
        self.wait()
        self._writing = self._thread.submit(write_snapshot, self._folder, take())

    def wait(self) -> None:
        """Returns when all is written. Raises what writing raised: InputError where the disk is full."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Gives what is being written some seconds to become whole: who ends a training by Ctrl-C waits for it.

        A store that takes longer keeps the checkpoint before it, as after a kill.
        """
        if self._writing is not None:
            wait([self._writing], timeout=PATIENCE_S)
        self._thread.shutdown(wait=False)
