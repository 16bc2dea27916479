"""Items made ahead in a thread of their own, and training batches that are made on into the epochs that follow."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from ray_cxr.errors import RayCxrError

T = TypeVar("T")
_END: Any = object()


def ahead(make: Callable[[], Iterator[T]], ready: int, patience_s: float | None = None) -> Iterator[T]:
    """What the iterator gives, made in a thread: `ready` items at most wait or are being made; its error is raised here.

    Raises TimeoutError where an item that is waited for does not come within `patience_s`.
    """
    items: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    room, stop = threading.Semaphore(ready), threading.Event()

    def run() -> None:
        try:
            source = make()
            while room.acquire() and not stop.is_set():
                value = next(source, _END)
                if value is _END:
                    return items.put((False, None))
                items.put((True, value))
                del value  # else the last item that was made would be held until the next
        except BaseException as error:  # noqa: BLE001  carried over to the consumer, who raises it
            items.put((False, error))

    thread = threading.Thread(target=run, daemon=True, name="stream")
    thread.start()
    try:
        while True:
            try:
                more, value = items.get(timeout=patience_s)
            except queue.Empty:
                raise TimeoutError from None
            room.release()
            if more:
                yield value
                del value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        room.release()
        thread.join(timeout=10)


class Epochs(Generic[T]):
    """Batches of one epoch after another, taken epoch by epoch from one iterator, so that no epoch begins with a wait.

    batches: an `ahead`, from step `step` of epoch `epoch` to the end of epoch `last`.
    """

    def __init__(self, batches: Iterator[T], epoch: int, step: int, last: int) -> None:
        self._batches, self._last = batches, last
        self._epoch, self._step, self._taken = epoch, step, False

    def wait_for(self, epoch: int, step: int) -> bool:
        """Whether the next batch is that of this step (from 0), and nobody is taking batches."""
        return not self._taken and (self._epoch, self._step) == (epoch, step)

    def rest_of_epoch(self, steps: int) -> Iterator[T]:
        """The batches up to the end of the epoch, which has this many steps; left before its end, the thread is ended."""
        self._taken = True
        return self._rest_of_epoch(steps)

    def _rest_of_epoch(self, steps: int) -> Iterator[T]:
        whole = False
        try:
            for step in range(self._step, steps):
                batch = next(self._batches)
                # The trainer takes the last batch of an epoch and asks no more.
                if step == steps - 1:
                    self._end_epoch()
                    whole = True
                yield batch
                del batch
        finally:
            if not whole:
                self.close()

    def _end_epoch(self) -> None:
        if self._epoch == self._last and next(self._batches, _END) is not _END:
            raise RayCxrError("more batches were made than the epochs have steps; this must not happen.")
        self._epoch, self._step, self._taken = self._epoch + 1, 0, False

    def close(self) -> None:
        """Ends the thread that makes batches."""
        self._batches.close()  # type: ignore[attr-defined]
