"""What is told of a backbone before it is chosen."""

import pytest

from ray_cxr.errors import InputError
from ray_cxr.model.backbones import describe


@pytest.mark.parametrize(
    ("name", "parameters", "macs", "smallest_px", "step_px", "stages"),
    [
        # Published: 1.81 G multiply-adds and 11.7 M parameters with a classifier of 1,000 (He et al., CVPR 2016),
        # so 986 × 513 fewer with one of 14.
        ("resnet18", 11_689_512 - 986 * 513, 1.81e9, 32, 1, 5),
        ("vit_tiny_patch16_224", 5_717_416 - 986 * 193, 1.26e9, 32, 16, 13),
        ("inception_v3", 23_834_568 - 986 * 2049, 5.71e9, 75, 1, 13),
    ],
)
def test_numbers_are_the_published_ones(
    name: str, parameters: int, macs: float, smallest_px: int, step_px: int, stages: int
) -> None:
    told = describe(name)
    assert told.parameters == parameters
    assert told.macs == pytest.approx(macs, rel=0.02)
    assert (told.smallest_px, told.step_px, len(told.stages)) == (smallest_px, step_px, stages)


def test_sizes_in_words() -> None:
    assert describe("test_vit").sizes() == "multiples of 16 from 32 px"
    assert describe("test_resnet").sizes() == "from 32 px"


def test_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="which is no timm model"):
        describe("densenet12")
