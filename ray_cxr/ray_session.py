"""Starts Ray on this machine, or joins the cluster that RAY_ADDRESS names, quietly and without strangers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from ray_cxr.cores import usable_cores
from ray_cxr.errors import InputError, RayCxrError, reason_of
from ray_cxr.storage import own_folder

ENVIRONMENT = {
    # Nothing is sent anywhere.
    "RAY_USAGE_STATS_ENABLED": "0",
    # The controller looks after its workers twice a second instead of every two: a start costs that much less.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    # Waits until the node is gone; `train.room.moving` looks for nodes that will be taken away, too, and has training save before.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # The second data source delays the first batch by seconds and loses rows where paths repeat.
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    # A pipeline that gets no CPU must fail, not hang.
    "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "300",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # What Ray Data says of its plans is for people who work on this package.
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""For the driver; a job that is sent to a cluster takes them along for its workers."""
_ENVIRONMENT_HERE = {
    # Ray lets everything else on the machine go before its workers; a training by hand would have its share.
    "RAY_worker_niceness": "0",
    # Where the first workers take longer to start, as on a busy machine or from a slow disk, Ray waits for them without end.
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    # Processes that read stay until the training that they were started for begins.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}
_FOLDER_VARIABLE = "RAY_TMPDIR"
"""Ray's own variable for the place of its folders."""
_LONGEST_FOLDER = 107 - len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""Bytes that the path of Ray's folder may have: Linux takes 107 for that of a socket."""
_LARGEST_STORE = 2 * 2**30
_PATIENCE_S = 10.0
_AGENTS_PATIENCE_S = 2.0


@contextmanager
def ray_session(workers: int) -> Iterator[None]:
    """Ray with room for `workers` training workers and the reading of films; ended with the block if begun by it."""
    import ray

    if ray.is_initialized():
        yield
        return
    room = int(psutil.virtual_memory().available * 0.2)
    start_ray(cpus=max(usable_cores(), workers + 1), store_bytes=min(_LARGEST_STORE, room))
    try:
        yield
    finally:
        stop_ray()


@contextmanager
def ray_starting(workers: int) -> Iterator[Callable[[], None]]:
    """`ray_session` that starts in the background, for what can be done meanwhile; call what it gives before Ray is used.

    Starting is mostly waiting for processes. workers = 0: there is nothing to start. What starting raises, the call raises.
    """
    if workers == 0:
        yield lambda: None
        return
    session, one = ray_session(workers), ThreadPoolExecutor(1, thread_name_prefix="ray-start")
    starting = one.submit(session.__enter__)
    patience = None
    try:
        yield starting.result
    except KeyboardInterrupt:
        # Who wants to stop does not wait for ever for a start that hangs; its processes end with this one.
        patience = _PATIENCE_S
        raise
    finally:
        begun = starting in wait([starting], timeout=patience).done
        # Ray's processes get a signal when the thread that started them ends, so it stays until they are gone.
        if begun and starting.exception() is None:
            one.submit(session.__exit__, None, None, None).result()
        one.shutdown(wait=begun)


def is_own_ray() -> bool:
    """Whether Ray is, or will be, one that this package has started on this machine."""
    return not os.environ.get("RAY_ADDRESS")


def set_environment(*, here: bool = False) -> None:
    """Ray's own settings, for this process and what it starts; here: of a Ray on this machine alone."""
    for name, value in (ENVIRONMENT | _ENVIRONMENT_HERE if here else ENVIRONMENT).items():
        os.environ.setdefault(name, value)


def start_ray(cpus: int, store_bytes: int) -> None:
    """Joins the cluster of RAY_ADDRESS, or starts Ray here with so many CPUs and so large an object store."""
    set_environment(here=is_own_ray())

    # Ray writes its token file and session folders with the umask's rights, 0644 and 0755 by default.
    umask = os.umask(0o077)
    try:
        if not is_own_ray():
            _join(os.environ["RAY_ADDRESS"])
        else:
            _start(
                # Not one that somebody has started here by `ray start`: RAY_ADDRESS would name it.
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                # What Ray Train gives its workers; a process that reads is used by those who have the same environment.
                runtime_env={"env_vars": {"RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0", **_gloo_on_loopback()}},
                _temp_dir=_folder(),
                object_store_memory=store_bytes,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    finally:
        os.umask(umask)


def _start(**options: Any) -> None:
    import ray

    _close_token_file()
    try:
        with _on_loopback():
            ray.init(**options)
    except Exception as error:
        if type(error) is not Exception:  # what Ray raises where one of its processes does not come up
            raise
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise RayCxrError(
            f"Ray did not start on this machine ({reason}); it may be too busy: give the same command again, or train.workers=0 to "
            "train without Ray."
        ) from error


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray that starts in here takes 127.0.0.1 for this node's address, and then listens nowhere else.

    As `_node_ip_address` Ray turns 127.0.0.1 into an address of the network. Where clusters are off, as on macOS and Windows, it looks
    for none; `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER` says so to a process that has not imported Ray yet, and goes on to all that this
    one starts, a cluster too.
    """
    from ray._private import ray_constants

    kept, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = kept


def _gloo_on_loopback() -> dict[str, str]:
    """Gloo would take the address that the machine's name stands for."""
    name = "GLOO_SOCKET_IFNAME"
    loopback = [
        n
        for n, addresses in psutil.net_if_addrs().items()
        if any(a.address == "127.0.0.1" for a in addresses)
    ]
    return {name: os.environ.get(name, loopback[0])} if loopback else {}


def _folder() -> str:
    """Where Ray's sessions lie. Ray opens its own folders to all (0777), so they lie in one that nobody else may enter."""
    asked = [os.environ[name] for name in (_FOLDER_VARIABLE, "TMPDIR") if os.environ.get(name)]
    for place in [*map(Path, asked), Path("/tmp")]:  # noqa: S108  a folder of our own is made in it
        if len(os.fsencode(place / f"ray-cxr-{os.getuid()}" / "ray")) <= _LONGEST_FOLDER:
            break
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{_FOLDER_VARIABLE}: {place} cannot be made ({reason_of(error)}); name a folder to write to."
        ) from None
    return str(own_folder(place.absolute(), _FOLDER_VARIABLE, "Ray's files") / "ray")


def _close_token_file() -> None:
    """Takes from others the right to read Ray's own token file, which another program has written for all (0644)."""
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _join(address: str) -> None:
    import ray

    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"RAY_ADDRESS: the cluster {address!r} cannot be joined ({reason}); mend the address, or unset it to start "
            "Ray on this machine."
        ) from None


@contextmanager
def errors_of_tasks() -> Iterator[None]:
    """Raises an error of ours from a Ray task as itself; Ray wraps it in others that carry the whole traceback."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        found: BaseException | None = error
        while found is not None and not isinstance(found, RayCxrError):
            found = getattr(found, "cause", None) or found.__cause__
        if found is not None:
            raise found from None
        raise


def stop_ray() -> None:
    """Ends what `start_ray` began."""
    import ray

    begun = _raylets_children()
    ray.shutdown()
    # Ray's agents try for more than a minute to tell that a raylet has ended which did not find the time to end them.
    _, left = psutil.wait_procs(begun, timeout=_AGENTS_PATIENCE_S)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _raylets_children() -> list[psutil.Process]:
    """Processes of the Ray that this one has started; none where it has joined a cluster."""
    try:
        raylets = [p for p in psutil.Process().children() if p.name() == "raylet"]
        return [child for raylet in raylets for child in raylet.children(recursive=True)]
    except psutil.NoSuchProcess:  # one that ends just now
        return []
