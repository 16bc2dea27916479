"""The tables of `teaching.py`: AUROC within folds, with intervals by patients, and differences on the same draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.bootstrap import Draws, draw_patient_weights, interval, weighted_auroc

DRAWS = 2000
REFERENCE = "reference"
Floats = NDArray[np.float64]
TITLES = {
    REFERENCE: "ImageNet weights, all layers tuned, one model for all findings, weighted loss",
    "none": "no pretrained weights",
    "half": "first half of the stages frozen",
    "head": "only the classifier tuned",
    "bce": "plain loss",
}


@dataclass(frozen=True)
class Figure:
    """Mean AUROC over findings in the sample, and in each draw [D]."""

    value: float
    draws: Floats


def render(results: dict[str, pd.DataFrame]) -> str:
    """The Markdown page: a table of variants over all findings, one of single findings."""
    reference = results[REFERENCE]
    findings = [c.removeprefix("prob_") for c in reference if str(c).startswith("prob_")]
    draws = draw_patient_weights(reference["patient_id"].tolist(), DRAWS, seed=0)
    lines = [
        f"{len(reference)} films of {reference['patient_id'].nunique()} patients, {reference['fold'].nunique()} of 5 folds. "
        f"AUROC by pairs of films of the same fold, 95 % intervals from {DRAWS} draws of patients.",
        "", "| | mean AUROC | difference to the first |", "|---|---|---|",
    ]  # fmt: skip
    whole = [v for v in results if not v.startswith("only ")]
    shared = [f for f in findings if all(f"prob_{f}" in results[v] for v in whole)]
    base = mean_auroc(reference, shared, draws)
    for variant in whole:
        lines.append(
            _row(
                TITLES[variant],
                mean_auroc(_aligned(results[variant], reference), shared, draws),
                base,
            )
        )
    single = [_single(v, results[v], reference, draws) for v in results if v.startswith("only ")]
    if single:
        lines += [
            "",
            "| finding | model for all findings | model of its own | difference |",
            "|---|---|---|---|",
            *single,
        ]
    return "\n".join(lines) + "\n"


def _row(title: str, figure: Figure, base: Figure) -> str:
    difference = (
        ""
        if figure is base or title == TITLES[REFERENCE]
        else _with_interval(figure.value - base.value, figure.draws - base.draws, sign=True)
    )
    return f"| {title} | {_with_interval(figure.value, figure.draws)} | {difference} |"


def _single(variant: str, table: pd.DataFrame, reference: pd.DataFrame, draws: Draws) -> str:
    finding = variant.removeprefix("only ")
    both, own = (mean_auroc(t, [finding], draws) for t in (reference, _aligned(table, reference)))
    cells = [_with_interval(f.value, f.draws) for f in (both, own)]
    return f"| {finding} | {' | '.join(cells)} | {_with_interval(own.value - both.value, own.draws - both.draws, sign=True)} |"


def _with_interval(value: float, draws: Floats, *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    bounds = interval(draws)
    return f"{value:{form}}" + (
        f" ({bounds[0]:{form}} to {bounds[1]:{form}})" if bounds else " (no interval)"
    )


def _aligned(table: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """The films in the reference's order. ValueError unless they are the same, in the same folds."""
    found = reference[["image_id", "fold"]].merge(
        table, on=["image_id", "fold"], how="left", validate="one_to_one"
    )
    if len(table) != len(reference) or found["patient_id"].isna().any():
        raise ValueError("the variants were not scored on the same films in the same folds")
    return found


def mean_auroc(table: pd.DataFrame, findings: list[str], draws: Draws) -> Figure:
    """Mean over findings of `auroc_within_folds`, in the sample and in each draw; findings without a figure are left out."""
    once = np.ones((1, len(table)))
    weights = np.concatenate([once, draws.weights(0, len(draws), np.arange(len(table)))])
    fold = table["fold"].to_numpy()
    rows = [
        auroc_within_folds(table[f"label_{f}"].to_numpy(), table[f"prob_{f}"].to_numpy(), fold, weights)
        for f in findings
    ]
    measurable = np.array([r for r in rows if not np.isnan(r[0])])
    # A draw without any positive of a rare finding has no figure for it; the mean is over those that it has.
    means = np.nanmean(measurable, axis=0)
    return Figure(float(means[0]), means[1:])


def auroc_within_folds(labels: Any, scores: Any, fold: NDArray[np.int64], weights: Floats) -> Floats:
    """Share of pairs (film with, film without the finding) of one fold that are ranked right, for each row of weights [D, N].

    Films of different folds are scored by different models, whose scores need not be on one scale, so they make no pair.
    A tie counts half, a film as often as it is drawn; NaN where there is no pair.
    """
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for number in np.unique(fold):
        films = (fold == number) & ~np.isnan(scores)
        truth, drawn = labels[films], weights[:, films]
        made = drawn[:, truth == 1].sum(1) * drawn[:, truth == 0].sum(1)
        share = weighted_auroc(truth, scores[films], drawn)
        right += np.where(made > 0, np.nan_to_num(share) * made, 0.0)
        pairs += made
    return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
