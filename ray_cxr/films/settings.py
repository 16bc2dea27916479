"""Settings of the film stage; they stand under `shards` in a job, since the shards are what is seen of them."""

from __future__ import annotations

from typing import Literal, TypeAlias

Codec: TypeAlias = Literal["htj2k", "png", "jpeg"]
"""`htj2k` and `png` are lossless; `jpeg` (quality 95) is not, and the data set's manifest says so."""
