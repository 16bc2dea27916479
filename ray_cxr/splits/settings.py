"""Settings of the split stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ray_cxr.config import Settings

Size = Annotated[float, Field(gt=0)]
"""A fraction of films (< 1) or a number of films (≥ 1)."""


class SplitSettings(Settings):
    """How patients are dealt out; every patient goes to one split only."""

    method: Literal["sampled"] = "sampled"
    """`sampled`: by patient, the test set first, then validation, training gets the rest."""
    test: Size = 0.2
    """Size of the test set: a fraction of films (< 1) or a number of films."""
    validation: Size = 0.1
    """Size of the validation set: a fraction of films (< 1) or a number of films."""
