"""Sections on splits, patients, age, sex and view."""

from __future__ import annotations

from collections.abc import Mapping

from ray_cxr.report.blocks import Block, Facts, HeatCell, HeatTable, Plot, Section, Table, Text
from ray_cxr.report.explore.counts import FindingCount, GroupCount
from ray_cxr.report.explore.exploration import Exploration
from ray_cxr.report.explore.figures import age_figure, column_figure
from ray_cxr.report.explore.label_sections import percent
from ray_cxr.report.explore.people import NOT_GIVEN, SHORTCUT_AUROC, Giveaway
from ray_cxr.report.explore.remarks import leak_sentence
from ray_cxr.report.words import count_text

_PROPERTIES = {"view": "View", "sex": "Sex", "age": "Age"}
_CHECKED = {
    "splits": "Splits", "folds": "Folds", "given": "The split that the label table gives",
}  # fmt: skip


def splits(found: Exploration) -> Section:
    """Who is in which split, how the findings are spread, and whether anybody is in two."""
    blocks: list[Block] = []
    for name, held in found.leaks.items():
        films = (
            ""
            if held.same_films is None
            else f" Films that stand in two sets as identical pixels: {held.same_films:,}."
        )
        text = f"{_CHECKED[name]}: {leak_sentence(held)}{films}"
        used = name != "given" or "splits" not in found.leaks
        if held.clean:
            blocks.append(Text(text, "warning" if held.same_films else "good"))
        else:
            blocks.append(Text(text, "alarm" if used else "warning"))
    groups = {n.capitalize(): c for n, c in found.splits.items()}
    first = (
        {}
        if found.material.prepared
        else {"All rows": found.overall} | ({"Films found": found.here} if found.here else {})
    )
    if groups or found.here:
        blocks.append(_group_table("Films, patients and positive films", found.findings, first | groups))
    if not found.material.prepared and groups:
        blocks.append(Text(_planned_sentence(found), "muted"))
    natural = {n: c for n, c in groups.items() if c.natural is not None}
    if natural:
        blocks.append(_natural_table(found.findings, natural))
    if found.folds:
        folds = {f"Fold {n}": c for n, c in found.folds.items()}
        blocks.append(_group_table("Folds of the cross-validation", found.findings, folds))
    blocks.append(Text(
        "The sets must not share a patient: two films of one person look alike, and a network that has seen the first "
        "recognises the second. The shares of each finding should be alike in all sets, unless a set was enriched on purpose.",
        "lesson",
    ))  # fmt: skip
    return Section("splits", "Training, validation and test", blocks)


def _planned_sentence(found: Exploration) -> str:
    which = "the films that are here" if found.films_here else "all rows, as no film is here"
    return f"The split that “ray-cxr prepare” would draw from {which}, if it had to refuse none of them."


def _group_table(caption: str, findings: list[str], groups: Mapping[str, GroupCount]) -> Table:
    rows = [
        ["Films", *(f"{c.films:,}" for c in groups.values())],
        ["Patients", *(f"{c.patients:,}" for c in groups.values())],
        ["Positive films, and their share of the labelled films"],
        *([f, *(_positives(c.findings[f]) for c in groups.values())] for f in findings),
    ]
    return Table(caption, ["", *groups], rows)


def _positives(count: FindingCount) -> str:
    return f"{count.positives:,} ({percent(count.prevalence)})" if count.labelled else "not labelled"


def _natural_table(findings: list[str], groups: Mapping[str, GroupCount]) -> Table:
    rows = [[f, *(percent((c.natural or {}).get(f)) for c in groups.values())] for f in findings]
    return Table("Prevalence restored by the sampling weights", ["", *groups], rows)


def patients(found: Exploration) -> Section:
    """Films per patient, and why a split goes by patient."""
    p = found.patients
    table = Table(
        "Films per patient", ["Films of a patient", "Patients", "Share"],
        [[films, f"{n:,}", percent(n / p.patients)] for films, n in p.bands.items()],
    )  # fmt: skip
    label = "Patients by the number of their films, as bars. The table says the same."
    facts = [
        ("Patients with more than one film", f"{p.several:,} ({percent(p.several / p.patients)})"),
        ("Films of these patients", f"{p.films_of_several:,} ({percent(p.films_of_several / p.films)})"),
        ("Median films per patient", f"{p.median:g}"),
        ("Most films of a patient", f"{p.most:,}"),
    ]
    lesson = (
        f"Had the films been dealt out at random, one in five for testing, {percent(p.met_again)} of the test films would "
        "have come from a patient whose other films the network was trained on. So patients are dealt out, not films."
    )
    figure = column_figure(p.bands, "Films of a patient", "Patients")
    return Section(
        "patients",
        "Patients",
        [Plot("plot-patients", figure, label, table), Facts(facts), Text(lesson, "lesson")],
    )


def people(found: Exploration) -> Section:
    """Age, sex and view, by themselves and by finding."""
    blocks: list[Block] = [Facts(_people_facts(found))]
    if found.people.age_histogram:
        blocks.append(_age_plot(found))
    blocks += _by_group(found)
    return Section("people", "Age, sex and view", blocks)


def _people_facts(found: Exploration) -> list[tuple[str, str]]:
    known, films, quartiles = found.people.age_known, found.overall.films, found.people.age_quartiles
    ages = [("Age", "not given")]
    if quartiles is not None:
        low, median, high = quartiles
        ages = [
            ("Median age", f"{median:.0f} years; the middle half is {low:.0f} to {high:.0f}"),
            ("Age unknown, or beyond 120 years", count_text(films - known, "film")),
        ]
    shares = {"Sex": found.people.sexes, "View": found.people.views}
    return [*ages, *((name, _shares(counts, films)) for name, counts in shares.items())]


def _shares(counts: Mapping[str, int], films: int) -> str:
    return (
        NOT_GIVEN
        if set(counts) == {NOT_GIVEN}
        else ", ".join(f"{v} {percent(n / films)}" for v, n in counts.items())
    )


def _age_plot(found: Exploration) -> Plot:
    histogram = found.people.age_histogram
    table = Table(
        "Films by age and sex", ["Age", *histogram],
        [[band, *(f"{histogram[sex][band]:,}" for sex in histogram)] for band in next(iter(histogram.values()))],
    )  # fmt: skip
    return Plot(
        "plot-age",
        age_figure(histogram),
        "Films by decade of age and sex, as bars. The table says the same.",
        table,
    )


def _by_group(found: Exploration) -> list[Block]:
    groups = {
        (column, value): count
        for column, counted in found.people.by.items() if len(counted) > 1
        for value, count in counted.items()
    }  # fmt: skip
    if not groups:
        return [
            Text(
                "Neither age nor sex nor view is given, so the findings cannot be held against them.", "muted"
            )
        ]
    heads = [f"{_PROPERTIES[c]} {v}" if c != "age" else v for c, v in groups]
    rows = [(f, _against_others([c.findings[f] for c in groups.values()])) for f in found.findings]
    blocks: list[Block] = [HeatTable("Prevalence of each finding by view, sex and age", heads, rows)]
    columns = [c for c in _PROPERTIES if any(c in g for g in found.people.giveaways.values())]
    if columns:
        table = Table(
            "AUROC of a classifier that never sees the film, only …",
            ["Finding", *(f"… the {_PROPERTIES[c].lower()}" for c in columns)],
            [[f, *(_area(g.get(c)) for c in columns)] for f, g in found.people.giveaways.items()],
        )
        blocks += [table, Text(_SHORTCUT_LESSON, "lesson")]
    return blocks


_SHORTCUT_LESSON = (
    "0.5 is guessing. What is well above it can be answered without any picture: a bedside film (AP) is taken of patients who "
    "are too ill to stand, so the view alone points at what the very ill have, and a network that has learnt to tell the "
    f"views apart looks better than it is. An arrow marks what reaches {SHORTCUT_AUROC:.2f} and is not chance."
)


def _against_others(counts: list[FindingCount]) -> list[HeatCell]:
    """Tinted from the row's least to its greatest prevalence."""
    shares = [c.prevalence for c in counts]
    most = max((s for s in shares if s is not None), default=0.0) or 1.0
    return [
        HeatCell(percent(s), (s or 0.0) / most, f"{c.positives:,}")
        for s, c in zip(shares, counts, strict=True)
    ]


def _area(giveaway: Giveaway | None) -> str:
    if giveaway is None or giveaway.auroc is None:
        return "–"
    return f"{'▲ ' if giveaway.clear else ''}{giveaway.auroc:.2f}"
