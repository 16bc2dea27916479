"""Pseudonyms: patient and film ids as keyed hashes, so that a data set holds no id of a hospital.

Reads: a key from a file or the environment; it is never written anywhere. Without the key nobody can tell which id a
pseudonym stands for, nor try all ids until one fits; with the same key the same id has the same pseudonym, in
every data set (HMAC-SHA256, RFC 2104, cut to 80 bits: two of 10 million ids meet with a chance of 4e-11).
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterable

from ray_cxr.errors import InputError

KEY_VARIABLE = "RAY_CXR_PSEUDONYM_KEY"
SHORTEST_KEY = 32
_HEX_DIGITS = 20
_HOW = (
    f"`ray-cxr init` makes one, or set source.pseudonym_key_file to a file (or {KEY_VARIABLE} to a text) of "
    f"{SHORTEST_KEY} or more random characters, or source.pseudonymise to false if the ids may be stored as they are"
)


def read_key(key_file: str | None) -> bytes:
    """The key of the file, or without one that of the environment. InputError where there is none or it is weak."""
    if key_file is not None:
        where = f"source.pseudonym_key_file: {key_file!r}"
        try:
            with open(key_file, "rb") as file:
                key = file.read().strip()
        except OSError as error:
            raise InputError(f"{where} cannot be read ({error.strerror}); {_HOW}.") from None
    else:
        where = KEY_VARIABLE
        key = os.environ.get(KEY_VARIABLE, "").strip().encode()
        if not key:
            raise InputError(f"source.pseudonymise: there is no key to make pseudonyms with; {_HOW}.")
    if len(key) < SHORTEST_KEY or len(set(key)) < SHORTEST_KEY // 4:
        raise InputError(
            f"{where} holds a weak key; it needs {SHORTEST_KEY} or more random characters, such as "
            "`python -c 'import secrets; print(secrets.token_hex(32))'` prints."
        )
    return key


def readable_by_others(key_file: str) -> bool:
    """Whether other users of this machine may read the key."""
    return bool(os.stat(key_file).st_mode & 0o077)


def write_new_key(path: str) -> None:
    """Makes a random key for its owner's eyes only. FileExistsError if something is there already."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")


def pseudonyms(ids: Iterable[str], what: str, key: bytes) -> dict[str, str]:
    """id → pseudonym. `what` ("patient", "image") keeps equal ids of different things apart."""
    head = f"{what}\0"
    return {i: hmac.digest(key, (head + i).encode(), "sha256").hex()[:_HEX_DIGITS] for i in ids}
