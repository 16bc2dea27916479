"""The protocol that a result stands under: how films were chosen, who labelled them, whether patients were shared. Pure.

It goes into `metrics.json` as `protocol_details`, whose names `compare` holds against those of another result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_cxr.storage import Folder

RULE_FILE = "consensus.json"
"""Beside a label table that readers made: how they made it."""

STATED_BY = "whoever ran this"
"""Of the protocol of somebody's predictions: nothing here can check it."""


def dataset_protocol(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run: what its data set's `manifest.json` says of sources, split and leak."""
    leak = manifest["leak_check"]
    test = manifest["splits"]["test"]
    return {
        "protocol": manifest["protocol"],
        "fingerprint": manifest["fingerprint"],
        "films_fingerprint": manifest["films_fingerprint"],
        "test_films": test["images"],
        "test_patients": test["patients"],
        "label_source": ", ".join(str(s["source"]) for s in manifest["sources"]),
        "consensus_rule": None,
        "shared_patients": leak["shared_patients"],
        **{f"split_{name}": value for name, value in manifest.get("protocol_details", {}).items()},
    }


def files_protocol(
    protocol: str | None, labels: str | None, films: int, patients: int | None
) -> dict[str, Any]:
    """Of somebody's predictions: what the user says, and how the label table was made where its rule lies beside it.

    labels: path of the table; None where the labels stand in the predictions.
    """
    folder, _, name = (labels or "").rpartition("/")
    rule = _rule_beside(Folder(folder or "."), name) if labels else None
    return {
        "protocol": protocol,
        "protocol_stated_by": None if protocol is None else STATED_BY,
        "fingerprint": None,
        "test_films": films,
        "test_patients": patients,
        "label_source": name or "the predictions' own columns",
        "consensus_rule": rule,
        "shared_patients": None,
    }


def _rule_beside(folder: Folder, name: str) -> str | None:
    """The sentence of the rule; it holds for the table called as the rule's own."""
    if name != RULE_FILE.replace(".json", ".csv") or not folder.exists(RULE_FILE):
        return None
    made = folder.read_json(RULE_FILE)
    return f"{len(made['readers'])} readers: {made['rule']['sentence']}"
