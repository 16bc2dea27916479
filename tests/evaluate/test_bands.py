"""Bands hold the curve they belong to, and are those of the draws one by one."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from ray_cxr.bootstrap import Draws, draw_patient_weights
from ray_cxr.evaluate.bands import GRID, curve_bands


def sample(films: int = 300) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(4)
    labels = (rng.random(films) < 0.3).astype(np.float32)
    return labels, np.round(rng.normal(size=films) + labels, 1), rng


def test_one_draw_of_each_film_once_gives_the_curves_themselves() -> None:
    labels, scores, _ = sample()
    once = Draws(np.ones((1, len(labels)), np.uint16), np.arange(len(labels)))
    roc, precision_recall = curve_bands(labels, scores, once)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert roc.low == pytest.approx([true[false <= x + 1e-12].max() for x in GRID])
    precision, recall, _ = precision_recall_curve(labels, scores)
    # Recall falls along the curve: the last point that still reaches it has the highest threshold.
    expected = [precision[np.flatnonzero(recall >= x - 1e-12)[-1]] for x in GRID[1:]]
    assert precision_recall.low[1:] == pytest.approx(expected)


def test_bands_lie_around_the_curve_and_narrow_with_more_films() -> None:
    widths = []
    for films in (300, 3000):
        labels, scores, rng = sample(films)
        draws = draw_patient_weights(rng.integers(0, films // 2, films).tolist(), 200, 0)
        roc, _ = curve_bands(labels, scores, draws)
        false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
        curve = np.array([true[false <= x + 1e-12].max() for x in GRID])
        assert (roc.low <= curve + 1e-9).all()
        assert (curve <= roc.high + 1e-9).all()
        widths.append((roc.high - roc.low).mean())
    assert widths[1] < 0.5 * widths[0]
