"""The figures of the reliability table, by hand."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from ray_cxr.storage import Folder

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def reliability() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    import reliability

    yield reliability
    sys.path.remove(str(BENCHMARKS))


def test_calibration_error_by_hand(reliability: ModuleType) -> None:
    """Ten bins of two films: one at 0.9 where half are positive, nine at 0.1 where none is."""
    scores = np.array([0.1] * 18 + [0.9] * 2)
    labels = np.array([0] * 18 + [0, 1], np.float32)
    assert reliability.calibration_error(labels, scores) == pytest.approx(0.9 * 0.1 + 0.1 * 0.4)
    assert reliability.curve(labels, scores)[-1] == pytest.approx([0.9, 0.5, 2])


def test_raw_and_shifted_scores_come_back_from_calibrated_ones(
    reliability: ModuleType, tmp_path: Path
) -> None:
    run = Folder(tmp_path)
    fit = {"shift": np.log(3), "slope": 2.0, "intercept": -1.0}
    run.write_json("metrics.json", {"split": "test", "probabilities": "calibrated"})
    run.write_json("best/model.json", {"findings": ["Mass"], "calibration": {"findings": {"Mass": fit}}})
    calibrated = 1 / (1 + np.exp(-(2.0 * (np.array([0.0, 2.0]) - np.log(3)) - 1.0)))  # of the logits 0 and 2
    pd.DataFrame({"prob_Mass": calibrated, "label_Mass": [0.0, 1.0]}).to_parquet(
        tmp_path / "predictions-test.parquet"
    )
    _, labels, ways = reliability.three_ways(run)
    raw, shifted, given = ways.values()
    assert raw[:, 0] == pytest.approx([0.5, 1 / (1 + np.exp(-2))])
    assert shifted[0, 0] == pytest.approx(0.25) and given[:, 0] == pytest.approx(calibrated)
    assert labels[:, 0].tolist() == [0, 1]
