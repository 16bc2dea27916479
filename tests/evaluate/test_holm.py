"""Holm's adjustment, against statsmodels and by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from ray_cxr.evaluate.holm import holm


@settings(max_examples=12)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusted_as_by_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    assert list(holm(dict(enumerate(p_values))).values()) == pytest.approx(expected)


def test_by_hand() -> None:
    # 0.01 × 3; 0.02 × 2; 0.03 × 1 is less than the one before it.
    adjusted = holm({"Mass": 0.03, "Edema": 0.01, "Hernia": None, "Nodule": 0.02})
    assert adjusted == {"Mass": 0.04, "Edema": 0.03, "Hernia": None, "Nodule": 0.04}


def test_nothing_to_adjust() -> None:
    assert holm({}) == {}
    assert holm({"Mass": None}) == {"Mass": None}
