"""The token that a cluster asks for: from the environment or from a file that only its owner can read.

In the order that Ray has: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token; a file given by name comes first. The token
goes into a header and nowhere else.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ray_cxr.errors import InputError, reason_of

VARIABLE, PATH_VARIABLE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Token:
    """A token, which no message and no `repr` shows, and where it came from."""

    value: str = field(repr=False)
    origin: str


def find_token(
    given: str | None = None, environment: Mapping[str, str] = os.environ, home: Path | None = None
) -> Token | None:
    """The token of the file `given`, of the environment, or of Ray's own file; None where there is none.

    Raises InputError where a file that was named is missing, and where others can read the file.
    """
    if given is not None:
        return _from_file(Path(given), "--token-file")
    if VARIABLE in environment:
        return _checked(environment[VARIABLE], VARIABLE)
    if environment.get(PATH_VARIABLE):
        return _from_file(Path(environment[PATH_VARIABLE]), PATH_VARIABLE)
    own = (home or Path.home()) / ".ray" / "auth_token"
    return _from_file(own, str(own)) if own.exists() else None


def _from_file(path: Path, origin: str) -> Token:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            raise InputError(
                f"{origin}: others can read the token in {str(path)!r} (its mode is {mode:04o}); run chmod 600 {path}, and make a "
                "new token if others use this machine."
            )
        return _checked(path.read_text(encoding="utf-8"), origin)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{origin}: the token file {str(path)!r} cannot be read ({reason_of(error)})."
        ) from None


def _checked(text: str, origin: str) -> Token:
    token = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        what = "holds more than one word" if token else "is empty"
        raise InputError(f"{origin}: the token {what}; it is one word, as the cluster was started with.")
    return Token(token, origin)
