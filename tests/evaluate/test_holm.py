"""Holm's adjustment, against statsmodels and by hand."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from ray_cxr.evaluate.holm import holm


@pytest.mark.parametrize("seed", range(3))
def test_adjusted_as_by_statsmodels(seed: int) -> None:
    p_values = np.round(np.random.default_rng(seed).random(20) ** 3, 2).tolist()  # some of them equal
    expected = multipletests(p_values, method="holm")[1]
    assert list(holm(dict(enumerate(p_values))).values()) == pytest.approx(expected)


def test_by_hand() -> None:
    # 0.01 × 3; 0.02 × 2; 0.03 × 1 is less than the one before it.
    adjusted = holm({"Mass": 0.03, "Edema": 0.01, "Hernia": None, "Nodule": 0.02})
    assert adjusted == {"Mass": 0.04, "Edema": 0.03, "Hernia": None, "Nodule": 0.04}


def test_nothing_to_adjust() -> None:
    assert holm({}) == {}
    assert holm({"Mass": None}) == {"Mass": None}
