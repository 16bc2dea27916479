"""Sections on readers: how far they agree, what their consensus rests on, and the model beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_cxr.evaluate.readers_result import ReaderResult
from ray_cxr.evaluate.readers_study import FEWEST, Beside, Estimate, FindingStudy
from ray_cxr.evaluate.testable import FEWEST_PATIENTS
from ray_cxr.metrics import auroc, average_precision
from ray_cxr.report.blocks import Block, Fold, HeatCell, HeatTable, Plot, Section, Table, Text
from ray_cxr.report.figures import precision_at
from ray_cxr.report.reader_figures import (
    matched_curves,
    model_curves,
    reader_precision_figure,
    reader_roc_figure,
)
from ray_cxr.report.words import NOT_MEASURABLE, count_text, p_text

_MOST_IN_MATRIX = 12


def reader_sections(result: ReaderResult) -> list[Section]:
    """The sections that a report on readers has: agreement, consensus, and where there is a model, both beside each other."""
    sections = [agreement_section(result), consensus_section(result)]
    if result.studies:
        sections.append(beside_section(result))
    return sections


def agreement_section(result: ReaderResult) -> Section:
    """Agreement by finding, each reader's films, and the kappa of every two."""
    readers = count_text(len(result.names), "reader")
    blocks: list[Block] = [
        Text(
            f"{readers} answered for {count_text(result.films, 'film')}; {_read_sentence(result)}{_left_out(result)}"
        ),
        Table(
            "Agreement by finding, with 95 % intervals",
            [
                "Finding",
                "Films",
                "Pairs that agree",
                "… on a yes",
                "Fleiss' κ",
                "Krippendorff's α",
                "Mean Cohen's κ",
            ],
            [_agreement_row(finding, found) for finding, found in result.agreement.items()],
        ),
        Text(_agreement_note(result), "muted"),
    ]
    twice = [
        [f, str(s["read_twice"]), str(s["same_answer"]), _share(s["share"])]
        for f, s in result.self_agreement.items()
        if s["read_twice"]
    ]
    if twice:
        blocks.append(
            Table("Films that a reader answered twice", ["Finding", "Twice", "Same answer", "Share"], twice)
        )
    if 1 < len(result.names) <= _MOST_IN_MATRIX:
        blocks.append(Fold("Cohen's κ of every two readers", _pair_table(result)))
    return Section("agreement", "Agreement of readers", blocks)


def _read_sentence(result: ReaderResult) -> str:
    fewest, most = min(result.films_read), max(result.films_read)
    if fewest == most:
        return f"each read {fewest:,} films." if fewest < result.films else "each read them all."
    return f"the number of films that one read goes from {fewest:,} to {most:,}."


def _left_out(result: ReaderResult) -> str:
    unread = (
        f" {count_text(result.films_unread, 'film')} of the test that nobody read are no part of this."
        if result.films_unread
        else ""
    )
    apart = result.films_without_test
    return unread + (
        f" {count_text(apart, 'film')} that were read are not among those tested or labelled, and left out."
        if apart
        else ""
    )


def _agreement_row(finding: str, found: Mapping[str, Any]) -> list[str]:
    cohen = found["mean_cohen"]
    mean = (
        f"{cohen['value']:.2f} ({count_text(cohen['pairs'], 'pair')})" if cohen["pairs"] else NOT_MEASURABLE
    )
    return [
        finding, f"{found['observed']['films']:,}", _share_figure(found["observed"]), _share_figure(found["positive"]),
        _figure(found["fleiss"]), _figure(found["krippendorff"]), mean,
    ]  # fmt: skip


def _agreement_note(result: ReaderResult) -> str:
    partial = [
        f
        for f, found in result.agreement.items()
        if found["fleiss"]["films"] < found["krippendorff"]["films"]
    ]
    fleiss = (
        "Fleiss' κ is over the films with the commonest number of answers, Krippendorff's α over all films with two or more. "
        if partial
        else ""
    )
    return (
        "κ and α are 1 where readers always agree and 0 where they agree as often as by chance; for a rare finding they are low "
        "even when readers nearly always agree, so look at the pairs that agree on a yes. "
        f"{fleiss}An uncertain answer {_uncertain_words(result)}. Intervals by drawing {'patients' if result.clustered else 'films, because patients are not known'}."
    )


def _uncertain_words(result: ReaderResult) -> str:
    return {"positive": "counts as a yes", "negative": "counts as a no", "exclude": "is left out"}[
        result.options.rule.uncertain
    ]


def _pair_table(result: ReaderResult) -> HeatTable:
    findings = list(result.agreement)
    kappas = {
        (p["first"], p["second"], finding): p["kappa"]
        for finding in findings
        for p in result.agreement[finding]["pairs"]
    }
    rows = []
    for first, second in sorted({(first, second) for first, second, _ in kappas}):
        cells = []
        for finding in findings:
            kappa = kappas.get((first, second, finding), {"value": None})
            value = kappa["value"]
            cells.append(
                HeatCell("–", 0.0)
                if value is None
                else HeatCell(f"{value:.2f}".replace("-", "−"), max(0.0, min(1.0, value)))
            )
        rows.append((f"{result.names[first]}, {result.names[second]}", cells))
    return HeatTable("Cohen's κ", findings, rows)


def consensus_section(result: ReaderResult) -> Section:
    """What the labels of the consensus rest on, and where they differ from labels that were given."""
    chosen = [result.names[n] for n in result.consensus_of]
    of = f"of {', '.join(chosen)}: " if len(chosen) < len(result.names) else ""
    definitive = any(c["definitive"] for c in result.consensus.values())
    names = {
        "unanimous": "All agree", "split": "Majority", "tie": "Tie", "single": "One vote",
        "uncertain": "Uncertain only", "unread": "Unread",
    } | ({"definitive": "Definitive test"} if definitive else {})  # fmt: skip
    blocks: list[Block] = [
        Text(f"Rule: {of}{result.options.rule.sentence()}."),
        Table(
            "What the consensus rests on (films)",
            ["Finding", *names.values()],
            [[f, *(f"{counts[n]:,}" for n in names)] for f, counts in result.consensus.items()],
        ),
    ]
    if result.differences is not None:
        blocks += _difference_blocks(result.differences)
        if result.makers and not result.studies:
            blocks.append(
                Text(
                    f"The labels given were made by {', '.join(result.names[m] for m in result.makers)} ({result.makers_known_by})."
                )
            )
    return Section("consensus", "Consensus of readers", blocks)


def _difference_blocks(table: Mapping[str, Mapping[str, int]]) -> list[Block]:
    columns = {
        "both_positive": "Both yes", "both_negative": "Both no", "only_ours": "Consensus yes, label no",
        "only_theirs": "Consensus no, label yes", "undecided_positive": "No consensus, label yes",
        "undecided_negative": "No consensus, label no",
    }  # fmt: skip
    compared = sum(
        c[n] for c in table.values() for n in ("both_positive", "both_negative", "only_ours", "only_theirs")
    )
    apart = sum(c["only_ours"] + c["only_theirs"] for c in table.values())
    share = f" ({apart / compared:.1%} of {compared:,})" if compared else ""
    return [
        Text(f"The consensus and the labels given differ in {apart:,} cells{share}."),
        Table(
            "Consensus of the readers against the labels given (films)",
            ["Finding", *columns.values()],
            [[f, *(f"{counts[n]:,}" for n in columns)] for f, counts in table.items()],
        ),
    ]


def beside_section(result: ReaderResult) -> Section:
    """The model's curves with each reader's point, and the figures that say who is above whom."""
    rows = [_study_row(result, study) for study in result.studies if study.readers]
    columns = [
        "Finding",
        "Readers under the curve",
        "Mean reader: sensitivity",
        "… specificity",
        "Model − mean reader",
    ]
    if result.options.margin is not None:
        columns.append(f"Non-inferior (margin {result.options.margin:g})")
    blocks: list[Block] = [
        Text(reference_sentence(result)),
        Table("The model beside the readers", columns, rows),
    ]
    blocks.append(Text(_beside_note(result), "muted"))
    for number, study in enumerate(result.studies):
        blocks += _finding_blocks(result, study, number)
    return Section("readers", "The model beside readers", blocks)


def reference_sentence(result: ReaderResult) -> str:
    """Who made the labels that all are measured against, and what follows."""
    makers = [result.names[m] for m in result.makers]
    if not makers:
        return (
            f"The labels are {result.makers_known_by}. Readers and model are measured against the same labels, each reader "
            "on the films that he answered and the model on the same films."
        )
    others = "Each of them" if len(makers) < len(result.names) else "Each reader"
    return (
        f"The reference labels were made by {', '.join(makers)} ({result.makers_known_by}). {others} is held against the "
        "consensus of the others, because measuring a reader against labels of his own flatters him, and so is the model "
        "where it is compared with him. Films on which the others do not agree by the rule are left out for him."
    )


def _beside_note(result: ReaderResult) -> str:
    tested = (
        f"Non-inferior: the mean difference lies above −{result.options.margin:g}, one-sided at 2.5 %, adjusted over findings (Holm); "
        f"not tested where a reader has fewer than {FEWEST_PATIENTS} positive or negative {'patients' if result.clustered else 'films'}. "
        if result.options.margin is not None
        else "No margin was stated, so non-inferiority was not tested (--margin). "
    )
    return (
        "The difference is the model's sensitivity at a reader's specificity, on its ROC curve, less the reader's sensitivity, "
        f"averaged over the readers with at least {FEWEST} positive and {FEWEST} negative films; the threshold is chosen on these films, for each "
        f"reader. {tested}Patients are drawn for the intervals, readers are not: what is found holds for these readers."
    )


def _study_row(result: ReaderResult, study: FindingStudy) -> list[str]:
    row = [study.finding, f"{study.under_curve} of {len(study.readers)}"]
    if study.mean is None:
        return [*row, f"{NOT_MEASURABLE}: no reader with {FEWEST} positive and {FEWEST} negative films"]
    row += [f"{study.mean.sensitivity:.1%}", f"{study.mean.specificity:.1%}", _signed(study.mean.difference)]
    if result.options.margin is not None:
        p = "" if study.mean.p_holm is None else f" ({p_text(study.mean.p_holm)})"
        verdict = {True: "yes", False: "not shown", None: "not tested"}[study.mean.non_inferior]
        row.append(verdict + p)
    return row


def _finding_blocks(result: ReaderResult, study: FindingStudy, number: int) -> list[Block]:
    labels, scores = result.curves[study.finding]
    area, precision = auroc(labels, scores), average_precision(labels, scores)
    if not study.readers or area is None or precision is None:
        return [
            Text(
                f"{study.finding}: {NOT_MEASURABLE}, because no reader has positive and negative films.",
                "muted",
            )
        ]
    roc, recall = model_curves(study.finding, labels, scores, area, precision)
    names = result.names
    points = Table(
        f"{study.finding}: the model at the specificity of each reader",
        ["Reader", "Model − reader", "Sensitivity", "Specificity", "Model's sensitivity there", "Films"],
        [_reader_row(names, reader) for reader in study.readers],
    )
    precisions = Table(
        f"{study.finding}: precision, and the model's at the same recall",
        ["Reader", "Recall", "Precision", "Model"],
        [_precision_row(names, study.finding, reader) for reader in study.readers],
    )
    said = f"{study.under_curve} of {len(study.readers)} readers lie under the curve. The table says the same in figures."
    return [
        Plot(f"plot-readers-{number}", reader_roc_figure(study, names, roc), f"ROC curve and readers, {study.finding}: {said}", points, wide_table=True),
        Plot(
            f"plot-reader-precision-{number}", reader_precision_figure(study, names, recall),
            f"Precision-recall curve and readers, {study.finding}. The table says the same in figures.", precisions,
        ),
    ]  # fmt: skip


def _reader_row(names: Sequence[str], reader: Beside) -> list[str]:
    return [
        names[reader.reader], _signed(reader.difference), _percent(reader.sensitivity), _percent(reader.specificity),
        _percent(reader.model_sensitivity), f"{reader.films:,}",
    ]  # fmt: skip


def _precision_row(names: Sequence[str], finding: str, reader: Beside) -> list[str]:
    assert reader.sensitivity.value is not None
    model = f"{precision_at(matched_curves(finding, reader)[1], reader.sensitivity.value):.0%}"
    return [names[reader.reader], _percent(reader.sensitivity), _percent(reader.precision), model]


def _percent(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.0%}"


def _signed(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    spread = f" ({_minus(estimate.interval[0])}, {_minus(estimate.interval[1])})" if estimate.interval else ""
    return f"{_minus(estimate.value)}{spread}"


def _minus(value: float) -> str:
    """A signed figure with a proper minus."""
    return f"{value:+.2f}".replace("-", "−")


def _figure(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return NOT_MEASURABLE
    spread = figure["interval"]
    return f"{figure['value']:.2f}" + (f" ({spread[0]:.2f} to {spread[1]:.2f})" if spread else "")


def _share_figure(figure: Mapping[str, Any]) -> str:
    return NOT_MEASURABLE if figure["value"] is None else f"{figure['value']:.1%}"


def _share(value: Any) -> str:
    return "–" if value is None else f"{value:.0%}"
