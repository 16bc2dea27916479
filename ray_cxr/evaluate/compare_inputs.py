"""What `compare` is given: runs that have been tested, or files of predictions with labels.

Reads: `predictions-test.parquet`, `metrics.json` and `config.yaml` of a run, or a table of predictions. Gives: `Entry`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ray_cxr.errors import InputError
from ray_cxr.evaluate.compare_protocol import Entry
from ray_cxr.evaluate.files import Called, read_scored
from ray_cxr.storage import Folder

SPLITS = ("test", "validation")
_STATED = ("protocol", "fingerprint")
"""Fields of `metrics.json`."""
_COUNTED = ("test_films", "test_patients")


def read_entries(
    places: Sequence[str], labels: str | None, patients: str | None, split: str = "test"
) -> list[Entry]:
    """An entry for each run directory or file of predictions, in their order, with names that differ.

    labels, patients: tables for the files; a run has its own. Raises InputError where something is missing.
    """
    if len(places) < 2:
        raise InputError(f"RUN: got {len(places)}; give two or more runs or files of predictions to compare.")
    if split not in SPLITS:
        raise InputError(f"--split: got {split!r}; allowed are {' and '.join(SPLITS)}.")
    names = _names(places)
    return [_entry(place, name, labels, patients, split) for place, name in zip(places, names, strict=True)]


def _entry(place: str, name: str, labels: str | None, patients: str | None, split: str) -> Entry:
    folder = Folder(place)
    if folder.fs.isdir(folder.path):
        return _run_entry(folder, name, split)
    scored = read_scored(place, labels, patients, Called(f"RUN {name!r}"))
    protocol = {"protocol": scored.protocol} if scored.protocol else {}
    return Entry(name, scored, protocol)


def _run_entry(run: Folder, name: str, split: str) -> Entry:
    table = f"predictions-{split}.parquet"
    if not run.exists("config.yaml"):
        raise InputError(
            f"RUN: {run} holds no run (no config.yaml); give the `out` of a training, or a file of predictions."
        )
    if not run.exists(table):
        todo = "ray-cxr evaluate" if split == "test" else "ray-cxr train"
        raise InputError(f"RUN: {run} has no {table}; run `{todo}` on it first.")
    metrics = _metrics(run, split)
    scored = read_scored(f"{run.url}/{table}", None, called=Called(f"RUN {name!r}"))
    config = yaml.safe_load(run.read_bytes("config.yaml"))
    protocol = {"split": split} | {k: metrics[k] for k in _STATED if metrics.get(k) is not None}
    details = _details(metrics.get("protocol_details") or {})
    stated = protocol | (details or _split_settings(config))
    return Entry(name, scored, stated, metrics.get("test_openings"), metrics.get("leak"))


def _details(found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is a table in itself, which follows from the fingerprint, and the counts, which follow from the films."""
    return {
        k: v for k, v in found.items() if v is not None and k not in _COUNTED and not isinstance(v, Mapping)
    }


def _metrics(run: Folder, split: str) -> dict[str, Any]:
    """`metrics.json` of this split; an evaluation has put that of the validation split aside."""
    for name in ("metrics.json", f"metrics-{split}.json"):
        if run.exists(name):
            metrics: dict[str, Any] = run.read_json(name)
            if metrics.get("split") == split:
                return metrics
    raise InputError(
        f"RUN: {run} has no metrics.json of the {split} split; run `ray-cxr evaluate` on it again."
    )


def _split_settings(config: Any) -> dict[str, Any]:
    """How the films were dealt out, by dotted setting: for results that hold no `protocol_details`."""
    settings = config.get("split") if isinstance(config, Mapping) else None
    return {f"split.{k}": v for k, v in settings.items()} if isinstance(settings, Mapping) else {}


def _names(places: Sequence[str]) -> list[str]:
    """The last part of each place; more parts where that would not tell them apart."""
    parts = [p.rstrip("/").split("/") for p in places]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    twice, times = Counter(places).most_common(1)[0]
    raise InputError(f"RUN: {twice!r} is given {times} times; give each run once.")
