"""Settings of the loss stage."""

from __future__ import annotations

from typing import Literal

from ray_cxr.config import Settings


class LossSettings(Settings):
    """What training minimises."""

    kind: Literal["weighted_bce", "bce"] = "weighted_bce"
    """`weighted_bce`: positives and negatives of each finding weigh the same in sum; `bce`: every film the same."""
