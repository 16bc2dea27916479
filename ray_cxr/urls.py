"""Passwords and keys in URLs: they would be written into runs, reports and logs, so a URL that holds one is refused unread."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\S*)")
_USERS = ("http", "https", "s3", "s3a", "gs", "gcs", "r2")
"""Schemes where what stands before an @ is a key; in others it may be a user alone, an account's container or a branch."""
_SIGNED = re.compile(
    r"[?&](x-amz-(signature|security-token|credential)|x-goog-(signature|credential)|sig|signature|token|access_token|api_?key|key"
    r"|secret|aws_secret_access_key|password|passwd|pwd)=[^&]",
    re.IGNORECASE,
)
REFUSED_URL = (
    "the URL holds a password, key or signature, which would be kept in runs, reports and logs; leave it out, and give it to the "
    "program that opens the URL by its own variables or files (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, ~/.netrc, "
    "PGPASSWORD, MLFLOW_TRACKING_PASSWORD, …)"
)
"""What to say of such a URL, instead of the URL; follows the name of the setting."""


def holds_secret(text: str) -> bool:
    """Whether a text holds a URL with a password, a key or a signature."""
    return any(
        _in_authority(scheme.lower(), rest) or _SIGNED.search(rest) for scheme, rest in _URL.findall(text)
    )


def secrets_in(raw: Any, name: str = "") -> Iterator[str]:
    """Dotted names of the settings whose text holds a secret; raw: what a YAML file may hold."""
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from secrets_in(value, f"{name}.{key}" if name else str(key))
    elif isinstance(raw, Sequence) and not isinstance(raw, str | bytes):
        for value in raw:
            yield from secrets_in(value, name)
    elif isinstance(raw, str) and holds_secret(raw):
        yield name


def _in_authority(scheme: str, rest: str) -> bool:
    user, at, _ = rest.partition("@")
    if not at or scheme == "github":  # fsspec's: github://OWNER:REPOSITORY@BRANCH/PATH
        return False
    # A key of S3 may hold slashes, so the @ may stand behind one; a colon before it is then no port.
    before, slash, _ = user.partition("/")
    if slash and (before.startswith("[") or not re.search(r":(?!\d*$)", before)):
        return False
    return ":" in before or scheme in _USERS
