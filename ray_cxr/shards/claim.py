"""Who may write into a data set directory: only a preparation of ours, and never over films or foreign files.

Reads: the directory's names and the manifest that may lie there. Writes: `preparing.json`.
"""

from __future__ import annotations

from typing import Any

from ray_cxr.errors import InputError
from ray_cxr.shards.progress import Progress
from ray_cxr.shards.settings import Preparation
from ray_cxr.storage import Folder

BEGUN = "preparing.json"
"""There while a data set is made: what lies beside it is ours, and an interrupted preparation may go on."""


def claim(dataset: Folder, job: Preparation, progress: Progress) -> None:
    """Makes sure that nothing but a data set of ours is written over, and says what is replaced."""
    for source in job.source:
        for folder in getattr(source, "images", []):
            if (Folder(folder).url + "/").startswith((dataset.url + "/films/", dataset.url + "/shards/")):
                raise InputError(
                    f"dataset: {dataset.url} would be written over the films of source.images ({folder}); "
                    "give a directory of its own."
                )
    names = dataset.names()
    if names and "manifest.json" not in names and BEGUN not in names:
        raise InputError(
            f"dataset: {dataset.url} holds something that is no data set of ray-cxr; give a new or empty directory."
        )
    dataset.write_json(BEGUN, {"format": 1})
    if "manifest.json" in names:
        before = _settings_before(dataset)
        now = job.model_dump(mode="json", include=set(Preparation.model_fields))
        changed = [name for name in now if name != "dataset" and before.get(name) != now[name]]
        if changed:
            progress.say(
                f"the data set there was made with other settings ({', '.join(changed)}) and will be replaced; "
                "runs that were trained on it can then not be evaluated any more"
            )


def _settings_before(dataset: Folder) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = dataset.read_json("manifest.json")["settings"]
    except (ValueError, KeyError, TypeError):
        return {}
    return settings
