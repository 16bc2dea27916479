"""Settings of the stream stage."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ray_cxr.config import Settings

_NO_FLIP = (
    "a chest film is never flipped left to right: the flipped film of a normal chest shows dextrocardia, a heart on "
    "the wrong side, under the label of a normal one; use stream.augmentation=chest-xray (rotation, shift, zoom, "
    "brightness, contrast)"
)


ANY = "any"
"""The target of a resampling that tells films with any finding from films with none."""


class StreamSettings(Settings):
    """How films reach the model."""

    image_px: int = Field(default=224, ge=32, le=2048)
    """Side in pixels of what the model sees; stored films are resampled to it."""
    augmentation: Literal["chest-xray", "none"] = "chest-xray"
    """`chest-xray`: small rotation, shift, zoom, brightness, contrast, drawn anew for every film and epoch."""
    augmentation_strength: float = Field(default=1.0, ge=0, le=3)
    """Factor on the ranges of all of these; 0 changes nothing."""
    augment_on: Literal["auto", "cpu", "device"] = "auto"
    """Where films are augmented: `cpu` film by film, `device` batch by batch, `auto` on a GPU where there is one."""
    normalisation: Literal["imagenet", "dataset", "none"] = "imagenet"
    """`imagenet`: mean and std the backbone was pretrained with; `dataset`: of the training films; `none`: 0..1."""
    resampling: Literal["none", "oversample", "undersample", "balanced", "class_aware"] = "none"
    """How often training films come: `none` once an epoch; `oversample` repeats the rarer class of `stream.target`,
    `undersample` takes fewer of the commoner one; `balanced` half and half in as many draws as films are labelled;
    `class_aware` each finding (and films with none) equally often."""
    target: str = Field(default=ANY, min_length=1)
    """The finding that resampling is about; `any`: films with any finding against films with none."""
    resampling_strength: float = Field(default=1.0, gt=0, le=1)
    """From 0, as the films are, to 1, classes equally often; for all kinds but `none` and `balanced`."""
    max_per_patient: int | None = Field(default=None, ge=1)
    """Most draws that an epoch makes of one patient's films, resampled or not; null: not limited."""
    cache: Literal["none", "node"] = "none"
    """`node`: each node keeps the decoded films in shared memory, for all its workers and trials."""
    shuffle_mib: int = Field(default=256, ge=1, le=1_048_576)
    """Memory in MiB for the encoded films that are shuffled together, over all workers of a training."""
    batch_size: int = Field(default=32, ge=1, le=65536)
    """Films per optimizer step, over all workers and micro-batches."""

    @model_validator(mode="before")
    @classmethod
    def _never_flip(cls, raw: Any) -> Any:
        """Whoever asks for a flip, under whatever name, is told why there is none."""
        if isinstance(raw, dict):
            asked = [*map(str, raw), str(raw.get("augmentation", ""))]
            if any(word in text.lower() for text in asked for word in ("flip", "mirror")):
                raise ValueError(_NO_FLIP)
        return raw
