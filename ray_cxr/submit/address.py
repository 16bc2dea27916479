"""Where a cluster's Jobs API answers: what people write for it, as one URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from ray_cxr.errors import InputError

VARIABLE = "RAY_API_SERVER_ADDRESS"
"""Ray's own variable for this address."""
_EXAMPLE = "http://127.0.0.1:8265"
_PORT = 8265


def cluster_url(address: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """`scheme://host:port` of what --address or the environment says. Raises InputError."""
    given = address or environment.get(VARIABLE)
    if not given:
        raise InputError(
            f"--address: which cluster? Give the address of its dashboard, as {_EXAMPLE}, here or in {VARIABLE}."
        )
    text = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or given == "auto":
        raise InputError(
            f"--address: got {_without_password(given)!r}, but a job is sent to a cluster's dashboard, as {_EXAMPLE} (not to ray://, "
            "auto or the port that ray start prints for other nodes)."
        )
    if parts.username or parts.password:
        raise InputError(
            "--address: the address holds a user or a password, which would be kept in the shell's history; give a token in "
            "RAY_AUTH_TOKEN or --token-file instead."
        )
    port = port or (443 if parts.scheme == "https" else _PORT)
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}:{port}{parts.path.rstrip('/')}"


def is_open_wire(url: str) -> bool:
    """Whether a token would cross a network unencrypted."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "http" and not (host in ("localhost", "::1") or host.startswith("127."))


def _without_password(text: str) -> str:
    scheme, there, rest = text.partition("://")
    return f"{scheme}{there}{rest.rpartition('@')[2]}" if there else text
