"""What two results must have in common before one may be called better: the films, their labels, and the protocol. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_cxr.errors import RefusedError
from ray_cxr.evaluate.inputs import Scored

NOT_STATED = "not stated"
_DIGEST = re.compile(r"[0-9a-f]{32,}")
_SHOWN_OF_DIGEST = 12


@dataclass(frozen=True)
class Entry:
    """A model's scored films, and the protocol that they stand under."""

    name: str
    scored: Scored
    protocol: dict[str, Any]
    """Field → value, None = not stated; empty where nobody stated one."""
    openings: int | None = None
    """How often its test split was opened; None where that is not counted."""
    leak: Mapping[str, Any] | None = None
    """The leak check of its data set; None where that is not known."""

    def stated(self, field: str) -> str:
        """A field of the protocol as a person reads it: fingerprints by their beginning."""
        value = self.protocol.get(field)
        text = NOT_STATED if value is None else str(value)
        return text[:_SHOWN_OF_DIGEST] if _DIGEST.fullmatch(text) else text


def protocol_differences(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Field → each model's value, for every field in which they differ; empty where results may be compared.

    A protocol that nobody stated is a difference only where films or labels differ, too: the same films with the same
    labels are the same test.
    """
    found = _film_differences(entries)
    stating = [e for e in entries if any(value is not None for value in e.protocol.values())]
    for field in dict.fromkeys(field for e in stating for field in e.protocol):
        if len({str(e.protocol.get(field)) for e in stating}) > 1:
            found[field] = [e.stated(field) for e in entries]
    if found and 0 < len(stating) < len(entries):
        found.setdefault("protocol", [e.stated("protocol") for e in entries])
    return found


def _film_differences(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The films, or where these are the same their labels, as a number with a digest that tells them apart."""
    films = [_digest(np.sort(e.scored.image_ids.astype(str))) for e in entries]
    if len(set(films)) > 1:
        return {"films": [f"{len(e.scored)} ({digest})" for e, digest in zip(entries, films, strict=True)]}
    labels = _label_digests(entries)
    return {"labels": labels} if len(set(labels)) > 1 else {}


def refuse_across(entries: Sequence[Entry]) -> None:
    """Raises RefusedError where the models were not tested alike, with a line for each field that differs."""
    found = protocol_differences(entries)
    if found:
        listed = "".join(f"\n  {field}: {' / '.join(values)}" for field, values in found.items())
        raise RefusedError(
            "these results stand under different protocols, so a difference may come from the test and not from the model; "
            "test the models alike, or add --across-protocols to set them side by side all the same. "
            f"What differs ({' / '.join(e.name for e in entries)}):{listed}"
        )


def _label_digests(entries: Sequence[Entry]) -> list[str]:
    """A digest of each model's labels, of the findings that all have, by film."""
    shared = sorted(set.intersection(*(set(e.scored.findings) for e in entries)))
    out = []
    for entry in entries:
        order = np.argsort(entry.scored.image_ids.astype(str))
        columns = [entry.scored.findings.index(f) for f in shared]
        table = np.nan_to_num(entry.scored.labels[order][:, columns], nan=-1)
        out.append(hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()[:8])
    return out


def _digest(ids: NDArray[np.str_]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:8]
