"""Runs one function over many tasks: by threads of this process, or by Ray over processes and machines.

Threads begin at once and are the only way to `memory://`, which exists in one process; Ray costs seconds to start and
uses every core of a cluster. The results are the same.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

from ray_cxr.cores import usable_cores
from ray_cxr.errors import RayCxrError
from ray_cxr.ray_session import ray_session

Task = TypeVar("Task")
Result = TypeVar("Result")


class Crew(AbstractContextManager["Crew"]):
    """Starts Ray when it is first asked for, and ends with its block what it started."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._sessions = ExitStack()
        self._ray = False

    def __exit__(self, *exc: object) -> None:
        self._sessions.close()

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], *, by_ray: bool
    ) -> Iterator[Result]:
        """The result of each task, in the order in which they end; the first error of ours ends the rest."""
        if not tasks:
            return iter(())
        if by_ray:
            self.start_ray()
            return _by_ray(function, tasks)
        return _by_threads(function, tasks)

    def start_ray(self) -> None:
        """Starts Ray, or joins the cluster, unless that is done; before a progress bar, whose rate it would spoil."""
        if self._ray:
            return
        import ray

        if not ray.is_initialized():
            self._say("starting Ray")
        self._sessions.enter_context(ray_session(workers=0))
        self._ray = True


def _by_threads(function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    pool = ThreadPoolExecutor(usable_cores())
    try:
        for ended in as_completed([pool.submit(function, task) for task in tasks]):
            yield ended.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _by_ray(function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    import ray
    from ray.data.exceptions import ExecutionTimeoutError

    def run(item: dict[str, Any]) -> dict[str, Any]:
        try:
            result: object = function(pickle.loads(item["task"]))  # noqa: S301  our own, from this process
        except RayCxrError as error:
            # As a value: Ray Data keeps only the text of an exception.
            result = error
        return {"result": pickle.dumps(result)}

    items = [{"task": pickle.dumps(task)} for task in tasks]
    try:
        for row in ray.data.from_items(items, override_num_blocks=len(items)).map(run).iter_rows():
            result = pickle.loads(row["result"])  # noqa: S301
            if isinstance(result, RayCxrError):
                raise result
            yield result
    except ExecutionTimeoutError:
        waited_s = ray.data.DataContext.get_current().execution_no_progress_timeout_s
        raise RayCxrError(
            f"nothing went on in the cluster for {waited_s:.0f} s: it has {ray.cluster_resources().get('CPU', 0):g} CPUs, perhaps all taken; "
            "look at its autoscaler (ray status), and give the same command again, which goes on from what is done."
        ) from None
