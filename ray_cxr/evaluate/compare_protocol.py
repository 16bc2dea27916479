"""What two results must have in common before one may be called better: the films, their labels, and the protocol. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_cxr.errors import RefusedError
from ray_cxr.evaluate.inputs import Scored

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Entry:
    """A model's scored films, and the protocol that they stand under."""

    name: str
    scored: Scored
    protocol: dict[str, Any]
    """Field → value; empty where nobody stated one."""
    openings: int | None = None
    """How often its test split was opened; None where that is not counted."""
    leak: Mapping[str, Any] | None = None
    """The leak check of its data set; None where that is not known."""


def protocol_differences(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Field → each model's value, for every field in which they differ; empty where results may be compared.

    A protocol that nobody stated is a difference only where films or labels differ, too: the same films with the same
    labels are the same test.
    """
    fields = {"films": [_digest(np.sort(e.scored.image_ids.astype(str))) for e in entries]}
    if len(set(fields["films"])) == 1:
        fields["labels"] = _label_digests(entries)
    found = {}
    for name, values in fields.items():
        if len(set(values)) > 1:
            found[name] = [
                f"{len(e.scored)} ({v})" if name == "films" else v
                for e, v in zip(entries, values, strict=True)
            ]
    stated = [e.protocol for e in entries if e.protocol] if not found else [e.protocol for e in entries]
    for name in dict.fromkeys(name for protocol in stated for name in protocol):
        if len({str(protocol.get(name, NOT_STATED)) for protocol in stated}) > 1:
            found[name] = [str(e.protocol.get(name, NOT_STATED)) for e in entries]
    return found


def refuse_across(entries: Sequence[Entry]) -> None:
    """Raises RefusedError where the models were not tested alike, saying in which fields."""
    found = protocol_differences(entries)
    if found:
        said = "; ".join(f"{field}: {' / '.join(values)}" for field, values in found.items())
        raise RefusedError(
            f"these results stand under different protocols, so a difference may come from the test and not from the model "
            f"({said}); test the models alike, or add --across-protocols to set them side by side all the same."
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
