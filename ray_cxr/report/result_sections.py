"""Sections on what the test gave: summary, figures by finding, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray_cxr.report.blocks import Block, Facts, Plot, Section, Table, Text
from ray_cxr.report.contents import ReportContents, is_known
from ray_cxr.report.figures import (
    Curve,
    precision_at,
    precision_recall_curves,
    precision_recall_figure,
    roc_curves,
    roc_figure,
    sensitivity_at,
)
from ray_cxr.report.words import NOT_MEASURABLE, area_text, count_text

_SPECIFICITIES = (0.80, 0.90, 0.95)
_RECALLS = (0.25, 0.50, 0.75)


def summary(contents: ReportContents) -> Section:
    """The result in words, with what weakens it."""
    model, metrics = contents.model, contents.metrics
    blocks: list[Block] = [Text(result_sentence(contents), "lead")]
    if contents.unmeasurable():
        blocks.append(Text(_left_out_sentence(contents.unmeasurable())))
    openings = int(metrics["test_openings"])
    blocks.append(Text(openings_sentence(openings), "warning" if openings > 1 else "plain"))
    facts = [
        ("Mean average precision", area_text(metrics["mean_average_precision"])),
        ("Network", f"{model['backbone']} at {model['image_px']} × {model['image_px']} px"),
        ("Chosen epoch", str(model["epoch"])),
        ("Validation mean AUROC", area_text(model["mean_auroc"])),
    ]
    return Section("summary", "Summary", [*blocks, Facts(facts)])


def result_sentence(contents: ReportContents) -> str:
    """Mean AUROC, over what, on what."""
    films, patients = int(contents.metrics["films"]), contents.test_patients
    tested = f"{count_text(films, 'test film')} of {count_text(patients, 'patient')} (split protocol: {contents.metrics['protocol']})"
    measured, all_findings = len(contents.measured("auroc")), len(contents.findings)
    mean = contents.metrics["mean_auroc"]
    if not measured or not is_known(mean):
        return f"No finding could be measured on {tested}."
    if all_findings == 1:
        return f"The AUROC for {contents.findings[0]} is {mean:.3f}, measured on {tested}."
    over = (
        f"all {measured} findings" if measured == all_findings else f"{measured} of {all_findings} findings"
    )
    return f"The mean AUROC is {mean:.3f} over {over}, measured on {tested}."


def _left_out_sentence(reasons: Mapping[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for finding, reason in reasons.items():
        by_reason.setdefault(reason, []).append(finding)
    listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    return f"Not measurable, and part of no mean: {listed}."


def openings_sentence(openings: int) -> str:
    """How often the test split was looked at, and what that means."""
    if openings == 1:
        return "The test split has been opened once."
    return (
        f"The test split has been opened {openings} times. Choices made after an earlier look can lean on these "
        "films, which weakens the result: expect it to be lower on new patients."
    )


def results(contents: ReportContents) -> Section:
    """The table of figures per finding."""
    metrics, reasons = contents.metrics, contents.unmeasurable()
    columns = ["Finding", "Positive", "Labelled", "Prevalence", "AUROC", "Average precision", "… by chance"]
    rows = [_result_row(contents, finding, reasons.get(finding)) for finding in contents.findings]
    means = [area_text(metrics[name]) for name in ("mean_auroc", "mean_average_precision")]
    foot = ["Mean", "", "", "", *means, ""] if len(contents.measured("auroc")) > 1 else ()
    note = Text(
        "A classifier that guesses has an AUROC of 0.5 and an average precision equal to the prevalence. Films without "
        "a label for a finding are left out of its row. The figures stand without intervals: those of findings with "
        "few positive films are uncertain.",
        "muted",
    )
    table = Table("Test split, by finding", columns, rows, foot)
    return Section("results", "Results by finding", [table, note])


def _result_row(contents: ReportContents, finding: str, reason: str | None) -> list[str]:
    metrics = contents.metrics
    positives, labelled = int(metrics["positives"][finding]), int(metrics["labelled"][finding])
    row = [finding, f"{positives:,}", f"{labelled:,}", f"{positives / labelled:.1%}" if labelled else "–"]
    if reason is not None:
        return [*row, f"{NOT_MEASURABLE}: {reason}"]
    areas = [area_text(metrics[name].get(finding)) for name in ("auroc", "average_precision")]
    return [*row, *areas, f"{positives / labelled:.3f}"]


def roc(contents: ReportContents) -> Section:
    """ROC curves, and what they read at three specificities."""
    curves = roc_curves(contents.findings, contents.labels, contents.scores, contents.measured("auroc"))
    heading = "ROC curves"
    if not curves:
        return Section("roc", heading, [Text("There is no curve: no finding could be measured.")])
    table = Table(
        "Sensitivity at a specificity of at least …",
        ["Finding", *(f"{s:.0%}" for s in _SPECIFICITIES)],
        [[c.finding, *(f"{sensitivity_at(c, s):.1%}" for s in _SPECIFICITIES)] for c in curves],
    )
    label = f"ROC curves; AUROC {_range_sentence(curves)}"
    plot = Plot("plot-roc", roc_figure(curves), label, table)
    return Section("roc", heading, [plot, _legend_note()])


def precision_recall(contents: ReportContents) -> Section:
    """Precision-recall curves: for a rare finding they show what the ROC curve hides, the false alarms."""
    measured = contents.measured("average_precision")
    curves = precision_recall_curves(contents.findings, contents.labels, contents.scores, measured)
    heading = "Precision-recall curves"
    if not curves:
        return Section(
            "precision-recall", heading, [Text("There is no curve: no finding could be measured.")]
        )
    table = Table(
        "Precision at a recall of at least …",
        ["Finding", *(f"{r:.0%}" for r in _RECALLS), "… by chance"],
        [
            [c.finding, *(f"{precision_at(c, r):.1%}" for r in _RECALLS), _prevalence(contents, c)]
            for c in curves
        ],
    )
    label = f"Precision-recall curves; average precision {_range_sentence(curves)}"
    plot = Plot("plot-precision-recall", precision_recall_figure(curves), label, table)
    note = Text(
        "Precision depends on the prevalence: where a finding is rarer than here, it is lower.", "muted"
    )
    return Section("precision-recall", heading, [plot, note])


def _prevalence(contents: ReportContents, curve: Curve) -> str:
    return f"{contents.metrics['positives'][curve.finding] / contents.metrics['labelled'][curve.finding]:.1%}"


def _range_sentence(curves: Sequence[Curve]) -> str:
    lowest, highest = min(curves, key=lambda c: c.value), max(curves, key=lambda c: c.value)
    if len(curves) == 1:
        return f"{lowest.value:.3f} for {lowest.finding}. The table says the same in figures."
    return (
        f"from {lowest.value:.3f} ({lowest.finding}) to {highest.value:.3f} ({highest.finding}), "
        f"{len(curves)} findings. The table says the same in figures."
    )


def _legend_note() -> Text:
    return Text(
        "A click on a finding in the legend hides or shows it, a double click shows it alone.", "hint"
    )
