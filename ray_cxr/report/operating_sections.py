"""Sections on decisions and probabilities: operating points, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_cxr.report.blocks import Block, Panel, Panels, Section, Table, Text
from ray_cxr.report.contents import Contents
from ray_cxr.report.panels import reliability_panel
from ray_cxr.report.words import area_text, count_text, interval_text, score_text, share_text

_RATES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV", "f1": "F1"}


def _point_names(metrics: Mapping[str, Any]) -> dict[str, str]:
    points = metrics["operating_points"]
    return {
        "youden": "Youden's index",
        "fixed_sensitivity": f"sensitivity {points['fixed_sensitivity']:.0%} on validation",
        "fixed_specificity": f"specificity {points['fixed_specificity']:.0%} on validation",
    }


def points_of(metrics: Mapping[str, Any], finding: str) -> list[tuple[str, float, float]]:
    """(name, 1 - specificity, sensitivity) on the test films of a finding's operating points; empty where it has none."""
    table = metrics["operating_points"]["findings"]
    found = table.get(finding) if table else None
    if not found:
        return []
    rates = {n: (found[n]["specificity"]["value"], found[n]["sensitivity"]["value"]) for n in found}
    names = _point_names(metrics)
    return [
        (names[n], 1 - spec, sens)
        for n, (spec, sens) in rates.items()
        if spec is not None and sens is not None
    ]


def operating_points(contents: Contents) -> Section:
    """What thresholds chosen on validation films give on test films, or why there are none."""
    heading, points = "Operating points", contents.metrics["operating_points"]
    if points["findings"] is None:
        return Section("operating-points", heading, [Text(f"Not shown: {points['reason']}.")])
    chosen = points["chosen_on"]
    of = f" of {count_text(chosen['patients'], 'patient')}" if chosen["patients"] is not None else ""
    text = Text(
        f"Thresholds were chosen on {count_text(chosen['films'], 'validation film')}{of}, by three rules, and applied to the test "
        "films as they were: a film is called positive where its score is no less. In brackets: 95 % intervals, none where every draw of "
        "patients gives the same (100 % of a few films is not certain)."
    )
    blocks: list[Block] = [text, *(Text(f"{c[0].upper()}{c[1:]}", "warning") for c in points["cautions"])]
    blocks += [_point_table(contents, name, words) for name, words in _point_names(contents.metrics).items()]
    blocks.append(
        Text(
            "PPV and NPV hold at the prevalence of these test films; where a finding is rarer, PPV is lower.",
            "muted",
        )
    )
    return Section("operating-points", heading, blocks)


def _point_table(contents: Contents, name: str, words: str) -> Table:
    points = contents.metrics["operating_points"]
    rows = []
    for finding in contents.findings:
        found = points["findings"][finding]
        if found is None:
            rows.append([finding, f"not measurable: {points['not_chosen'][finding]}"])
            continue
        rates = [share_text(found[name][rate]["value"], found[name][rate]["interval"]) for rate in _RATES]
        rows.append([finding, score_text(found[name]["threshold"]), *rates])
    mean = points["mean"][name]
    foot = ["Mean", "", *(share_text(mean[rate]) for rate in _RATES)] if len(rows) > 1 else ()
    return Table(f"By {words}", ["Finding", "Threshold", *_RATES.values()], rows, foot)


def calibration(contents: Contents) -> Section:
    """Whether a score of 0.2 means 20 in 100, or why that cannot be asked."""
    heading, figures = "Are scores probabilities?", contents.metrics["calibration"]
    if figures["findings"] is None:
        return Section("calibration", heading, [Text(f"Not measurable: {figures['reason']}.")])
    known = {f: t for f, t in figures["findings"].items() if t is not None}
    if not known:
        return Section("calibration", heading, [Text("Not measurable: no finding could be measured.")])
    rows = [
        [
            f,
            interval_text(t["brier"], t["brier_interval"]),
            *(area_text(t[k]) for k in ("ece", "ece_equal_count")),
        ]
        for f, t in known.items()
    ]
    mean = figures["mean"]
    foot = (
        ["Mean", *(area_text(mean[k]) for k in ("brier", "ece", "ece_equal_count"))] if len(rows) > 1 else ()
    )
    table = Table(
        "Brier score (with 95 % interval) and expected calibration error",
        [
            "Finding",
            "Brier score",
            f"ECE, bins {figures['ece_bins']}",
            f"ECE, bins {figures['ece_equal_count_bins']}",
        ],
        rows,
        foot,
    )
    panels = [
        Panel(
            f"reliability-{n}", f, reliability_panel(t["curve"]),
            f"Reliability of {f}: share of positive films by score. The table below gives its calibration error.",
        )
        for n, (f, t) in enumerate(known.items())
    ]  # fmt: skip
    text = Text(
        "Points on the dotted line are right: among films with a score of 0.2, 20 in 100 are positive. Below it scores are too "
        "high, above it too low. Each point holds about equally many films; bars are 95 % intervals."
    )
    reason = Text(f"The calibration error has no interval: {figures['ece_interval_reason']}.", "muted")
    return Section("calibration", heading, [text, Panels(panels, table), reason])
