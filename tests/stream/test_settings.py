"""Settings of the stream: nothing that flips."""

import pytest
from pydantic import ValidationError

from ray_cxr.stream.settings import StreamSettings


@pytest.mark.parametrize(
    "raw",
    [{"flip": True}, {"horizontal_flip": 0.5}, {"FlipLR": False}, {"mirror": True}, {"augmentation": "hflip"},
     {"augmentation": ["chest-xray", "flip"]}, {"augmentation": {"mirror": 1}}],
)  # fmt: skip
def test_whoever_asks_for_a_flip_is_told_why_there_is_none(raw: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="never flipped left to right: .*dextrocardia"):
        StreamSettings.model_validate(raw)


def test_defaults_augment_without_a_flip() -> None:
    settings = StreamSettings()
    assert (settings.augmentation, settings.resampling, settings.image_px) == ("chest-xray", "none", 224)
    assert StreamSettings.model_validate(settings) == settings


@pytest.mark.parametrize(
    "raw", [{"image_px": 31}, {"image_px": 4096}, {"batch_size": 0}, {"augmentation": "cutmix"}]
)
def test_values_out_of_range_are_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StreamSettings.model_validate(raw)
