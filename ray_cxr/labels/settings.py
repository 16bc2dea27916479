"""Settings of the label stage: where films and labels come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ray_cxr.config import Settings


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class PhantomSource(Settings):
    """Drawn chest radiographs: no data, no network; for demonstrations and tests."""

    kind: Literal["phantom"] = "phantom"
    """Which kind of source this is."""
    patients: int = Field(default=900, ge=4, le=1_000_000)
    """Number of drawn patients; each has about two films."""
    drawing_seed: int = Field(default=0, ge=0)
    """Seed of the drawing; the job's `seed` governs only splits and training."""
    max_refused: float = Field(default=0.0, ge=0, le=1)
    """Fraction of films that may be refused before `prepare` stops."""


class NihSource(Settings):
    """NIH ChestX-ray14: its Data_Entry table (both published vintages) and folders of films."""

    kind: Literal["nih"] = "nih"
    """Which kind of source this is."""
    images: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
    """Folder or list of folders with the films, searched with everything below them."""
    labels: str
    """The Data_Entry CSV, plain or .gz; rows without a film are counted and left out."""
    views: Annotated[list[Literal["PA", "AP"]], Field(min_length=1)] | None = None
    """Keep only films of these view positions; all when null."""
    max_refused: float = Field(default=0.01, ge=0, le=1)
    """Fraction of films that may be refused (unreadable, too large) before `prepare` stops."""


Source = Annotated[PhantomSource | NihSource, Field(discriminator="kind")]


def _as_sources(value: Any) -> Any:
    return [value] if isinstance(value, (dict, Settings)) else value


Sources = Annotated[list[Source], BeforeValidator(_as_sources), Field(min_length=1)]
"""One source or a list of them."""
