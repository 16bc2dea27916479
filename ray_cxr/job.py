"""A job: the settings of all stages together, as one YAML file holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ray_cxr.config import read_settings
from ray_cxr.shards.settings import Preparation
from ray_cxr.tune.settings import SearchRecipe


class Job(SearchRecipe, Preparation):
    """All settings. The defaults are the demonstration: drawn films, a small network, nothing to download."""


def load_job(path: str | Path | None, overrides: Sequence[str] = ()) -> Job:
    """The job of a YAML file (None: the defaults) with dotted overrides. Raises InputError."""
    return read_settings(Job, path, overrides)
