"""Settings of the split stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ray_cxr.config import Settings


def _whole_above_one(size: float) -> float:
    if size >= 1 and size != int(size):
        raise ValueError(f"got {size:g}, but a number of films is whole, and a fraction of films is below 1")
    return size


Size = Annotated[float, Field(gt=0), AfterValidator(_whole_above_one)]
"""A fraction of films (< 1) or a number of films (≥ 1)."""


class SplitSettings(Settings):
    """How patients are dealt out; every patient goes to one split only."""

    method: Literal["sampled"] = "sampled"
    """`sampled`: by patient, the test set first, then validation, training gets the rest."""
    test: Size = 0.2
    """Size of the test set: a fraction of films (< 1) or a number of films."""
    validation: Size = 0.1
    """Size of the validation set: a fraction of films (< 1) or a number of films."""

    @model_validator(mode="after")
    def _leave_films_for_training(self) -> SplitSettings:
        if self.test < 1 and self.validation < 1 and self.test + self.validation >= 1:
            raise ValueError(
                f"test {self.test:g} and validation {self.validation:g} together leave no film for training"
            )
        return self
