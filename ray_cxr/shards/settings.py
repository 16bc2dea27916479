"""Settings of the shard stage, and of all that `prepare` needs."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from ray_cxr.config import Settings
from ray_cxr.films.settings import Codec
from ray_cxr.labels.settings import PhantomSource, Source, Sources
from ray_cxr.splits.settings import SplitSettings

Engine: TypeAlias = Literal["auto", "threads", "ray"]


class ShardSettings(Settings):
    """How prepared films are stored."""

    image_px: int = Field(default=256, ge=32, le=2048)
    """Side of the stored square films in pixels; another value decodes all films again."""
    codec: Codec = "delta-zstd"
    """Codec of the stored films: `delta-zstd` is lossless and the quickest, `htj2k` is lossless and 7 % smaller, `png` is lossless and
    read by every program, `jpeg` (quality 95) is the smallest and changes pixels."""
    rows_per_group: int = Field(default=32, ge=1, le=4096)
    """Films per Parquet row group, the unit that the stream reads."""
    shard_mib: float = Field(default=64, gt=0, le=4096)
    """Size of a shard file in MiB, about."""
    engine: Engine = "auto"
    """What prepares films: `threads` of this process, `ray` on every core of the cluster, or `auto`: Ray in a cluster
    and for long work. The data set is the same."""
    check_space: bool = True
    """Refuse to begin where the estimate says that the disk is too small; false begins all the same."""


def _drawn_films() -> list[Source]:
    return [PhantomSource()]


class Preparation(Settings):
    """What `prepare` reads."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the split, of the order of films, of augmentation and of new layers."""
    dataset: str = Field(default="datasets/demo", min_length=1)
    """Directory of the prepared data set: a local path or a URL."""
    source: Sources = Field(default_factory=_drawn_films)
    """Where films and labels come from: one mapping or a list of them."""
    findings: list[str] | None = Field(default=None, min_length=1)
    """Findings in the order of the model's outputs; null: all that the sources label."""
    split: SplitSettings = SplitSettings()
    """How patients are dealt out."""
    shards: ShardSettings = ShardSettings()
    """How prepared films are stored."""

    def label_files(self) -> list[str]:
        """The files with the sources' label tables; a data set's own lists lie beside them."""
        return [source.labels for source in self.source if hasattr(source, "labels")]
