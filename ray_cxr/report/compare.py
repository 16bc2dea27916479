"""The page of a comparison: what was compared under which protocol, figures side by side, paired differences, curves.

Gives: one HTML file as `html` makes them; it holds no id of a film or patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from ray_cxr.evaluate.compare_result import NO_SPREAD, Comparison, Levels, Pair
from ray_cxr.evaluate.inputs import in_means
from ray_cxr.evaluate.testable import FEWEST_PATIENTS
from ray_cxr.report.blocks import Block, Plot, Section, Table, Text
from ray_cxr.report.compare_figures import SIGNIFICANT, forest_figure, overlay_figure
from ray_cxr.report.html import render_page
from ray_cxr.report.origin_sections import leak_text
from ray_cxr.report.words import NOT_MEASURABLE, area_text, count_text, p_text


def render_comparison(comparison: Comparison) -> str:
    """The whole page."""
    sections = [make(comparison) for make in (summary, results, differences, curves)]
    return render_page("compare.html.jinja", " · ".join(comparison.names), sections, _leak(comparison))


def _leak(comparison: Comparison) -> Text | None:
    """An alarm that names the models whose data sets share patients between their splits."""
    leaking = [e for e in comparison.entries if e.leak is not None and not e.leak["clean"]]
    if not leaking:
        return None
    names = ", ".join(e.name for e in leaking)
    return Text(f"{names}: {leak_text(leaking[0].leak or {}).text}", "alarm")


def summary_sentences(comparison: Comparison) -> list[str]:
    """The answer of each pair in words, on the mean over findings."""
    if not comparison.common_films:
        return ["The models have no film in common, so nothing can be tested."]
    said = [_pair_sentence(comparison, p) for p in comparison.pairs if p.finding is None]
    return said or ["No finding has enough patients among the common films, so nothing can be tested."]


def _pair_sentence(comparison: Comparison, pair: Pair) -> str:
    names, value, ends = comparison.names, pair.auroc.value, pair.auroc.interval
    if value is None or ends is None or pair.p_holm is None:
        return (
            f"{names[pair.first]} and {names[pair.second]} cannot be told apart: the mean AUROC differs by the same in every "
            "draw of patients."
        )
    better, worse = (pair.first, pair.second) if value >= 0 else (pair.second, pair.first)
    low, high = ends if value >= 0 else (-ends[1], -ends[0])
    over = f" over {_tested_of(comparison)}" if comparison.too_few else ""
    spread = f"{abs(value):.3f} (95 % interval {low:.3f} to {high:.3f}, {p_text(pair.p_holm)})".replace(
        "-", "−"
    )
    if pair.p_holm < SIGNIFICANT:
        return f"{names[better]} has the higher mean AUROC{over} than {names[worse]}, by {spread}."
    return f"{names[better]} and {names[worse]} are not shown to differ: the mean AUROC{over} differs by {spread}."


def _tested_of(comparison: Comparison) -> str:
    few = [f for f in in_means(comparison.findings) if f in comparison.too_few]
    return f"{len(comparison.mean_over)} of {len(comparison.mean_over) + len(few)} findings"


def few_sentences(comparison: Comparison) -> list[str]:
    """Which findings have too few patients to be tested; empty where all have enough."""
    if not comparison.too_few:
        return []
    counts = {
        f: f"{negative} negative" if negative < positive else f"{positive} positive"
        for f, (positive, negative) in comparison.too_few.items()
    }
    listed = ", ".join(f"{finding} ({count})" for finding, count in counts.items())
    units = "patients" if comparison.clustered else "films"
    return [
        f"Too few positive or negative {units} for a test (under {FEWEST_PATIENTS}): {listed}. Their differences have no interval "
        "and no p, and are part of no mean and no adjustment."
    ]


def summary(comparison: Comparison) -> Section:
    """The answer, what was compared, and what makes the comparison weak."""
    films = count_text(comparison.common_films, "film")
    blocks: list[Block] = [Text(sentence, "lead") for sentence in summary_sentences(comparison)]
    if comparison.common_films:
        blocks.append(Text(f"Tested on {films} that all models scored. {method_sentence(comparison)}"))
    blocks += [Text(sentence, "warning") for sentence in few_sentences(comparison)]
    if comparison.differences:
        blocks += _across_blocks(comparison)
    if comparison.unequal_labels:
        blocks.append(
            Text(
                f"{count_text(comparison.unequal_labels, 'label')} of these films differ between the models and are left out of the tests.",
                "warning",
            )
        )
    blocks.append(
        Table(
            "What was compared",
            ["Model", "Films", "Patients", "Protocol", "Fingerprint", "Test split opened"],
            _entry_rows(comparison),
        )
    )
    return Section("summary", "Summary", blocks)


def _across_blocks(comparison: Comparison) -> list[Block]:
    """A warning, and a row for each field in which the protocols differ."""
    rows = [[field, *values] for field, values in comparison.differences.items()]
    return [
        Text(
            "Compared across protocols, as asked: a difference may come from the test, not from the model.",
            "warning",
        ),
        Table("Where the protocols differ", ["Field", *comparison.names], rows),
    ]


def method_sentence(comparison: Comparison) -> str:
    """How intervals and p-values were made."""
    unit = (
        "patients"
        if comparison.clustered
        else "films (patients are not known, so intervals are image-level and too narrow)"
    )
    return (
        f"Intervals: {comparison.draws:,} draws of {unit}, the same for all models. p by DeLong's method for films that share "
        "patients (Obuchowski 1997), of the mean by the draws; adjusted over findings and pairs (Holm)."
    )


def _entry_rows(comparison: Comparison) -> list[list[str]]:
    rows = []
    for entry in comparison.entries:
        patients = entry.scored.patients
        openings = "not counted" if entry.openings is None else f"{entry.openings}×"
        rows.append(
            [
                entry.name, f"{len(entry.scored):,}", "not known" if patients is None else f"{patients:,}",
                entry.stated("protocol"), entry.stated("fingerprint"), openings,
            ]
        )  # fmt: skip
    return rows


def results(comparison: Comparison) -> Section:
    """AUROC and average precision of each model, by finding: on the films of the tests, then on its own where these differ."""
    blocks: list[Block] = []
    if comparison.common_films:
        on = f"on the {count_text(comparison.common_films, 'film')} of all"
        blocks += _level_tables(comparison, comparison.levels, on, comparison.mean_name)
    if comparison.own is not None:
        blocks.append(
            Text(
                "The models were tested on different films or labels. What follows is each model on all its own: other films may be "
                "easier or harder, so these figures are not to be held against each other.",
                "warning",
            )
        )
        blocks += _level_tables(comparison, comparison.own, "of each on all its own films and labels", "mean")
    return Section("results", "Side by side", blocks)


def _level_tables(comparison: Comparison, levels: Sequence[Levels], on: str, mean: str) -> list[Table]:
    columns = ["Finding", *comparison.names]
    means = [of.mean_auroc for of in levels]
    foot = (
        [mean.capitalize(), *(_figure(m.value, m.interval) for m in means)]
        if any(m.value is not None for m in means)
        else ()
    )
    kinds = (
        ("AUROC", [of.auroc for of in levels], foot),
        ("Average precision", [of.average_precision for of in levels], ()),
    )
    return [
        Table(
            f"{kind} {on}, with 95 % intervals",
            columns,
            [[f, *(_figure(t[f].value, t[f].interval) for t in tables)] for f in comparison.findings],
            last,
        )
        for kind, tables, last in kinds
    ]


def differences(comparison: Comparison) -> Section:
    """Every two models: a forest plot of the differences and the table that says the same."""
    blocks: list[Block] = []
    for number, (first, second) in enumerate(combinations(range(len(comparison.entries)), 2)):
        pairs = [p for p in comparison.pairs if (p.first, p.second) == (first, second)]
        if not pairs:
            continue
        title = f"{comparison.names[first]} − {comparison.names[second]}"
        rows = [_difference_row(p, comparison.mean_name) for p in pairs]
        columns = ["Finding", "Difference", "95 % interval", "p", "p (Holm)"]
        table = Table(f"Difference of AUROC: {title}", columns, rows)
        label = f"Differences of AUROC, {title}, with intervals. The table says the same in figures."
        figure = forest_figure(pairs, comparison.mean_name)
        blocks.append(Plot(f"plot-difference-{number}", figure, label, table, wide_table=True))
    if any(p.untested == NO_SPREAD for p in comparison.pairs):
        blocks.append(
            Text(
                f"{NO_SPREAD.capitalize()}: the difference is the same in every draw of patients, so there is nothing to test.",
                "muted",
            )
        )
    if not blocks:
        blocks.append(
            Text("There is nothing to test: no film, or no finding with both classes, is in all models.")
        )
    return Section("differences", "Paired differences", blocks)


def _difference_row(pair: Pair, mean: str) -> list[str]:
    ends = pair.auroc.interval
    row = [pair.finding or mean.capitalize(), _signed(pair.auroc.value)]
    if ends is None:
        return [*row, f"not tested: {pair.untested}"]
    return [*row, f"{_signed(ends[0])} to {_signed(ends[1])}", _p(pair.p), _p(pair.p_holm)]


def curves(comparison: Comparison) -> Section:
    """The ROC curves over each other, a figure for each finding."""
    blocks: list[Block] = []
    for number, finding in enumerate(comparison.findings):
        areas = [
            (name, of.auroc[finding])
            for name, of in zip(comparison.names, comparison.shown_levels, strict=True)
        ]
        if all(figure.value is None for _, figure in areas):
            blocks.append(Text(f"{finding}: {NOT_MEASURABLE}.", "muted"))
            continue
        on = " of each on its own films" if not comparison.common_films else ""
        table = Table(
            f"{finding}: AUROC{on}", ["Model", "AUROC"], [[n, _figure(f.value, f.interval)] for n, f in areas]
        )
        label = f"ROC curves of {finding}. The table says the same in figures."
        blocks.append(Plot(f"plot-overlay-{number}", overlay_figure(comparison, finding), label, table))
    return Section("roc", "ROC curves", blocks)


def _figure(value: float | None, ends: Sequence[float] | None) -> str:
    return area_text(value) + (f" ({ends[0]:.3f}–{ends[1]:.3f})" if ends else "")


def _signed(value: float | None) -> str:
    return NOT_MEASURABLE if value is None else f"{value:+.3f}".replace("-", "−")


def _p(value: float | None) -> str:
    return "–" if value is None else p_text(value).removeprefix("p ")
