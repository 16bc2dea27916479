"""Which files and folders a job names, and whether the cluster can see them.

A local path means one place on this machine and another, or none, on a node. So only URLs are sent, and paths below folders that
are said to be shared; on a cluster of this machine alone every path means the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ray_cxr.errors import InputError
from ray_cxr.job import Job
from ray_cxr.storage import Folder

COMMANDS: dict[str, tuple[str, ...]] = {
    "prepare": ("dataset", "source", "split"),
    "explore": ("dataset", "source", "split"),
    "train": ("dataset", "out", "model", "train"),
    "crossval": ("dataset", "out", "model", "train"),
    "tune": ("dataset", "out", "model", "train"),
}
"""Commands that a cluster runs, and the parts of a job whose files they read or write."""
_NAMED_WEIGHTS = ("none", "efficientnet-lite0", "imagenet")
"""As `model.sources.NAMED_WEIGHTS`, whose module takes seconds to import."""
_SQLITE = "sqlite:///"

Change = Callable[[str, str], str]
"""Setting and value → the value to put in its place."""


@dataclass(frozen=True)
class Place:
    """A file or folder that a setting names: an absolute path, or a URL."""

    setting: str
    value: str

    @property
    def is_local(self) -> bool:
        return Folder(self.value).is_local


def absolute(job: Job, command: str) -> tuple[Job, list[Place]]:
    """The job with absolute paths in place of relative ones, and the places that `command` reads or writes."""
    raw, found = job.model_dump(), list[Place]()

    def noted(setting: str, value: str) -> str:
        place = Place(setting, Folder(value).url)
        if setting.partition(".")[0] in COMMANDS[command]:
            found.append(place)
        return place.value

    change_places(raw, noted)
    return Job.model_validate(raw), found


def change_places(raw: dict[str, Any], change: Change) -> None:
    """Puts `change(setting, value)` in the place of every file and folder of a dumped job."""
    for name in ("dataset", "out"):
        raw[name] = change(name, raw[name])
    if raw["model"]["weights"] not in _NAMED_WEIGHTS:
        raw["model"]["weights"] = change("model.weights", raw["model"]["weights"])
    raw["train"]["mlflow"] = _changed_tracking(raw["train"]["mlflow"], change)
    lists = raw["split"]["lists"]
    for name, paths in lists.items():
        lists[name] = [change(f"split.lists.{name}", path) for path in paths]
    for number, source in enumerate(raw["source"]):
        above = f"source.{number}" if len(raw["source"]) > 1 else "source"
        if "images" in source:
            source["images"] = [change(f"{above}.images", path) for path in source["images"]]
        for name in ("labels", "patients", "pseudonym_key_file"):
            if isinstance(source.get(name), str):
                source[name] = change(f"{above}.{name}", source[name])


def _changed_tracking(uri: str | None, change: Change) -> str | None:
    """MLflow's address: a folder or a file of SQLite's is a place, a server is none."""
    if uri is None or uri.startswith(("http:", "https:", "databricks")):
        return uri
    prefix = _SQLITE if uri.startswith(_SQLITE) else ""
    return prefix + change("train.mlflow", uri.removeprefix(prefix))


def refuse_unseen(places: Iterable[Place], shared: Sequence[str], *, same_machine: bool) -> None:
    """Raises InputError where the cluster cannot see a place: a path that is not below a `shared` folder, or a memory."""
    unseen = dict[str, list[str]]()
    for place in places:
        if Folder(place.value).in_this_process:
            raise InputError(
                f"{place.setting}: {place.value} exists in one process only; give a place that all nodes see, as s3://bucket/…."
            )
        if place.is_local and not same_machine and not any(_below(place.value, folder) for folder in shared):
            unseen.setdefault(place.value, []).append(place.setting)
    if not unseen:
        return
    listed = "; ".join(f"{', '.join(dict.fromkeys(settings))}: {value}" for value, settings in unseen.items())
    raise InputError(
        f"{listed}: {'this lies' if len(unseen) == 1 else 'these lie'} on this machine, where the cluster's nodes cannot be known to see "
        "it; give places that all see, as s3://bucket/…, or --shared DIR for a folder that is mounted at the same path on every node."
    )


def _below(path: str, folder: str) -> bool:
    above = os.path.abspath(folder)
    return os.path.commonpath([path, above]) == above
