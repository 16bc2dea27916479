"""Sections on what the test gave: summary, figures by finding, how sure they are, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ray_cxr.evaluate.bands import GRID, Band
from ray_cxr.report.blocks import Block, Facts, Fold, Panel, Panels, Plot, Section, Table, Text
from ray_cxr.report.contents import Contents, ReportContents, is_known
from ray_cxr.report.figures import (
    Curve,
    precision_recall_curves,
    precision_recall_figure,
    roc_curves,
    roc_figure,
    sensitivity_at,
)
from ray_cxr.report.operating_sections import points_of
from ray_cxr.report.panels import precision_recall_panel, roc_panel
from ray_cxr.report.words import NOT_MEASURABLE, area_text, count_text, interval_text, share_text

_SPECIFICITIES = (0.80, 0.90, 0.95)
_RECALLS = (0.25, 0.50, 0.75)


def summary(contents: Contents) -> Section:
    """The result in words, with what weakens it."""
    metrics = contents.metrics
    blocks: list[Block] = [Text(result_sentence(contents), "lead")]
    if contents.unmeasurable():
        blocks.append(Text(_left_out_sentence(contents.unmeasurable())))
    openings = metrics["test_openings"]
    blocks.append(Text(openings_sentence(openings), "warning" if openings and openings > 1 else "plain"))
    if not metrics["intervals"]["clustered"]:
        blocks.append(Text(_IMAGE_LEVEL, "warning"))
    ends = metrics["intervals"]["mean_average_precision"]
    facts = [("Mean average precision", interval_text(metrics["mean_average_precision"], ends))]
    if isinstance(contents, ReportContents):
        model = contents.model
        facts += [
            ("Network", f"{model['backbone']} at {model['image_px']} × {model['image_px']} px"),
            ("Chosen epoch", str(model["epoch"])),
            ("Validation mean AUROC", area_text(model["mean_auroc"])),
        ]
    return Section("summary", "Summary", [*blocks, Facts(facts)])


_IMAGE_LEVEL = (
    "Patients are not known, so the intervals are image-level: they take films of one patient for independent, and are "
    "too narrow where patients have several films."
)


def result_sentence(contents: Contents) -> str:
    """Mean AUROC with its interval, over what, on what, by which protocol."""
    metrics = contents.metrics
    tested = _tested(contents)
    apart = metrics["not_in_means"]
    measured = len([f for f in contents.measured("auroc") if f not in apart])
    all_findings = len(contents.findings) - len(apart)
    mean = metrics["mean_auroc"]
    if not measured or not is_known(mean):
        return f"No finding could be measured on {tested}."
    ends = metrics["intervals"]["mean_auroc"]
    sure = f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    if all_findings == 1:
        only = next(f for f in contents.findings if f not in apart)
        return f"The AUROC for {only} is {mean:.3f}{sure}, measured on {tested}."
    over = (
        f"all {measured} findings" if measured == all_findings else f"{measured} of {all_findings} findings"
    )
    without = f" (without {', '.join(apart)})" if apart else ""
    return f"The mean AUROC is {mean:.3f}{sure} over {over}{without}, measured on {tested}."


def _tested(contents: Contents) -> str:
    films, patients = int(contents.metrics["films"]), contents.test_patients
    of = f" of {count_text(patients, 'patient')}" if patients is not None else ""
    return f"{count_text(films, 'test film')}{of} (split protocol: {contents.protocol})"


def _left_out_sentence(reasons: Mapping[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for finding, reason in reasons.items():
        by_reason.setdefault(reason, []).append(finding)
    listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    return f"Not measurable, and part of no mean: {listed}."


def openings_sentence(openings: int | None) -> str:
    """How often the test split was looked at, and what that means; None where nobody counted."""
    if openings is None:
        return (
            "The predictions were made elsewhere, so nobody counted how often these test films were looked at before: "
            "choices made after an earlier look weaken the result."
        )
    if openings == 1:
        return "The test split has been opened once."
    return (
        f"The test split has been opened {openings} times. Choices made after an earlier look can lean on these "
        "films, which weakens the result: expect it to be lower on new patients."
    )


def results(contents: Contents) -> Section:
    """The table of figures per finding."""
    metrics, reasons = contents.metrics, contents.unmeasurable()
    columns = ["Finding", "Positive / labelled", "AUROC", "Average precision", "Prevalence"]
    rows = [_result_row(contents, finding, reasons.get(finding)) for finding in contents.findings]
    intervals = metrics["intervals"]
    means = [
        interval_text(metrics[name], intervals[name]) for name in ("mean_auroc", "mean_average_precision")
    ]
    foot = ["Mean", "", *means, ""] if len(contents.measured("auroc")) > 1 else ()
    what = "patients, all films of a patient together" if intervals["clustered"] else "films"
    note = Text(
        "A classifier that guesses has an AUROC of 0.5 and an average precision equal to the prevalence. Films without "
        f"a label for a finding are left out of its row. In brackets: 95 % intervals, {intervals['draws']:,} draws of {what}. "
        "They say how much the figure would vary with other patients like these, not what another hospital would bring.",
        "muted",
    )
    table = Table("Test split, by finding, with 95 % intervals", columns, rows, foot)
    return Section("results", "Results by finding", [table, *_interval_warnings(contents), note])


def _interval_warnings(contents: Contents) -> list[Text]:
    """Findings whose interval is missing, and why."""
    intervals = contents.metrics["intervals"]
    measured = contents.measured("auroc")
    constant = contents.metrics["constant_scores"]
    bare = [f for f in measured if intervals["auroc"][f] is None and f not in constant]
    flat = [f for f in bare if measured[f] in (0.0, 1.0)]
    rare = [f for f in bare if f not in flat]
    units = "patients" if intervals["clustered"] else "films"
    said = []
    if constant:
        said.append(
            Text(
                f"The score is the same for every film, so it tells none from another, and has no interval: {', '.join(constant)}.",
                "warning",
            )
        )
    if rare:
        said.append(Text(f"Too few positive or negative {units} for an interval: {', '.join(rare)}."))
    if flat:
        said.append(
            Text(
                f"No interval, because every draw ranks all films right (or all wrong): {', '.join(flat)}. That does not make the "
                "figure certain."
            )
        )
    return said


def _result_row(contents: Contents, finding: str, reason: str | None) -> list[str]:
    metrics = contents.metrics
    positives, labelled = int(metrics["positives"][finding]), int(metrics["labelled"][finding])
    row = [finding, f"{positives:,} / {labelled:,}"]
    if reason is not None:
        return [*row, f"{NOT_MEASURABLE}: {reason}"]
    areas = [
        interval_text(metrics[name].get(finding), metrics["intervals"][name].get(finding))
        for name in ("auroc", "average_precision")
    ]
    return [*row, *areas, f"{positives / labelled:.1%}"]


def uncertainty(contents: Contents) -> Section | None:
    """By how much intervals flatter that take films for independent; None where patients are not known."""
    intervals = contents.metrics["intervals"]
    if not intervals["clustered"]:
        return None
    by_film = intervals["image_level"]
    measured = contents.measured("auroc")
    table = Table(
        "95 % intervals of the AUROC, four ways",
        ["Finding", "AUROC", "By patient", "By film", "By patient, DeLong", "By film, DeLong"],
        [
            [f, area_text(area), *(_ends_text(ends.get(f)) for ends in (
                intervals["auroc"], by_film["auroc"], intervals["delong_clustered"], intervals["delong"]))]
            for f, area in measured.items()
        ],
    )  # fmt: skip
    note = Text(
        f"By patient and by film: percentiles of {intervals['draws']:,} bootstrap draws (seed {intervals['seed']}). DeLong: "
        "from the variance (DeLong et al. 1988), by patient as Obuchowski 1997. This report uses those by patient.",
        "muted",
    )
    blocks: list[Block] = [Text(flattery_sentence(by_film["narrower_by"]))]
    if measured:
        blocks += [Fold("Intervals by finding, four ways", table), note]
    return Section("uncertainty", "How sure the figures are", blocks)


def flattery_sentence(narrower_by: float | None) -> str:
    """What clustering does to the intervals, in words."""
    if narrower_by is None:
        return "Too few patients have a finding for an interval."
    films = "Intervals that take films for independent"
    if narrower_by > 0.005:
        return f"{films} would flatter: they are {narrower_by:.0%} narrower (median over findings) than those by patient."
    if narrower_by < -0.005:
        return f"{films} would be {-narrower_by:.0%} wider (median over findings): films of one patient do not resemble each other here."
    return f"{films} would be as wide as those by patient."


def _ends_text(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:.3f}–{ends[1]:.3f}" if ends else "–"


def roc(contents: Contents) -> Section:
    """ROC curves together, then one by one with bands and operating points, and what they read at three specificities."""
    curves = roc_curves(contents.findings, contents.labels, contents.scores, contents.measured("auroc"))
    heading = "ROC curves"
    if not curves:
        return Section("roc", heading, [Text("There is no curve: no finding could be measured.")])
    table = Table(
        "Sensitivity at a specificity of at least …, read off these test curves",
        ["Finding", *(f"{s:.0%}" for s in _SPECIFICITIES)],
        [
            [c.finding, *(_at(sensitivity_at(c, s), contents, c, 0, 1 - s) for s in _SPECIFICITIES)]
            for c in curves
        ],
    )
    label = f"ROC curves; AUROC {_range_sentence(curves)}"
    areas = Table(
        "AUROC", ["Finding", "AUROC"], [[c.finding, area_text(c.value)] for c in _best_first(curves)]
    )
    panels = [
        Panel(
            f"roc-{n}", c.finding, roc_panel(c, contents.bands[c.finding][0], points_of(contents.metrics, c.finding)),
            f"ROC curve of {c.finding} with its 95 % band. The table below says the same in figures.",
        )
        for n, c in enumerate(curves) if c.finding in contents.bands
    ]  # fmt: skip
    blocks: list[Block] = [
        Plot("plot-roc", roc_figure(curves), label, areas), _legend_note(),
        Text(_band_note(contents), "muted"), Panels(panels, table), _read_off_note(contents),
    ]  # fmt: skip
    return Section("roc", heading, blocks)


def _band_note(contents: Contents) -> str:
    marks = ""
    if contents.metrics["operating_points"]["findings"] is not None:
        marks = " Orange marks are the operating points, as they came out on the test films."
    return f"Each curve with its 95 % band, pointwise: at each specificity 95 of 100 draws lie within.{marks}"


def _read_off_note(contents: Contents) -> Text:
    """A threshold that is read off a test curve was chosen with the test's labels."""
    chosen = contents.metrics["operating_points"]["findings"] is not None
    where = (
        "what thresholds chosen on validation films give stands under “Operating points”"
        if chosen
        else "there are no validation films here to choose thresholds on"
    )
    return Text(
        "These are points of the test curve, no operating points: their thresholds were chosen with the labels of the test, so they "
        f"describe the curve and promise a little too much; {where}.",
        "muted",
    )


def _at(value: float, contents: Contents, curve: Curve, which: int, x: float) -> str:
    """A value read off a curve with the band there; which: 0 for ROC, 1 for precision-recall."""
    if curve.finding not in contents.bands:
        return share_text(value)
    band: Band = contents.bands[curve.finding][which]
    at = round(x * (len(GRID) - 1))
    low, high = float(band.low[at]), float(band.high[at])
    return share_text(value, (low, high) if is_known(low) and is_known(high) else None)


def precision_recall(contents: Contents) -> Section:
    """Precision-recall curves: for a rare finding they show what the ROC curve hides, the false alarms."""
    measured = contents.measured("average_precision")
    curves = precision_recall_curves(contents.findings, contents.labels, contents.scores, measured)
    heading = "Precision-recall curves"
    if not curves:
        return Section(
            "precision-recall", heading, [Text("There is no curve: no finding could be measured.")]
        )
    table = Table(
        "Precision where the recall reaches …, read off these test curves",
        ["Finding", *(f"{r:.0%}" for r in _RECALLS), "… by chance"],
        [
            [c.finding, *(_at(_precision_where(c, r), contents, c, 1, r) for r in _RECALLS), f"{_prevalence(contents, c):.1%}"]
            for c in curves
        ],
    )  # fmt: skip
    label = f"Precision-recall curves; average precision {_range_sentence(curves)}"
    areas = Table(
        "Average precision",
        ["Finding", "Average precision"],
        [[c.finding, area_text(c.value)] for c in _best_first(curves)],
    )
    panels = [
        Panel(
            f"precision-recall-{n}", c.finding,
            precision_recall_panel(c, contents.bands[c.finding][1], _prevalence(contents, c)),
            f"Precision-recall curve of {c.finding} with its 95 % band. The table below says the same in figures.",
        )
        for n, c in enumerate(curves) if c.finding in contents.bands
    ]  # fmt: skip
    note = Text(
        "Precision depends on the prevalence: where a finding is rarer than here, it is lower.", "muted"
    )
    blocks: list[Block] = [
        Plot("plot-precision-recall", precision_recall_figure(curves), label, areas),
        note,
        Panels(panels, table),
        _read_off_note(contents),
    ]
    return Section("precision-recall", heading, blocks)


def _precision_where(curve: Curve, recall: float) -> float:
    """The precision at the highest threshold that gives this recall (0..1)."""
    return float(curve.y[np.searchsorted(curve.x, recall - 1e-9)])


def _prevalence(contents: Contents, curve: Curve) -> float:
    return float(contents.metrics["positives"][curve.finding] / contents.metrics["labelled"][curve.finding])


def _best_first(curves: Sequence[Curve]) -> list[Curve]:
    return sorted(curves, key=lambda c: -c.value)


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


def natural_prevalence(contents: Contents) -> Section | None:
    """The figures with films counted by their sampling weights; None where all films count the same."""
    natural: dict[str, Any] | None = contents.metrics["natural_prevalence"]
    if natural is None:
        return None
    rows = [
        [f, share_text(natural["prevalence"][f]),
         *(interval_text(natural[n][f], natural["intervals"][n][f]) for n in ("auroc", "average_precision")),
         _rate_text(natural, f, "ppv"), _rate_text(natural, f, "npv"),
         area_text((natural["calibration"][f] or {}).get("brier"))]
        for f in contents.findings
    ]  # fmt: skip
    table = Table(
        "At natural prevalence, with 95 % intervals",
        [
            "Finding",
            "Prevalence",
            "AUROC",
            "Average precision",
            "PPV (Youden)",
            "NPV (Youden)",
            "Brier score",
        ],
        rows,
    )
    text = Text(
        "The test films were drawn with unequal chances, so that rare findings are common in them. Here each film counts by its "
        "sampling weight, as many films of the source as it stands for: what a clinic with the source's patients would see."
    )
    return Section("natural-prevalence", "At natural prevalence", [text, table])


def _rate_text(natural: Mapping[str, Any], finding: str, rate: str) -> str:
    points = natural["operating_points"][finding]
    return (
        "–"
        if points is None
        else share_text(points["youden"][rate]["value"], points["youden"][rate]["interval"])
    )
