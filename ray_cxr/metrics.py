"""AUROC and average precision per finding, over labelled films only. A leaf: any stage may import it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Labels


def auroc(labels: NDArray[np.float32], scores: NDArray[np.float64]) -> float | None:
    """Area under the ROC curve of one finding, [N] labels (NaN = left out) and [N] scores; None if one class only."""
    known = ~np.isnan(labels)
    if len(np.unique(labels[known])) < 2:
        return None
    # Imported late: scikit-learn takes two seconds, which the first step of a training should not wait for.
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels[known], scores[known]))


def average_precision(labels: NDArray[np.float32], scores: NDArray[np.float64]) -> float | None:
    """Average precision of one finding, as `auroc`; None without positives or without negatives."""
    known = ~np.isnan(labels)
    if len(np.unique(labels[known])) < 2:
        return None
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels[known], scores[known]))


def mean_measurable(values: dict[str, float | None]) -> float | None:
    """Mean over the findings that can be measured; None if none can."""
    known = [v for v in values.values() if v is not None]
    return float(np.mean(known)) if known else None


def metrics_by_finding(
    labels: Labels,
    scores: NDArray[np.float64],
    findings: Sequence[str],
    in_means: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The figures of `metrics.json` from [N, F] labels and scores; null = not measurable, left out of means.

    in_means: the findings that means are over; None = all.
    """
    over = findings if in_means is None else in_means
    areas = {f: auroc(labels[:, i], scores[:, i]) for i, f in enumerate(findings)}
    precisions = {f: average_precision(labels[:, i], scores[:, i]) for i, f in enumerate(findings)}
    return {
        "mean_auroc": mean_measurable({f: areas[f] for f in over}),
        "auroc": areas,
        "mean_average_precision": mean_measurable({f: precisions[f] for f in over}),
        "average_precision": precisions,
        "positives": {f: int(np.nansum(labels[:, i])) for i, f in enumerate(findings)},
        "labelled": {f: int((~np.isnan(labels[:, i])).sum()) for i, f in enumerate(findings)},
        "films": len(labels),
    }
