"""Settings of the film stage; they stand under `shards` in a job, since the shards are what is seen of them."""

from __future__ import annotations

from typing import Literal, TypeAlias

Codec: TypeAlias = Literal["delta-zstd", "htj2k", "png", "jpeg"]
"""All are lossless but `jpeg` (quality 95), and the data set's manifest says so."""
