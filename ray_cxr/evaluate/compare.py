"""Several models on the same films: figures side by side, and paired tests of every two.

Reads: `Entry` of each model. Gives: `Comparison`. The difference of two AUROCs is tested by DeLong's method for films that share
patients (`delong`), its interval comes from draws of patients in which both models are measured; p-values are adjusted over
findings and pairs together (Holm). Where a finding has too few patients (`testable`), its difference is shown and not tested. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ray_cxr.bootstrap import (
    Draws,
    Floats,
    area_draws,
    draw_patient_weights,
    interval,
    mean_of_draws,
    p_value,
)
from ray_cxr.errors import InputError
from ray_cxr.evaluate.compare_protocol import Entry, protocol_differences
from ray_cxr.evaluate.compare_result import NO_SPREAD, TOO_FEW, Comparison, Figure, Levels, Pair
from ray_cxr.evaluate.delong import delong_difference
from ray_cxr.evaluate.holm import holm
from ray_cxr.evaluate.inputs import Scored, in_means
from ray_cxr.evaluate.testable import FEWEST_PATIENTS, class_patients
from ray_cxr.metrics import auroc, average_precision, mean_measurable


def compare(
    entries: Sequence[Entry],
    draws: int = 2000,
    seed: int = 0,
    start: Callable[[str, int], None] = lambda what, count: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Comparison:
    """The models side by side with paired tests. InputError where they have no finding in common.

    start, advance: told how many findings there are to measure, and each that is.
    """
    findings = [f for f in entries[0].scored.findings if all(f in e.scored.findings for e in entries)]
    if not findings:
        listed = "; ".join(f"{e.name}: {', '.join(e.scored.findings)}" for e in entries)
        raise InputError(f"RUN: the models have no finding in common ({listed}).")
    common, unequal = _common(entries, findings)
    apart = unequal > 0 or any(len(e.scored) != len(common[0]) for e in entries)
    start("findings", (2 if apart else 1) * len(entries) * len(findings))
    patients = {f: class_patients(common[0].column(f)[0], common[0].units) for f in findings}
    tested = [f for f in findings if min(patients[f]) >= FEWEST_PATIENTS]
    mean_over = [f for f in tested if f in in_means(findings)]
    drawn = draw_patient_weights(common[0].units.tolist(), draws, seed)
    measured = [_Measured.of(s, drawn, advance) for s in common]
    own = (
        [_Measured.of(e.scored, _own_draws(e, draws, seed), advance, findings) for e in entries]
        if apart
        else None
    )
    of_all = [f for f in in_means(findings) if own and all(o.areas[f].value is not None for o in own)]
    return Comparison(
        list(entries), findings, [m.levels(mean_over) for m in measured], None if own is None else [o.levels(of_all) for o in own],
        _pairs(common, measured, tested, mean_over), common, mean_over,
        {f: counts for f, counts in patients.items() if f not in tested and min(counts)},
        common[0].clustered, unequal, protocol_differences(entries), draws, seed,
    )  # fmt: skip


def _own_draws(entry: Entry, draws: int, seed: int) -> Draws:
    return draw_patient_weights(entry.scored.units.tolist(), draws, seed)


def _common(entries: Sequence[Entry], findings: Sequence[str]) -> tuple[list[Scored], int]:
    """Each model's films that all have, in one order, with the findings of all and one set of labels, NaN where models
    disagree; and how many cells those are."""
    ids = entries[0].scored.image_ids
    for entry in entries[1:]:
        ids = ids[np.isin(ids, entry.scored.image_ids)]
    common = [e.scored.only(_positions(e.scored.image_ids, ids)) for e in entries]
    columns = [[s.findings.index(f) for f in findings] for s in common]
    tables = [s.labels[:, c] for s, c in zip(common, columns, strict=True)]
    labels = tables[0].copy()
    unequal = np.zeros(labels.shape, bool)
    for table in tables[1:]:
        unequal |= ~((labels == table) | (np.isnan(labels) & np.isnan(table)))
    labels[unequal] = np.nan
    patients = next((s.patient_ids for s in common if s.clustered), None)
    alike = [
        replace(s, findings=list(findings), labels=labels, scores=s.scores[:, c], patient_ids=patients)
        for s, c in zip(common, columns, strict=True)
    ]  # fmt: skip
    return alike, int(unequal.sum())


def _positions(ids: NDArray[np.object_], wanted: NDArray[np.object_]) -> NDArray[np.int64]:
    place = {image: n for n, image in enumerate(ids)}
    return np.array([place[image] for image in wanted], np.int64)


@dataclass(frozen=True)
class _Measured:
    """A model's figures by finding, and their draws [D] where it has any."""

    areas: dict[str, Figure]
    precisions: dict[str, Figure]
    area_draws: dict[str, Floats]
    precision_draws: dict[str, Floats]

    @classmethod
    def of(
        cls,
        scored: Scored,
        drawn: Draws,
        advance: Callable[[int], None],
        findings: Sequence[str] | None = None,
    ) -> _Measured:
        """Measures a model's findings (default all) in the sample and in each draw."""
        made = cls({}, {}, {}, {})
        for finding in findings or scored.findings:
            truth, score = scored.column(finding)
            area, precision = auroc(truth, score), average_precision(truth, score)
            made.areas[finding], made.precisions[finding] = Figure(area), Figure(precision)
            if area is not None:
                of_area, of_precision = area_draws(truth, score, drawn)
                made.area_draws[finding], made.precision_draws[finding] = of_area, of_precision
                made.areas[finding] = Figure(area, interval(of_area))
                made.precisions[finding] = Figure(precision, interval(of_precision))
            advance(1)
        return made

    def levels(self, mean_over: Sequence[str]) -> Levels:
        mean = Figure(None)
        if mean_over:
            value = mean_measurable({f: self.areas[f].value for f in mean_over})
            mean = Figure(value, interval(mean_of_draws([self.area_draws[f] for f in mean_over])))
        return Levels(self.areas, self.precisions, mean)


def _pairs(
    common: Sequence[Scored], measured: Sequence[_Measured], tested: Sequence[str], mean_over: Sequence[str]
) -> list[Pair]:
    """Every two models on every finding, then on the mean; p-values of the findings are adjusted together."""
    both = list(measured[0].area_draws)
    found, means = [], []
    for first, second in combinations(range(len(common)), 2):
        one, other = measured[first], measured[second]
        found += [_Paired(one, other, f).pair(first, second, common, enough=f in tested) for f in both]
        if mean_over:
            means.append(_mean_pair(first, second, [_Paired(one, other, f) for f in mean_over]))
    return [*_adjusted(found), *_adjusted(means)]


@dataclass(frozen=True)
class _Paired:
    """Two models on one finding, in the same draws."""

    one: _Measured
    other: _Measured
    finding: str

    @property
    def areas(self) -> Floats:
        """[D] first minus second."""
        return self.one.area_draws[self.finding] - self.other.area_draws[self.finding]

    @property
    def precisions(self) -> Floats:
        """[D] first minus second."""
        return self.one.precision_draws[self.finding] - self.other.precision_draws[self.finding]

    def values(self) -> tuple[float, float]:
        """AUROC and average precision of the first minus those of the second."""
        area, precision = (
            (mine[self.finding].value or 0.0) - (theirs[self.finding].value or 0.0)
            for mine, theirs in (
                (self.one.areas, self.other.areas),
                (self.one.precisions, self.other.precisions),
            )
        )
        return area, precision

    def pair(self, first: int, second: int, common: Sequence[Scored], *, enough: bool) -> Pair:
        """The two models' difference, with DeLong's p and an interval where there are enough patients."""
        area, precision = self.values()
        if not enough:
            return Pair(first, second, self.finding, Figure(area), Figure(precision), None, untested=TOO_FEW)
        truth, scores = common[first].column(self.finding)
        tested = delong_difference(
            truth, scores, common[second].column(self.finding)[1], common[0].units.tolist()
        )
        ends = interval(self.areas)
        p = tested.p if tested is not None and ends is not None else None
        return Pair(
            first, second, self.finding, Figure(area, ends if p is not None else None),
            Figure(precision, interval(self.precisions)), p, untested=NO_SPREAD if p is None else None,
        )  # fmt: skip


def _mean_pair(first: int, second: int, paired: Sequence[_Paired]) -> Pair:
    """The mean difference over findings; p from the draws, because the findings of a film are not independent."""
    areas, precisions = (
        mean_of_draws([p.areas for p in paired]),
        mean_of_draws([p.precisions for p in paired]),
    )
    area, precision = np.mean([p.values() for p in paired], axis=0).tolist()
    ends = interval(areas)
    return Pair(
        first, second, None, Figure(area, ends), Figure(precision, interval(precisions)),
        p_value(areas) if ends else None, untested=None if ends else NO_SPREAD,
    )  # fmt: skip


def _adjusted(pairs: Sequence[Pair]) -> list[Pair]:
    adjusted = holm(dict(enumerate(p.p for p in pairs)))
    return [replace(p, p_holm=adjusted[n]) for n, p in enumerate(pairs)]
