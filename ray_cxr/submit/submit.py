"""Sends a job: checks on this machine what can be checked, packs, and starts it on the cluster."""

from __future__ import annotations

import secrets
import shlex
import socket
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ray_cxr import __version__
from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError
from ray_cxr.job import Job
from ray_cxr.ray_session import ENVIRONMENT
from ray_cxr.submit.client import Cluster, Node
from ray_cxr.submit.pack import JOB, START, pack
from ray_cxr.submit.places import COMMANDS, absolute, refuse_unseen
from ray_cxr.submit.start import VERSION

JOB_ID = "RAY_CXR_JOB"
"""Variable with the job's id, in the driver and in all workers."""
_STOPPING = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "15"}
"""`stop` is Ctrl-C for the command on the cluster, which ends it with a sentence; killed only where it goes on."""


@dataclass(frozen=True)
class Sent:
    """A job that is on the cluster now."""

    job: str
    command: str
    out: str


def check_command(command: str) -> None:
    """Raises InputError where a cluster does not run this command."""
    if command not in COMMANDS:
        raise InputError(
            f"submit: got the command {command!r}, but a cluster runs {', '.join(COMMANDS)}; everything else works from here, also on "
            "s3://… places."
        )


def submit(
    cluster: Cluster, command: str, job: Job, *, shared: Sequence[str] = (), installed: bool = False, as_json: bool = False
) -> Sent:  # fmt: skip
    """Starts `command` on the cluster with the job's settings. Raises InputError before anything is sent."""
    check_command(command)
    settings, places = absolute(job, command)
    refuse_unseen(places, shared, same_machine=is_this_machine(cluster.nodes()))
    name = f"ray-cxr-{command}-{secrets.token_hex(4)}"
    entrypoint = shlex.join(["python", START, command, JOB, *(["--json"] if as_json else [])])
    place = settings.dataset if command in ("prepare", "explore") else settings.out
    with tempfile.TemporaryDirectory(prefix="ray-cxr-") as scratch:
        bundle = pack(Path(scratch), to_yaml(settings), with_package=not installed)
        cluster.submit(
            name,
            entrypoint,
            bundle,
            variables={**ENVIRONMENT, **_STOPPING, VERSION: __version__, JOB_ID: name},
            metadata={"command": command, "out": place, "version": __version__},
        )
    return Sent(name, command, place)


def is_this_machine(
    nodes: Sequence[Node], host: str | None = None, addresses: Collection[str] | None = None
) -> bool:
    """Whether all nodes are this machine, so that a path means the same there.

    The address that a job is sent to says nothing: a tunnel or port-forward to any cluster begins at 127.0.0.1.
    """
    host = host or socket.gethostname()
    if addresses is None:
        addresses = {a.address for all_of in psutil.net_if_addrs().values() for a in all_of}
    return bool(nodes) and all(node.host == host and node.ip in addresses for node in nodes)
