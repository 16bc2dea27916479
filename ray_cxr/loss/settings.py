"""Settings of the loss stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ray_cxr.config import Settings

_ONLY_FOR = {"gamma": "focal", "gamma_positive": "asymmetric", "gamma_negative": "asymmetric", "clip": "asymmetric"}  # fmt: skip


class LossSettings(Settings):
    """What training minimises."""

    kind: Literal["weighted_bce", "bce", "focal", "asymmetric"] = "weighted_bce"
    """`weighted_bce`: positives and negatives of each finding weigh the same in sum; `bce`: every film the same;
    `focal`: what is right already counts less (Lin et al. 2017); `asymmetric`: the same, more so for negatives (Ridnik
    et al. 2021)."""
    prevalence: Literal["effective", "raw"] = "effective"
    """Weights follow the labels as `stream.resampling` shows them (`effective`), so that imbalance is not corrected
    twice, or as the training films have them (`raw`); the same without resampling."""
    weights: Literal["balanced", "none"] = "balanced"
    """For `focal` and `asymmetric`: `balanced` weighs as `weighted_bce` does; `none` leaves it to the gammas."""
    gamma: float = Field(default=2.0, ge=0, le=10)
    """Of `focal`: exponent of 1 - p, p the probability of the right answer; 0 is `weighted_bce`."""
    gamma_positive: float = Field(default=1.0, ge=0, le=10)
    """Of `asymmetric`: the exponent for films with the finding."""
    gamma_negative: float = Field(default=4.0, ge=0, le=10)
    """Of `asymmetric`: the exponent for films without it."""
    clip: float = Field(default=0.05, ge=0, lt=1)
    """Of `asymmetric`: a negative that is given a probability below this costs nothing."""
    drop_unlearnable: bool = False
    """Leave out, and say so, findings of which the training films hold no positives or no negatives; else refused."""

    @property
    def balanced(self) -> bool:
        """Whether positives and negatives get weights of their own."""
        return self.kind == "weighted_bce" or (self.kind != "bce" and self.weights == "balanced")

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> LossSettings:
        for name, kind in _ONLY_FOR.items():
            if self.kind != kind and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is {getattr(self, name):g}, but only kind={kind} uses it, not {self.kind}; leave it out, "
                    f"or use loss.kind={kind}"
                )
        if self.weights == "none" and self.kind in ("weighted_bce", "bce"):
            raise ValueError(
                f"weights is 'none', but kind={self.kind} says whether there are weights; leave it out"
            )
        return self
