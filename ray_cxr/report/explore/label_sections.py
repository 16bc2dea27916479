"""Sections on labels: overview, how common, balance, by split, together, who labels what."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ray_cxr.report.blocks import Block, Facts, HeatCell, HeatTable, Plot, Section, Table, Text
from ray_cxr.report.explore.counts import CoOccurrence, FindingCount, GroupCount
from ray_cxr.report.explore.exploration import Exploration
from ray_cxr.report.explore.figures import balance_figure, column_figure, count_figure
from ray_cxr.report.explore.remarks import leak_sentence, remarks
from ray_cxr.report.words import count_text

_SOURCE_WORDS = {
    "source": "Source", "rows": "Rows in the label table", "films": "Films found", "without_file": "Without a film",
    "other_views": "Other views", "patients": "Patients",
}  # fmt: skip
_MISLEADING = 0.8
"""An accuracy that looks good."""


def percent(share: float | None) -> str:
    """A share 0..1; a dash where there is none. Rare findings keep two digits."""
    if share is None or math.isnan(share):
        return "–"
    if 0 < share < 0.00005:
        return "<0.01%"
    return f"{share:.2%}" if 0 < share < 0.01 else f"{share:.1%}"


def overview(found: Exploration) -> Section:
    """What this is, and what stands out."""
    material, patients = found.material, found.patients
    facts = [
        ("Rows of the label table" if not material.prepared else "Films", f"{found.overall.films:,}"),
        ("Films found", f"{found.films_here:,}"),
        ("Patients", f"{patients.patients:,}"),
        (
            "Films per patient",
            f"{patients.films / patients.patients:.2f} on average, at most {patients.most:,}",
        ),
        ("Findings", str(len(found.findings))),
        ("Films with no finding", _healthy(found)),
    ]
    stage = (
        "This is a prepared data set: what training, tuning and testing read."
        if material.prepared
        else "Nothing is prepared yet: this is what the label table says, and what “ray-cxr prepare” would make of it."
    )
    blocks: list[Block] = [
        Text(_lead(found), "lead"),
        Text(stage),
        *_leak_line(found),
        Facts(facts),
        *remarks(found),
    ]
    return Section("overview", "Overview", blocks)


def _lead(found: Exploration) -> str:
    counts = {f: c for f, c in found.overall.findings.items() if c.positives}
    what = "films" if found.material.prepared else "rows"
    lead = f"{found.overall.films:,} {what} of {count_text(found.patients.patients, 'patient')}, {count_text(len(found.findings), 'finding')}."
    if not counts:
        return f"{lead} No film shows any of them."
    share = {f: c.prevalence or 0.0 for f, c in counts.items()}
    most, least = max(share, key=share.__getitem__), min(share, key=share.__getitem__)
    if most == least:
        return f"{lead} {most} is on {percent(share[most])} of the films that are labelled for it."
    return f"{lead} The most common is {most} ({percent(share[most])}), the rarest {least} ({percent(share[least])})."


def _healthy(found: Exploration) -> str:
    labelled = sum(found.per_film.values())
    none = found.per_film.get(0, 0)
    return f"{none:,} ({percent(none / labelled)})" if labelled else "no film is labelled"


def _leak_line(found: Exploration) -> list[Text]:
    held = found.leaks.get("splits")
    if held is None or not held.clean:
        return []
    return [Text(f"Leak check passed: {leak_sentence(held)}", "good")]


def prevalence(found: Exploration) -> Section:
    """How common each finding is, and what accuracy would make of it."""
    counts = found.overall.findings
    table = Table(
        "How common each finding is",
        [
            "Finding",
            "Positive",
            "Labelled",
            "Prevalence",
            "Neg : pos",
            "Always “no”",
        ],
        [_prevalence_row(f, c) for f, c in _by_positives(counts)],
    )
    label = "Positive films of each finding as bars. The table says the same in figures."
    plot = Plot("plot-prevalence", count_figure(counts), label, table, wide_table=True)
    several = [Text("A film may show several findings, so the shares do not add up to 100 %.")]
    lesson = Text(_accuracy_lesson(counts), "lesson")
    blocks: list[Block] = [*(several if len(counts) > 1 else []), plot, lesson]
    return Section("prevalence", "How common is each finding?", blocks)


def _accuracy_lesson(counts: Mapping[str, FindingCount]) -> str:
    worst, count = max(counts.items(), key=lambda item: item[1].accuracy_of_always_healthy or 0.0)
    meaning = "Always “no” is the accuracy of a classifier that never reports the finding."
    if (count.accuracy_of_always_healthy or 0.0) < _MISLEADING:
        return f"{meaning} An accuracy says something only beside that figure."
    return (
        f"{meaning} For {worst} it is right in {percent(count.accuracy_of_always_healthy)} of the films and finds nobody. "
        "That is why accuracy is of no use here, and why this package reports AUROC and average precision, finding by finding."
    )


def _prevalence_row(finding: str, count: FindingCount) -> list[str]:
    ratio = count.negatives_per_positive
    return [
        finding,
        f"{count.positives:,}",
        f"{count.labelled:,}",
        percent(count.prevalence),
        "–" if ratio is None else f"{ratio:,.1f}",
        percent(count.accuracy_of_always_healthy),
    ]


def _by_positives(counts: Mapping[str, FindingCount]) -> list[tuple[str, FindingCount]]:
    return sorted(counts.items(), key=lambda item: -item[1].positives)


def balance(found: Exploration) -> Section:
    """Positives against negatives, before and after the weights of the loss."""
    counts = found.trained.findings
    which = "training films" if "train" in found.splits else "films"
    table = Table(
        f"Weights from the {which}",
        ["Finding", "Positive", "w_pos", "w_neg"],
        [_weight_row(f, c) for f, c in _by_positives(counts)],
    )
    label = "Shares of positive and negative labels as bars, before and after weighting. The table gives the weights."
    blocks: list[Block] = [
        Text(
            f"Left, each finding's labels among the {which} as they are. The loss gives a positive label "
            "the weight w_pos = negatives / all, and a negative one w_neg = positives / all. Right, the same labels times "
            "their weights: both classes now pull equally hard."
        ),
        Plot("plot-balance", balance_figure(counts), label, table),
        Text(
            "Where positives are few, a network without weights does well by always answering “no”: nearly all of the loss comes "
            "from negatives. With weights, missing the few positives costs as much as alarming on all negatives. A rare "
            "finding's bar stays short: it still counts for less than a common one.",
            "lesson",
        ),
    ]
    if not found.loss.balanced:
        blocks.append(Text(f"The loss of this job ({found.loss.kind}) does not use these weights.", "muted"))
    elif found.stream.resampling != "none" and found.loss.prevalence == "effective":
        blocks.append(
            Text(
                f"This job also resamples the films ({found.stream.resampling}). Its weights then follow how often films are "
                "shown, so they are nearer to each other than these.",
                "muted",
            )
        )
    return Section("balance", "Imbalance, and what the weights do", blocks)


def _weight_row(finding: str, count: FindingCount) -> list[str]:
    if count.one_class:
        return [finding, f"{count.positives:,}", "one class only"]
    positive, negative = count.weight_of_positive or 0.0, count.weight_of_negative or 0.0
    return [finding, f"{count.positives:,}", f"{positive:.4f}", f"{negative:.4f}"]


def together(found: Exploration) -> Section:
    """Findings on the same film."""
    names, both = found.findings, found.together
    if len(names) == 1:
        return Section("together", "Findings on one film", [_per_film(found)])
    apart = both.share[~np.eye(len(names), dtype=bool)]
    most = float(np.nanmax(apart)) if (apart > 0).any() else 1.0
    rows = [(row, [_heat_cell(both, i, j, most) for j in range(len(names))]) for i, row in enumerate(names)]
    blocks: list[Block] = [
        Text(
            "Read down a column: of the films that show the column's finding, the share that shows the row's, too; below it the "
            "number of films that show both. The diagonal counts each finding's films."
        ),
        HeatTable("Findings on the same film", names, rows),
        Text(
            "Findings that go together (fluid and a collapsed lung beside it, say) are hard to tell apart by labels alone: a "
            "network may report one because it sees the other.",
            "lesson",
        ),
        _per_film(found),
    ]
    return Section("together", "Findings that come together", blocks)


def _heat_cell(both: CoOccurrence, row: int, column: int, most: float) -> HeatCell:
    """most: the share that is tinted fully."""
    share, films = float(both.share[row, column]), f"{both.together[row, column]:,}"
    if row == column:
        return HeatCell("", 0.0, films)
    return HeatCell("–", 0.0) if math.isnan(share) else HeatCell(f"{share:.0%}", share / most, films)


def _per_film(found: Exploration) -> Plot:
    counts = {str(number): films for number, films in found.per_film.items()}
    all_films = max(sum(counts.values()), 1)
    table = Table(
        "Findings on one film", ["Findings", "Films", "Share"],
        [[number, f"{films:,}", percent(films / all_films)] for number, films in counts.items()],
    )  # fmt: skip
    label = "Films by the number of findings that they show, as bars. The table says the same."
    return Plot("plot-per-film", column_figure(counts, "Findings on the film", "Films"), label, table)


def labellers(found: Exploration) -> Section:
    """Which source labels what, and what became of its rows."""
    columns = [k for k in _SOURCE_WORDS if any(k in source for source in found.material.sources)]
    rows = [[_cell(source.get(k)) for k in columns] for source in found.material.sources]
    heads = [_SOURCE_WORDS[k] for k in columns]
    blocks: list[Block] = [Table("Rows and films", heads, rows)]
    for source in found.material.sources:
        blocks += [Text(f"{source['source']}: {note}.", "muted") for note in source.get("notes", [])]
    if len(found.sources) > 1:
        shares = {n: {f: _labelled(c, f) for f in found.findings} for n, c in found.sources.items()}
        cells = [
            (f, [HeatCell(percent(s[f]), s[f], f"{found.sources[n].findings[f].positives:,} positive") for n, s in shares.items()])
            for f in found.findings
        ]  # fmt: skip
        blocks += [
            Text("The share of each source's films that is labelled for a finding."),
            HeatTable("Who labels what", list(found.sources), cells),
        ]
    blocks += _refused(found)
    return Section("sources", "Sources, missing and refused films", blocks)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _labelled(group: GroupCount, finding: str) -> float:
    return group.findings[finding].labelled / group.films


def _refused(found: Exploration) -> list[Block]:
    reasons = found.material.refused
    if reasons is None:
        looked_at = {} if found.pixels is None else found.pixels.refused
        sentence = Text(
            "Which films cannot be used is known once “ray-cxr prepare” has read all of them.", "muted"
        )
        return [
            sentence,
            *([_reason_table("Refused among the films looked at", looked_at)] if looked_at else []),
        ]
    if not reasons:
        return [Text("No film was refused.", "good")]
    return [_reason_table("Refused films by reason", reasons)]


def _reason_table(caption: str, reasons: Mapping[str, int]) -> Table:
    return Table(caption, ["Reason", "Films"], [[r, f"{n:,}"] for r, n in reasons.items()])
