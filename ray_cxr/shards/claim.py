"""Who may write into a data set directory: one preparation of ours, and never over films or foreign files.

Reads: the directory's names and the manifest that may lie there. Writes: `preparing.json`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.shards.lock import Held, locked
from ray_cxr.shards.progress import Progress
from ray_cxr.shards.settings import Preparation
from ray_cxr.storage import Folder

BEGUN = "preparing.json"
"""There while a data set is made: what lies beside it is ours, and an interrupted preparation may go on."""


@contextmanager
def claimed(dataset: Folder, job: Preparation, progress: Progress) -> Iterator[Held]:
    """Makes sure that nothing but a data set of ours is written over, and by nobody else now.

    A preparation that is refused leaves no trace of its own where it made nothing.
    Raises InputError (not ours), RefusedError (another preparation is at work there).
    """
    _refuse_place_of_films(dataset, job)
    names = dataset.names()
    if names and "manifest.json" not in names and BEGUN not in names:
        raise InputError(
            f"dataset: {dataset.url} holds something that is no data set of ray-cxr; give a new or empty directory."
        )
    was_there = dataset.exists()
    try:
        with locked(dataset, BEGUN, progress.say, lambda: _is_begun(dataset)) as held:
            dataset.remove_unfinished()
            yield held
    except RayCxrError:
        if dataset.is_local and not was_there:
            with suppress(OSError):  # not empty: there is something to go on from
                os.rmdir(dataset.path)
        raise


def _is_begun(dataset: Folder) -> bool:
    """Whether there is a part of a data set, and not the whole of one."""
    names = set(dataset.names()) - {BEGUN}
    return bool(names) and "manifest.json" not in names


def tell_replacement(dataset: Folder, job: Preparation, progress: Progress) -> None:
    """Says which settings of the data set that is there are others, since it is about to be replaced."""
    changed = _changed_settings(dataset, job) if dataset.exists("manifest.json") else []
    if changed:
        progress.say(
            f"the data set there was made with other settings ({', '.join(changed)}) and will be replaced; "
            "runs that were trained on it can then not be evaluated any more"
        )


def _refuse_place_of_films(dataset: Folder, job: Preparation) -> None:
    for source in job.source:
        for folder in getattr(source, "images", None) or []:
            if (Folder(folder).url + "/").startswith((dataset.url + "/films/", dataset.url + "/shards/")):
                raise InputError(
                    f"dataset: {dataset.url} would be written over the films of source.images ({folder}); "
                    "give a directory of its own."
                )


def _changed_settings(dataset: Folder, job: Preparation) -> list[str]:
    """Names of the settings that differ from those of the data set that is there, and make another data set."""
    before, now = _settings_before(dataset), settings_of(job)
    return [name for name in now if name != "dataset" and before.get(name) != now[name]]


def settings_of(job: Preparation) -> dict[str, Any]:
    """The settings that a data set rests on, as its manifest keeps them: without how they were carried out."""
    settings = job.model_dump(mode="json", include=set(Preparation.model_fields))
    for name in ("engine", "check_space"):
        del settings["shards"][name]
    return settings


def _settings_before(dataset: Folder) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = dataset.read_json("manifest.json")["settings"]
    except (ValueError, KeyError, TypeError):
        return {}
    return settings
