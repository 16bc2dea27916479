"""A cluster's Jobs API over HTTP; what can go wrong with it is told in a sentence each.

The only module that knows Ray's JobSubmissionClient. No Ray is started here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from ray import __version__ as ray_version
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from ray_cxr.errors import InputError, RayCxrError, reason_of
from ray_cxr.submit.pack import Bundle
from ray_cxr.submit.token import Token

_CONNECT_S, _ANSWER_S = 10.0, 60.0
_COMING_UP, _UP_WITHIN_S = "No available agent", 90.0
"""What a cluster says, after half a minute, whose dashboard is up before the rest of it."""
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers that tell each upload."""
OURS = "ray_cxr"
"""Key of a job's metadata that says that this package sent it."""
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class JobState:
    """A job as the cluster knows it."""

    id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    exit_code: int | None
    """Of the command; None before its end, and where it was killed or never began."""
    message: str
    metadata: Mapping[str, str]
    started_s: float | None
    ended_s: float | None

    @property
    def is_over(self) -> bool:
        return self.status in _ENDED


@dataclass(frozen=True)
class Node:
    """A node that is alive, by the names that it gives itself."""

    host: str
    ip: str


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's own client waits for ever for a host that does not answer."""

    def _do_request(self, method: str, endpoint: str, **kwargs: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=(_CONNECT_S, _ANSWER_S), **kwargs)


class Cluster:
    """The Jobs API at an address. Raises InputError where there is none, the token is wrong or Ray is another."""

    def __init__(self, url: str, token: Token | None) -> None:
        self.url, self._token = url, token
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        headers = {"Authorization": f"Bearer {token.value}"} if token else {}
        with self._told():
            _check_is_ray(url, headers)
            with _without_rays_own_addresses():
                self._client = _Client(url, headers=headers)

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        with self._told():
            answer = self._client._do_request("GET", "/nodes?view=summary")
            answer.raise_for_status()
            summary = answer.json()["data"]["summary"]
        return [
            Node(str(n["hostname"]), str(n["ip"])) for n in summary if n["raylet"].get("state") == "ALIVE"
        ]

    def submit(
        self, job: str, entrypoint: str, bundle: Bundle, variables: Mapping[str, str], metadata: Mapping[str, str]
    ) -> None:  # fmt: skip
        """Sends the bundle, unless the cluster has it from before, and starts the job."""
        environment: dict[str, Any] = {"working_dir": str(bundle.work), "env_vars": dict(variables)}
        if bundle.package is not None:
            environment["py_modules"] = [str(bundle.package)]
        begun = time.monotonic()
        with self._told():
            while True:
                try:
                    self._client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=job,
                        runtime_env=environment,
                        metadata={**metadata, OURS: "1"},
                    )
                    return
                except RuntimeError as error:
                    if _COMING_UP not in str(error) or time.monotonic() - begun > _UP_WITHIN_S:
                        raise

    def job(self, job: str) -> JobState:
        """What the cluster knows of a job. InputError where there is none of this id."""
        with self._told(job):
            return _state(self._client.get_job_info(job))

    def jobs(self) -> list[JobState]:
        """All jobs that this package sent, the oldest first."""
        with self._told():
            states = [_state(j) for j in self._client.list_jobs() if j.submission_id]
        return sorted((s for s in states if OURS in s.metadata), key=lambda s: s.started_s or 0.0)

    def stop(self, job: str) -> None:
        """Asks for a job's end; nothing happens to one that is over."""
        with self._told(job):
            self._client.stop_job(job)

    def log(self, job: str) -> str:
        """All that a job has printed."""
        with self._told(job):
            return str(self._client.get_job_logs(job))

    async def tail(self, job: str) -> AsyncIterator[str]:
        """A job's log from its beginning, in pieces, until the job is over. ConnectionError where the line breaks."""
        import aiohttp

        try:
            async for text in self._client.tail_job_logs(job):
                yield text
        except (aiohttp.ClientError, RuntimeError, OSError) as error:
            raise ConnectionError(reason_of(error)) from error

    @contextmanager
    def _told(self, job: str = "") -> Iterator[None]:
        """Turns what Ray and its HTTP client raise into sentences."""
        try:
            yield
        except AuthenticationError as error:
            raise InputError(_refused(self.url, self._token, str(error))) from None
        except requests.exceptions.SSLError as error:
            raise InputError(
                f"--address: {self.url} has a certificate that this machine does not trust ({reason_of(error)[:200]}); name its "
                "authority's file in SSL_CERT_FILE and REQUESTS_CA_BUNDLE."
            ) from None
        except requests.exceptions.Timeout:
            raise InputError(
                f"--address: nothing answers at {self.url} within {_CONNECT_S:.0f} s; check host and port, the tunnel or port-forward "
                "to it, and firewalls between."
            ) from None
        except (requests.exceptions.ConnectionError, ConnectionError):
            raise InputError(
                f"--address: {self.url} cannot be reached; check that the cluster is up, host and port (the dashboard's, 8265 by "
                "default), and the tunnel or port-forward to it."
            ) from None
        except (requests.exceptions.RequestException, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"--address: what answers at {self.url} is no dashboard of Ray {ray_version} ({reason_of(error)[:200]}); give the address "
                "that `ray start --head` or your cluster's service names for the dashboard."
            ) from None
        except RuntimeError as error:
            if job and "status code 404" in str(error):
                raise InputError(f"the cluster knows no job {job!r}; `ray-cxr jobs` lists them.") from None
            raise RayCxrError(f"the cluster could not do it: {reason_of(error)[:500]}") from None


def _check_is_ray(url: str, headers: Mapping[str, str]) -> None:
    answer = requests.get(f"{url}/api/version", headers=headers, timeout=(_CONNECT_S, _ANSWER_S))
    if answer.status_code in (401, 403):
        raise AuthenticationError(str(answer.status_code))
    answer.raise_for_status()
    theirs = str(answer.json()["ray_version"])
    if _minor(theirs) != _minor(ray_version):
        raise InputError(
            f"--address: the cluster has Ray {theirs}, this machine {ray_version}, and jobs go between equal versions only; install "
            f"ray=={theirs} here (in an environment of its own) or another image there."
        )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _refused(url: str, token: Token | None, said: str) -> str:
    if token is None:
        return (
            f"{url} asks for a token, and none was found; put it into RAY_AUTH_TOKEN, or into a file that only you can read and give "
            "that as --token-file (`ray get-auth-token` prints it on the head)."
        )
    return (
        f"{url} does not take the token from {token.origin}; give the one that the cluster was started with "
        "(`ray get-auth-token` prints it on the head)."
    )


@contextmanager
def _without_rays_own_addresses() -> Iterator[None]:
    """Ray's client lets these variables win over the address that it is given."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _state(details: Any) -> JobState:
    status = str(getattr(details.status, "value", details.status))
    return JobState(
        id=str(details.submission_id or details.job_id),
        status=status,
        exit_code=details.driver_exit_code,
        message=details.message or "",
        metadata=details.metadata or {},
        started_s=details.start_time / 1000 if details.start_time else None,
        ended_s=details.end_time / 1000 if details.end_time else None,
    )
