"""What the out-of-fold predictions say: each fold's figures, their mean and spread, and those of all films together. Pure.

The mean over folds is the answer, since each fold is ranked by a model of its own and scores of two models need not
be on one scale: ranking films of different folds against each other can be wrong by that alone (Forman and Scholz, "Apples-to-apples in
cross-validation studies", SIGKDD Explorations 12(1), 2010; Airola et al., "An experimental comparison of cross-validation
techniques for estimating the area under the ROC curve", Computational Statistics & Data Analysis 55, 2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_cxr.bootstrap import LEVEL, area_draws, draw_patient_weights, interval
from ray_cxr.evaluate.figures import BY_PATIENT, Choices
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.metrics import mean_measurable, metrics_by_finding

MEASURES = ("auroc", "average_precision")


def cross_validation_metrics(scored: Scored, fold_of: NDArray[np.int64], choices: Choices) -> dict[str, Any]:
    """The figures of `metrics.json`. fold_of: [N] the fold of each film, 0..k-1; null = not measurable.

    Means over findings are of those that every fold can measure: with others in each fold, folds could not be compared.
    """
    folds = int(fold_of.max()) + 1
    by_fold = [_fold(scored.only(fold_of == k), k) for k in range(folds)]
    lacking = {
        f: unmeasured for f in scored.findings
        if (unmeasured := [e["fold"] for e in by_fold if e["auroc"][f] is None])
    }  # fmt: skip
    mean_over = [f for f in scored.in_means if f not in lacking]
    for entry in by_fold:
        entry |= {f"mean_{m}": mean_measurable({f: entry[m][f] for f in mean_over}) for m in MEASURES}
    return {
        "split": "out-of-fold",
        "folds": folds,
        "films": len(scored),
        "patients": scored.patients,
        **_over_folds(by_fold, scored.findings, _mean),
        "standard_deviation": _over_folds(by_fold, scored.findings, _deviation),
        "mean_over": mean_over,
        "not_in_means": [f for f in scored.findings if f not in scored.in_means],
        "not_measurable": {f: _why(scored, fold_of, f, of) for f, of in lacking.items()},
        "by_fold": by_fold,
        "pooled": _pooled(scored, choices),
        "positives": {f: sum(e["positives"][f] for e in by_fold) for f in scored.findings},
        "labelled": {f: sum(e["labelled"][f] for e in by_fold) for f in scored.findings},
    }


def _fold(scored: Scored, fold: int) -> dict[str, Any]:
    figures = metrics_by_finding(scored.labels, scored.scores, scored.findings)
    kept = ("films", "auroc", "average_precision", "positives", "labelled")
    return {"fold": fold, "patients": scored.patients} | {k: figures[k] for k in kept}


def _over_folds(by_fold: Sequence[Mapping[str, Any]], findings: Sequence[str], of: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for measure in MEASURES:
        found[f"mean_{measure}"] = of([e[f"mean_{measure}"] for e in by_fold])
        found[measure] = {f: of([e[measure][f] for e in by_fold]) for f in findings}
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """Over the folds that can measure it."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _deviation(values: Sequence[float | None]) -> float | None:
    """Standard deviation over the folds that can measure it (n - 1 in the denominator); None for fewer than two."""
    known = [v for v in values if v is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def _why(scored: Scored, fold_of: NDArray[np.int64], finding: str, folds: Sequence[int]) -> str:
    """Which folds cannot measure a finding, and what they lack."""
    labels, _ = scored.column(finding)
    lacking: dict[str, list[int]] = {}
    for fold in folds:
        values = labels[fold_of == fold]
        what = "no labelled film" if np.isnan(values).all() else (
            "no positive film" if not (values == 1).any() else "no negative film"
        )  # fmt: skip
        lacking.setdefault(what, []).append(fold)
    return "; ".join(f"{what} in {_fold_words(of)}" for what, of in lacking.items())


def _fold_words(folds: Sequence[int]) -> str:
    *most, last = map(str, folds)
    return f"folds {', '.join(most)} and {last}" if most else f"fold {last}"


def _pooled(scored: Scored, choices: Choices) -> dict[str, Any]:
    """All films in one ranking, as `evaluate --predictions` gives it, with intervals by patient."""
    figures = metrics_by_finding(scored.labels, scored.scores, scored.findings, scored.in_means)
    draws = draw_patient_weights(scored.units.tolist(), choices.draws, choices.seed)
    intervals: dict[str, dict[str, list[float] | None]] = {measure: {} for measure in MEASURES}
    for finding in scored.findings:
        areas = area_draws(*scored.column(finding), draws) if figures["auroc"][finding] is not None else None
        for number, measure in enumerate(MEASURES):
            ends = None if areas is None else interval(areas[number])
            intervals[measure][finding] = None if ends is None else list(ends)
    kept = ("mean_auroc", "auroc", "mean_average_precision", "average_precision")
    method = {"method": BY_PATIENT, "level": LEVEL, "draws": choices.draws, "seed": choices.seed}
    return {k: figures[k] for k in kept} | {"intervals": method | intervals}
