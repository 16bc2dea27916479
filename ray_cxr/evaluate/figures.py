"""What the test says, whole: scored films → the contents of `metrics.json`, with the figures behind the report's plots.

Reads: `Scored` films of the test and, for thresholds, of the validation set. Gives: `Measured`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ray_cxr.axes import Labels, Scores
from ray_cxr.bootstrap import LEVEL, draw_patient_weights, interval, mean_interval
from ray_cxr.errors import InputError
from ray_cxr.evaluate.finding import FindingFigures, OneFinding, Shared, Weighted
from ray_cxr.evaluate.holm import holm
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.operating import (
    POINTS,
    RATES,
    Point,
    Rate,
    choose_points,
    class_counts,
    few_films_caution,
    missing_class,
    one_sided_cautions,
)
from ray_cxr.evaluate.parallel import all_findings
from ray_cxr.evaluate.reliability import COUNT_BINS, WHY_NO_ECE_INTERVAL, WIDTH_BINS, Reliability
from ray_cxr.evaluate.subgroups import DRAWS as SUBGROUP_DRAWS
from ray_cxr.evaluate.subgroups import groupings
from ray_cxr.evaluate.testable import FEWEST_PATIENTS
from ray_cxr.labels.names import canonical
from ray_cxr.metrics import mean_measurable, metrics_by_finding

NOT_PROBABILITIES = "the scores are no probabilities: some lie outside 0..1"
BY_PATIENT = "percentile bootstrap of patients"
BY_FILM = "percentile bootstrap of films (image-level: patients are not known)"


@dataclass(frozen=True)
class Choices:
    """What the user may choose of a test."""

    draws: int = 2000
    """Draws of the bootstrap."""
    seed: int = 0
    """Seed of the draws."""
    sensitivity: float = 0.9
    """Of the operating point with a fixed sensitivity, 0..1."""
    specificity: float = 0.9
    """Of the operating point with a fixed specificity, 0..1."""
    points_asked: bool = False
    """Whether operating points were asked for by name, so that it is an error where there can be none."""


@dataclass(frozen=True)
class Measured:
    """metrics: contents of `metrics.json`. by_finding: what the plots need; None = not measurable."""

    metrics: dict[str, Any]
    by_finding: dict[str, FindingFigures | None]


def measure(
    test: Scored,
    validation: Scored | str,
    choices: Choices,
    advance: Callable[[int], None] = lambda findings: None,
    workers: int | None = None,
) -> Measured:
    """All figures of the test films. `validation`: films to choose thresholds on, or the reason why there are none.

    workers: as in `parallel.all_findings`. Raises InputError where operating points were asked for and cannot be chosen.
    """
    points = _points(test, validation, choices)
    shared = _shared(test, choices)
    found = all_findings(
        [OneFinding(*test.column(f), points[f] if points else None) for f in test.findings],
        shared,
        advance,
        workers,
    )
    by_finding = dict(zip(test.findings, found, strict=True))
    metrics = {
        "split": "test",
        **metrics_by_finding(test.labels, test.scores, test.findings, test.in_means),
        "not_in_means": [f for f in test.findings if f not in test.in_means],
        "protocol": test.protocol,
        "patients": test.patients,
        "constant_scores": [f for f in test.findings if _is_constant(*test.column(f))],
        "intervals": _intervals(by_finding, test, choices),
        "operating_points": _operating_points(by_finding, points, test, validation, choices),
        "calibration": _calibration(by_finding, test),
        "natural_prevalence": _natural(by_finding, test),
        "subgroups": _subgroups(by_finding, shared, test),
        "input": test.origin,
    }
    return Measured(metrics, by_finding)


def _points(
    test: Scored, validation: Scored | str, choices: Choices
) -> dict[str, dict[str, Point] | None] | None:
    if isinstance(validation, str):
        if choices.points_asked:
            raise InputError(f"operating points (--sensitivity, --specificity): {validation}.")
        return None
    there = set(validation.findings)
    return {
        f: choose_points(*validation.column(f), choices.sensitivity, choices.specificity) if f in there else None
        for f in test.findings
    }  # fmt: skip


def _is_constant(labels: Labels, scores: Scores) -> bool:
    """Whether all labelled films have one score, so that it ranks nothing."""
    return len(np.unique(scores[~np.isnan(labels)])) == 1


def _shared(test: Scored, choices: Choices) -> Shared:
    draws = draw_patient_weights(test.units.tolist(), choices.draws, choices.seed)
    by_film = (
        draw_patient_weights(test.image_ids.tolist(), choices.draws, choices.seed) if test.clustered else None
    )
    units = draws.unit_of if test.clustered else None
    return Shared(draws, by_film, units, test.weights, groupings(test.groups), test.probabilities)


def _ends(ends: tuple[float, float] | None) -> list[float] | None:
    return None if ends is None else list(ends)


def _intervals(found: Mapping[str, FindingFigures | None], test: Scored, choices: Choices) -> dict[str, Any]:
    there = {f: g for f, g in found.items() if g is not None}
    image = {f: g.image_draws for f, g in there.items() if g.image_draws is not None}
    auroc = {f: _ends(interval(g.auroc_draws)) for f, g in there.items()}
    by_film = {f: _ends(interval(d)) for f, d in image.items()}
    return {
        "method": BY_PATIENT if test.clustered else BY_FILM,
        "clustered": test.clustered,
        "level": LEVEL,
        "draws": choices.draws,
        "seed": choices.seed,
        "mean_auroc": _ends(mean_interval([g.auroc_draws for f, g in there.items() if f in test.in_means])),
        "mean_average_precision": _ends(mean_interval([g.average_precision_draws for f, g in there.items() if f in test.in_means])),
        "auroc": _for_all(found, auroc),
        "average_precision": _for_all(found, {f: _ends(interval(g.average_precision_draws)) for f, g in there.items()}),
        "delong": {f: _ends(g.delong) if g else None for f, g in found.items()},
        "delong_clustered": {f: _ends(g.delong_clustered) if g else None for f, g in found.items()} if test.clustered else None,
        "image_level": {
            "mean_auroc": _ends(mean_interval([draws for f, draws in image.items() if f in test.in_means])),
            "auroc": _for_all(found, by_film),
            "narrower_by": narrower_by(auroc, by_film),
        } if test.clustered else None,
    }  # fmt: skip


def narrower_by(
    clustered: Mapping[str, Sequence[float] | None], by_film: Mapping[str, Sequence[float] | None]
) -> float | None:
    """By which part the image-level intervals are narrower than those by patient, median over findings; None without any."""
    parts = [
        1 - (film[1] - film[0]) / (patient[1] - patient[0])
        for patient, film in ((clustered[f], by_film.get(f)) for f in clustered)
        if patient is not None and film is not None and patient[1] > patient[0]
    ]
    return float(np.median(parts)) if parts else None


def _for_all(found: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    return {f: known.get(f) for f in found}


def _rate(rate: Rate) -> dict[str, Any]:
    return {"value": rate.value, "interval": _ends(rate.interval)}


def _operating_points(
    found: Mapping[str, FindingFigures | None],
    points: dict[str, dict[str, Point] | None] | None,
    test: Scored,
    validation: Scored | str,
    choices: Choices,
) -> dict[str, Any]:
    if points is None or isinstance(validation, str):
        return {"chosen_on": None, "reason": validation, "findings": None}
    table: dict[str, Any] = {}
    used: dict[str, dict[str, Point]] = {}
    for finding, figures in found.items():
        chosen = points[finding]
        if figures is None or figures.rates is None or chosen is None:
            table[finding] = None
            continue
        used[finding] = chosen
        table[finding] = {
            name: asdict(chosen[name]) | {rate: _rate(value) for rate, value in figures.rates[name].items()}
            for name in POINTS
        }
    counts = {f: class_counts(validation.column(f)[0]) for f in test.findings if f in validation.findings}
    few = few_films_caution({f: counts[f] for f in used})
    return {
        "chosen_on": {"films": len(validation), "patients": validation.patients},
        "reason": None,
        "fixed_sensitivity": choices.sensitivity,
        "fixed_specificity": choices.specificity,
        "findings": table,
        "mean": _mean_rates({f: p for f, p in table.items() if f in test.in_means}),
        "validation_films": counts,
        "not_chosen": {f: _why_none(f, test, validation, counts) for f, p in table.items() if p is None},
        "cautions": one_sided_cautions(used, {f: test.column(f) for f in used}) + ([few] if few else []),
    }


def _why_none(
    finding: str, test: Scored, validation: Scored, counts: Mapping[str, Mapping[str, int]]
) -> str | None:
    """Why a finding has no operating points."""
    if finding not in counts:
        scored = canonical(finding, validation.origin.get("scored_without_labels", []))
        return (
            "not scored in --validation-predictions"
            if scored is None
            else "not labelled for the validation films"
        )
    of_test = class_counts(test.column(finding)[0])
    return missing_class(counts[finding], "validation film") or missing_class(of_test, "test film")


def _mean_rates(table: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Point → rate → mean over the findings that have it."""
    return {
        name: {
            rate: mean_measurable({f: p[name][rate]["value"] for f, p in table.items() if p})
            for rate in RATES
        }
        for name in POINTS
    }


def _calibration(found: Mapping[str, FindingFigures | None], test: Scored) -> dict[str, Any]:
    if not test.probabilities:
        return {"reason": NOT_PROBABILITIES, "findings": None}
    table = {f: _reliability(g.reliability) if g and g.reliability else None for f, g in found.items()}
    return {
        "reason": None,
        "ece_bins": f"{WIDTH_BINS} of equal width",
        "ece_equal_count_bins": f"{COUNT_BINS} of equally many films",
        "ece_interval": None,
        "ece_interval_reason": WHY_NO_ECE_INTERVAL,
        "findings": table,
        "mean": {
            name: mean_measurable({f: t[name] for f, t in table.items() if t and f in test.in_means})
            for name in ("brier", "ece", "ece_equal_count")
        },
    }


def _reliability(r: Reliability) -> dict[str, Any]:
    return {
        "brier": r.brier,
        "brier_interval": _ends(r.brier_interval),
        "ece": r.ece,
        "ece_equal_count": r.ece_equal_count,
        "curve": [asdict(b) | {"interval": _ends(b.interval)} for b in r.bins],
    }


def _natural(found: Mapping[str, FindingFigures | None], test: Scored) -> dict[str, Any] | None:
    """The same figures with films counted by their sampling weights; None where all films count the same."""
    if test.weights is None:
        return None
    there: dict[str, Weighted] = {
        f: g.natural for f, g in found.items() if g is not None and g.natural is not None
    }
    return {
        "mean_auroc": mean_measurable({f: w.auroc for f, w in there.items() if f in test.in_means}),
        "mean_average_precision": mean_measurable({f: w.average_precision for f, w in there.items() if f in test.in_means}),
        "prevalence": {f: _prevalence(test, f) for f in found},
        "auroc": _for_all(found, {f: w.auroc for f, w in there.items()}),
        "average_precision": _for_all(found, {f: w.average_precision for f, w in there.items()}),
        "intervals": {
            "auroc": _for_all(found, {f: _ends(interval(w.auroc_draws)) for f, w in there.items()}),
            "average_precision": _for_all(found, {f: _ends(interval(w.average_precision_draws)) for f, w in there.items()}),
        },
        "operating_points": _for_all(found, {
            f: {name: {rate: _rate(r) for rate, r in rates.items()} for name, rates in w.rates.items()}
            for f, w in there.items() if w.rates is not None
        }),
        "calibration": _for_all(found, {f: _reliability(w.reliability) for f, w in there.items() if w.reliability}),
    }  # fmt: skip


def _prevalence(test: Scored, finding: str) -> float | None:
    assert test.weights is not None
    labels, _ = test.column(finding)
    known = ~np.isnan(labels)
    return float(np.average(labels[known], weights=test.weights[known])) if known.any() else None


def _subgroups(found: Mapping[str, FindingFigures | None], shared: Shared, test: Scored) -> dict[str, Any]:
    """Grouping → group → counts, and figures by finding; p-values adjusted over a grouping's groups and findings."""
    table: dict[str, Any] = {}
    for name, values in shared.grouped.items():
        tests = {
            (group, f): figures.p
            for f, g in found.items() if g is not None
            for group, figures in g.subgroups[name].items()
        }  # fmt: skip
        adjusted = holm(tests)
        table[name] = {
            group: {
                "films": int((values == group).sum()),
                "patients": None if test.patient_ids is None else len(pd.unique(test.patient_ids[values == group])),
                "findings": {
                    f: None if g is None else _group(g, name, group) | {"p_holm": adjusted[group, f]}
                    for f, g in found.items()
                },
            }
            for group in sorted({v for v in values if v is not None})
        }  # fmt: skip
    return {"smallest": FEWEST_PATIENTS, "draws": min(SUBGROUP_DRAWS, len(shared.draws)), "groupings": table}


def _group(figures: FindingFigures, grouping: str, group: str) -> dict[str, Any]:
    known = asdict(figures.subgroups[grouping][group])
    return known | {name: _ends(known[name]) for name in ("interval", "gap_interval")}
