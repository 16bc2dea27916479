"""Several models on the same films: figures side by side, and paired tests of every two.

Reads: `Entry` of each model. Gives: `Comparison`. The difference of two AUROCs is tested by DeLong's method for films that share
patients (`delong`), its interval comes from draws of patients in which both models are measured; p-values are adjusted over
findings and pairs together (Holm). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError
from ray_cxr.evaluate.bootstrap import Floats, area_draws, draw_patient_weights, interval, p_value
from ray_cxr.evaluate.compare_protocol import Entry, protocol_differences
from ray_cxr.evaluate.delong import delong_difference
from ray_cxr.evaluate.holm import holm
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.metrics import auroc, average_precision, mean_measurable


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; None = not measurable."""

    value: float | None
    interval: tuple[float, float] | None

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": list(self.interval) if self.interval else None}


@dataclass(frozen=True)
class Pair:
    """First minus second, on one finding (or the mean over findings, `finding` None)."""

    first: int
    second: int
    finding: str | None
    auroc: Figure
    average_precision: Figure
    p: float | None
    """Two-sided: clustered DeLong for a finding, bootstrap for the mean."""
    p_holm: float | None = None

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "first": names[self.first], "second": names[self.second], "finding": self.finding,
            "auroc_difference": self.auroc.as_dict(), "average_precision_difference": self.average_precision.as_dict(),
            "p": self.p, "p_holm": self.p_holm,
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Models side by side. Figures of a model are on its own films, tests on the films that all have in common."""

    entries: list[Entry]
    findings: list[str]
    auroc: list[dict[str, Figure]]
    average_precision: list[dict[str, Figure]]
    mean_auroc: list[Figure]
    """Over the findings that every model can be measured on."""
    pairs: list[Pair]
    common_films: int
    clustered: bool
    unequal_labels: int
    """Cells of common films whose labels differ between models; they are left out of the tests."""
    differences: dict[str, list[str]]
    """Field of the protocol → each model's value, where they differ."""
    draws: int
    seed: int

    @property
    def names(self) -> list[str]:
        return [e.name for e in self.entries]

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `comparison.json`."""
        return {
            "models": [
                {
                    "name": e.name, "films": len(e.scored), "patients": e.scored.patients, "protocol": e.protocol or None,
                    "test_openings": e.openings, "leak": e.leak, "mean_auroc": self.mean_auroc[n].as_dict(),
                    "auroc": {f: figure.as_dict() for f, figure in self.auroc[n].items()},
                    "average_precision": {f: figure.as_dict() for f, figure in self.average_precision[n].items()},
                }
                for n, e in enumerate(self.entries)
            ],
            "findings": self.findings,
            "pairs": [p.as_dict(self.names) for p in self.pairs],
            "common_films": self.common_films,
            "intervals": "patients" if self.clustered else "films (image-level)",
            "unequal_labels": self.unequal_labels,
            "protocol_differences": self.differences,
            "draws": self.draws,
            "seed": self.seed,
        }  # fmt: skip


def compare(
    entries: Sequence[Entry],
    draws: int = 2000,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> Comparison:
    """The models side by side with paired tests. InputError where they have no finding in common."""
    findings = [f for f in entries[0].scored.findings if all(f in e.scored.findings for e in entries)]
    if not findings:
        listed = "; ".join(f"{e.name}: {', '.join(e.scored.findings)}" for e in entries)
        raise InputError(f"RUN: the models have no finding in common ({listed}).")
    clustered = all(e.scored.clustered for e in entries)
    common, labels, unequal = _common(entries, findings)
    own = [_own_figures(e.scored, findings, draws, seed, advance) for e in entries]
    aurocs, precisions = [o[0] for o in own], [o[1] for o in own]
    pairs = _pairs(common, labels, findings, draws, seed, advance) if common and len(common[0]) else []
    measured = [f for f in findings if all(a[f].value is not None for a in aurocs)]
    return Comparison(
        list(entries), findings, aurocs, precisions, [_mean(o[2], aurocs[n], measured) for n, o in enumerate(own)],
        pairs, len(common[0]), clustered, unequal, protocol_differences(entries), draws, seed,
    )  # fmt: skip


def _common(entries: Sequence[Entry], findings: Sequence[str]) -> tuple[list[Scored], Labels, int]:
    """Each model's films that all have, in one order; their labels [N, F], NaN where models disagree; how many those are."""
    ids = entries[0].scored.image_ids
    for entry in entries[1:]:
        ids = ids[np.isin(ids, entry.scored.image_ids)]
    common = [e.scored.only(_positions(e.scored.image_ids, ids)) for e in entries]
    tables = [s.labels[:, [s.findings.index(f) for f in findings]] for s in common]
    labels = tables[0].copy()
    unequal = np.zeros(labels.shape, bool)
    for table in tables[1:]:
        unequal |= ~((labels == table) | (np.isnan(labels) & np.isnan(table)))
    labels[unequal] = np.nan
    return common, labels, int(unequal.sum())


def _positions(ids: NDArray[np.object_], wanted: NDArray[np.object_]) -> NDArray[np.int64]:
    place = {image: n for n, image in enumerate(ids)}
    return np.array([place[image] for image in wanted], np.int64)


def _own_figures(
    scored: Scored, findings: Sequence[str], draws: int, seed: int, advance: Callable[[int], None]
) -> tuple[dict[str, Figure], dict[str, Figure], dict[str, Floats]]:
    """AUROC and average precision by finding, and the AUROC's draws."""
    drawn = draw_patient_weights(scored.units.tolist(), draws, seed)
    areas, precisions, kept = {}, {}, {}
    for finding in findings:
        truth, score = scored.column(finding)
        area, precision = auroc(truth, score), average_precision(truth, score)
        areas[finding], precisions[finding] = Figure(area, None), Figure(precision, None)
        if area is not None:
            kept[finding], of_precision = area_draws(truth, score, drawn)
            areas[finding] = Figure(area, interval(kept[finding]))
            precisions[finding] = Figure(precision, interval(of_precision))
        advance(1)
    return areas, precisions, kept


def _mean(kept: dict[str, Floats], areas: dict[str, Figure], measured: Sequence[str]) -> Figure:
    if not measured:
        return Figure(None, None)
    value = mean_measurable({f: areas[f].value for f in measured})
    return Figure(value, interval(_mean_draws([kept[f] for f in measured])))


def _mean_draws(tables: Sequence[Floats]) -> Floats:
    """[D] mean over findings, of those that a draw can measure; NaN where it can measure none."""
    table = np.stack(tables)
    known = ~np.isnan(table)
    sums, counts = np.where(known, table, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))


def _pairs(
    common: Sequence[Scored],
    labels: Labels,
    findings: Sequence[str],
    draws: int,
    seed: int,
    advance: Callable[[int], None],
) -> list[Pair]:
    """Every two models on every finding, then on the mean; p-values of the findings are adjusted together."""
    units = common[0].units.tolist()
    drawn = draw_patient_weights(units, draws, seed)
    scores = [{f: s.column(f)[1] for f in findings} for s in common]
    both = [f for n, f in enumerate(findings) if len(np.unique(labels[~np.isnan(labels[:, n]), n])) == 2]
    truths = {f: labels[:, list(findings).index(f)] for f in both}
    areas: list[dict[str, tuple[Floats, Floats]]] = []
    for model in scores:
        areas.append({f: area_draws(truths[f], model[f], drawn) for f in both})
        advance(len(findings))
    found, means = [], []
    for first, second in combinations(range(len(common)), 2):
        one = [
            _pair(
                first,
                second,
                f,
                truths[f],
                scores[first][f],
                scores[second][f],
                areas[first][f],
                areas[second][f],
                units,
            )
            for f in both
        ]
        found += one
        if one:
            means.append(_mean_pair(one, areas[first], areas[second]))
    return [*_adjusted(found), *_adjusted(means)]


def _pair(
    first: int, second: int, finding: str, truth: Labels, one: Floats, other: Floats,
    one_areas: tuple[Floats, Floats], other_areas: tuple[Floats, Floats], units: Sequence[str],
) -> Pair:  # fmt: skip
    tested = delong_difference(truth, one, other, units)
    assert tested is not None, "both classes are there"
    known = ~np.isnan(truth)
    precision = [average_precision(truth[known], scores[known]) for scores in (one, other)]
    assert precision[0] is not None
    assert precision[1] is not None
    return Pair(
        first, second, finding,
        Figure(tested.difference, interval(one_areas[0] - other_areas[0])),
        Figure(precision[0] - precision[1], interval(one_areas[1] - other_areas[1])),
        tested.p,
    )  # fmt: skip


def _mean_pair(
    pairs: Sequence[Pair], one: dict[str, tuple[Floats, Floats]], other: dict[str, tuple[Floats, Floats]]
) -> Pair:
    """The mean difference over findings; p from the draws, because the findings of a film are not independent."""
    area, precision = (_mean_draws([one[f][number] - other[f][number] for f in one]) for number in (0, 1))
    return Pair(
        pairs[0].first, pairs[0].second, None,
        Figure(_mean_value([p.auroc for p in pairs]), interval(area)),
        Figure(_mean_value([p.average_precision for p in pairs]), interval(precision)),
        p_value(area),
    )  # fmt: skip


def _mean_value(figures: Sequence[Figure]) -> float | None:
    return mean_measurable({str(n): f.value for n, f in enumerate(figures)})


def _adjusted(pairs: Sequence[Pair]) -> list[Pair]:
    adjusted = holm(dict(enumerate(p.p for p in pairs)))
    return [
        Pair(p.first, p.second, p.finding, p.auroc, p.average_precision, p.p, adjusted[n])
        for n, p in enumerate(pairs)
    ]
