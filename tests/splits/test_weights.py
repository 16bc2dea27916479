"""Weights restore the natural prevalence: simulated over many seeds, held against its own standard error."""

from typing import Any

import numpy as np
import pytest

from ray_cxr.splits.deal import deal
from ray_cxr.splits.settings import SplitSettings
from tests.splits.conftest import FINDINGS, films_of


@pytest.mark.parametrize(
    ("wishes", "seeds"),
    [
        ({"minority_floor": 0.5, "target": "Mass"}, 60),
        pytest.param({"minority_floor": 0.5, "target": "Mass"}, 600, marks=pytest.mark.slow),
        pytest.param({"minority_floor": 0.6, "target": "any"}, 300, marks=pytest.mark.slow),
        pytest.param({"min_positives": 5}, 300, marks=pytest.mark.slow),
    ],
)
def test_weighted_counts_estimate_the_natural_ones_without_bias(wishes: dict[str, Any], seeds: int) -> None:
    films = films_of(400, seed=3, prevalence=(0.3, 0.12, 0.08))
    labels = np.column_stack([np.ones(len(films)), films[FINDINGS].to_numpy()])
    settings = SplitSettings(test=40, validation=30, folds=None, **wishes)
    estimates: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    raw = []
    for seed in range(seeds):
        dealt = deal(films, FINDINGS, settings, seed, {})
        for name, found in estimates.items():
            drawn = dealt.split == name
            found.append(dealt.weight[drawn] @ labels[drawn])
        raw.append(labels[dealt.split == "test"].mean(axis=0))
    natural = labels.sum(axis=0)
    for name, found in estimates.items():
        error = np.std(found, axis=0, ddof=1) / np.sqrt(seeds)
        assert (np.abs(np.mean(found, axis=0) - natural) <= 4 * error + 1e-9).all(), name
    # Without weights the prevalence is far off: the test can tell.
    assert np.abs(np.mean(raw, axis=0) - natural / len(films)).max() > 0.1
