"""Everything that readers' tables give beside a test: agreement, consensus, who made the labels, the model beside them.

Pure: from answers, labels and scores of the same films in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ray_cxr.axes import Labels, Scores
from ray_cxr.bootstrap import Draws
from ray_cxr.errors import InputError
from ray_cxr.evaluate.agreement import agreement, self_agreement
from ray_cxr.evaluate.consensus import Consensus, Rule, consensus, differences, votes_of
from ray_cxr.evaluate.readers import Readings
from ray_cxr.evaluate.readers_reference import left_out, readers_behind, references
from ray_cxr.evaluate.readers_study import (
    Beside,
    Estimate,
    FindingStudy,
    MeanReader,
    beside_readers,
    with_margin,
)

ALL = "all"


@dataclass(frozen=True)
class ReaderOptions:
    """What a person decides about readers."""

    rule: Rule = field(default_factory=Rule)
    reference: tuple[str, ...] = ()
    """Names of the readers who made the reference labels; ("all",) for all, empty where nothing was said."""
    leave_one_out: bool = True
    margin: float | None = None
    """Of non-inferiority, in sensitivity (0..1); None = not tested."""
    names: bool = False
    """Whether readers go by their own names, not by numbers."""


@dataclass(frozen=True)
class ReaderResult:
    """What there is to say of the readers, and of the model beside them. Holds no id of a film or patient."""

    names: list[str]
    """R, as they are shown."""
    films_read: list[int]
    """[R] films that each reader answered."""
    films: int
    options: ReaderOptions
    agreement: dict[str, dict[str, Any]]
    self_agreement: dict[str, dict[str, int | float | None]]
    consensus: dict[str, dict[str, int]]
    """Finding → on how many films the consensus rests on what."""
    differences: dict[str, dict[str, int]] | None
    """Finding → that consensus (ours) against the labels given (theirs); None where no labels were given."""
    consensus_of: list[int]
    """Whose consensus that is, by number."""
    makers: list[int]
    """Who made the reference labels, by number; empty = nobody of them."""
    makers_known_by: str
    studies: list[FindingStudy]
    """Empty where there is no model."""
    curves: dict[str, tuple[Labels, Scores]]
    """Finding → labels [N] and scores [N] of the model's curve."""
    films_unread: int = 0
    """Films of the test that no reader read: they are no part of this."""
    films_without_test: int = 0
    """Films that were read but are not part of the test, or of the label table."""
    clustered: bool = True
    """Whether intervals are by patient; else by film."""

    def as_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        rule = self.options.rule
        return {
            "films": self.films, "films_unread": self.films_unread, "films_without_test": self.films_without_test,
            "intervals": "patients" if self.clustered else "films (image-level)",
            "readers": [{"name": n, "films": f} for n, f in zip(self.names, self.films_read, strict=True)],
            "rule": rule.as_dict() | {"sentence": rule.sentence()},
            "reference": {
                "made_by": [self.names[m] for m in self.makers], "known_by": self.makers_known_by,
                "leave_one_out": bool(self.makers) and bool(self.studies),
            },
            "agreement": {f: self._named(a) for f, a in self.agreement.items()},
            "self_agreement": self.self_agreement,
            "consensus": self.consensus,
            "consensus_of": [self.names[n] for n in self.consensus_of],
            "differences": self.differences,
            "model": {s.finding: self._study(s) for s in self.studies},
        }  # fmt: skip

    def _named(self, found: Mapping[str, Any]) -> dict[str, Any]:
        pairs = [
            p | {"first": self.names[p["first"]], "second": self.names[p["second"]]} for p in found["pairs"]
        ]
        return {**found, "pairs": pairs}

    def _study(self, study: FindingStudy) -> dict[str, Any]:
        return {
            "readers": [self._beside(r) for r in study.readers],
            "under_curve": study.under_curve,
            "measurable_readers": len(study.readers),
            "mean_reader": None if study.mean is None else _mean_dict(study.mean),
        }

    def _beside(self, reader: Beside) -> dict[str, Any]:
        figures = ("sensitivity", "specificity", "precision", "model_sensitivity", "difference")
        return {
            "name": self.names[reader.reader], "films": reader.films, "positives": reader.positives,
            "left_out_of_the_reference": reader.left_out, "under_curve": reader.under_curve,
            **{name: _estimate_dict(getattr(reader, name)) for name in figures},
        }  # fmt: skip


def make_consensus(readings: Readings, options: ReaderOptions, of: Sequence[int] = ()) -> Consensus:
    """The labels that these readers make, else those named, else all. InputError where the rule does not fit the findings."""
    rule = options.rule
    for name in rule.remainder or ():
        if name not in readings.findings:
            raise InputError(
                f"--remainder: {name!r} is no finding of the readers; they have {', '.join(readings.findings)}."
            )
    chosen = list(of) or _named_makers(readings, options) or list(range(len(readings.readers)))
    return consensus(readings.answers[:, chosen], readings.findings, rule, readings.definitive)


def shown_names(readings: Readings, options: ReaderOptions) -> list[str]:
    """The readers' names, or by default numbers in the order of their names."""
    if options.names:
        return readings.readers
    return [f"Reader {n + 1}" for n in range(len(readings.readers))]


def makers_shown(readings: Readings, options: ReaderOptions) -> list[str]:
    """Who makes the consensus of `make_consensus`."""
    shown = shown_names(readings, options)
    return [shown[n] for n in _named_makers(readings, options)] or shown


def study_readers(
    readings: Readings,
    findings: Sequence[str],
    labels: Labels | None,
    scores: Scores | None,
    options: ReaderOptions,
    draws: Draws,
    *,
    made_here: bool,
) -> ReaderResult:
    """Readers on N films, and beside them a model where there are scores [N, F] of its `findings`.

    labels: [N, F] of the same findings, or None. made_here: whether the labels are `make_consensus` of these readers.
    Raises RefusedError where readers would be measured against labels of their own.
    """
    names = shown_names(readings, options)
    votes = votes_of(readings.answers, options.rule.uncertain)
    shared = [f for f in findings if f in readings.findings]
    truth = None if labels is None else _widened(labels, findings, readings.findings)
    makers, known_by = _makers(readings, truth, options, made_here=made_here)
    # Beside a model, the consensus shown is that of who made the reference; alone, that of whom the user chose.
    of = (makers if scores is not None else ()) or _named_makers(readings, options) or range(len(names))
    own = make_consensus(readings, options, of)
    studies: list[FindingStudy] = []
    curves: dict[str, tuple[Labels, Scores]] = {}
    if scores is not None and truth is not None:
        against = references(
            truth, readings.answers, readings.findings, options.rule, makers,
            leave_one_out=options.leave_one_out, definitive=readings.definitive,
        )  # fmt: skip
        apart = left_out(makers, len(names))
        for finding in shared:
            column, score = readings.findings.index(finding), scores[:, list(findings).index(finding)]
            references_of = [None if a is None else a[:, column] for a in against]
            studies.append(beside_readers(finding, votes[:, :, column], score, references_of, apart, draws))
            curves[finding] = (truth[:, column], score)
    return ReaderResult(
        names=list(names),
        films_read=(~np.isnan(readings.answers)).any(axis=2).sum(axis=0).tolist(),
        films=len(readings.image_ids),
        options=options,
        agreement={f: agreement(votes[:, :, i], draws) for i, f in enumerate(readings.findings)},
        self_agreement={
            f: self_agreement(readings.read_twice[:, i], readings.same_again[:, i])
            for i, f in enumerate(readings.findings)
        },
        consensus=own.counts,
        differences=None
        if truth is None or made_here
        else _shared_differences(own.labels, truth, readings, shared),
        consensus_of=list(of),
        makers=makers,
        makers_known_by=known_by,
        studies=with_margin(studies, options.margin),
        curves=curves,
    )


def _widened(labels: Labels, findings: Sequence[str], wanted: Sequence[str]) -> Labels:
    """Labels [N, F] of `findings` as labels of the findings `wanted`, NaN where there are none."""
    out = np.full((len(labels), len(wanted)), np.nan, np.float32)
    for number, finding in enumerate(wanted):
        if finding in findings:
            out[:, number] = labels[:, list(findings).index(finding)]
    return out


def _shared_differences(
    ours: Labels, theirs: Labels, readings: Readings, shared: Sequence[str]
) -> dict[str, dict[str, int]]:
    table = differences(ours, theirs, readings.findings)
    return {finding: table[finding] for finding in shared}


def _named_makers(readings: Readings, options: ReaderOptions) -> list[int]:
    if options.reference == (ALL,):
        return list(range(len(readings.readers)))
    return sorted(readings.reader_numbers(options.reference))


def _makers(
    readings: Readings, labels: Labels | None, options: ReaderOptions, *, made_here: bool
) -> tuple[list[int], str]:
    """Who made the labels [N, F of the readers], and how that is known."""
    named = _named_makers(readings, options)
    if made_here:
        return named or list(range(len(readings.readers))), "the labels were made here"
    if named:
        return named, "named"
    if labels is None:
        return [], "there are no labels"
    found = readers_behind(labels, readings.answers, readings.findings, options.rule, readings.definitive)
    return (
        found,
        "found: the labels equal their consensus"
        if found
        else "taken as independent: no consensus of readers that was tried equals the labels",
    )


def _estimate_dict(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": list(estimate.interval) if estimate.interval else None}


def _mean_dict(mean: MeanReader) -> dict[str, Any]:
    return {
        "readers": mean.readers, "sensitivity": mean.sensitivity, "specificity": mean.specificity,
        "difference": _estimate_dict(mean.difference), "margin": mean.margin, "p": mean.p, "p_holm": mean.p_holm,
        "non_inferior": mean.non_inferior,
    }  # fmt: skip
