"""Settings of the loss: none without effect."""

import pytest

from ray_cxr.errors import InputError
from ray_cxr.job import load_job
from ray_cxr.loss.settings import LossSettings


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["loss.gamma=3"], "loss: gamma is 3, but only kind=focal uses it, not weighted_bce; leave it out"),
        (["loss.kind=focal", "loss.clip=0.1"], "loss: clip is 0.1, but only kind=asymmetric uses it, not focal"),
        (["loss.kind=bce", "loss.weights=none"], "loss: weights is 'none', but kind=bce says"),
        (["loss.kind=focal", "loss.gamma=-1"], "loss.gamma: got -1"),
    ],
)  # fmt: skip
def test_setting_without_effect_is_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_job(None, overrides)


@pytest.mark.parametrize("kind", ["weighted_bce", "bce", "focal", "asymmetric"])
def test_effective_settings_are_read_again(kind: str) -> None:
    settings = LossSettings(kind=kind)  # type: ignore[arg-type]
    assert LossSettings(**settings.model_dump()) == settings
    assert settings.balanced == (kind != "bce")
