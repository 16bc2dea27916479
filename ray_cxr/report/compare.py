"""The page of a comparison: what was compared under which protocol, figures side by side, paired differences, curves.

Gives: one HTML file as `html` makes them; it holds no id of a film or patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from ray_cxr.evaluate.compare import Comparison, Pair
from ray_cxr.evaluate.compare_protocol import NOT_STATED
from ray_cxr.report.blocks import Block, Plot, Section, Table, Text
from ray_cxr.report.compare_figures import forest_figure, overlay_figure
from ray_cxr.report.html import render_page
from ray_cxr.report.origin_sections import leak_text
from ray_cxr.report.words import NOT_MEASURABLE, area_text, count_text

SIGNIFICANT = 0.05


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
    return [_pair_sentence(comparison, p) for p in comparison.pairs if p.finding is None]


def _pair_sentence(comparison: Comparison, pair: Pair) -> str:
    names, value, ends = comparison.names, pair.auroc.value, pair.auroc.interval
    if value is None or ends is None or pair.p_holm is None:
        return f"{names[pair.first]} and {names[pair.second]} cannot be tested against each other."
    better, worse = (pair.first, pair.second) if value >= 0 else (pair.second, pair.first)
    low, high = ends if value >= 0 else (-ends[1], -ends[0])
    spread = f"{abs(value):.3f} (95 % interval {low:.3f} to {high:.3f}, p {_p(pair.p_holm)})".replace(
        "-", "−"
    )
    if pair.p_holm < SIGNIFICANT:
        return f"{names[better]} has the higher mean AUROC than {names[worse]}, by {spread}."
    return f"{names[better]} and {names[worse]} are not shown to differ: the mean AUROC differs by {spread}."


def summary(comparison: Comparison) -> Section:
    """The answer, what was compared, and what makes the comparison weak."""
    films = count_text(comparison.common_films, "film")
    said = summary_sentences(comparison) or ["The models have no film in common, so nothing can be tested."]
    blocks: list[Block] = [Text(sentence, "lead") for sentence in said]
    blocks.append(Text(f"Tested on {films} that all models scored. {method_sentence(comparison)}"))
    if comparison.differences:
        listed = "; ".join(
            f"{field} ({' / '.join(values)})" for field, values in comparison.differences.items()
        )
        blocks.append(
            Text(
                f"Compared across protocols, as asked: {listed}. A difference may come from the test.",
                "warning",
            )
        )
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
                str(entry.protocol.get("protocol", NOT_STATED)), str(entry.protocol.get("fingerprint", NOT_STATED))[:12], openings,
            ]
        )  # fmt: skip
    return rows


def results(comparison: Comparison) -> Section:
    """AUROC and average precision of each model, by finding, each on its own films."""
    blocks: list[Block] = []
    for caption, tables in (("AUROC", comparison.auroc), ("Average precision", comparison.average_precision)):
        rows = [[f, *(_figure(t[f].value, t[f].interval) for t in tables)] for f in comparison.findings]
        foot = (
            ["Mean", *(_figure(m.value, m.interval) for m in comparison.mean_auroc)]
            if caption == "AUROC"
            else ()
        )
        blocks.append(Table(f"{caption}, with 95 % intervals", ["Finding", *comparison.names], rows, foot))
    return Section("results", "Side by side", blocks)


def differences(comparison: Comparison) -> Section:
    """Every two models: a forest plot of the differences and the table that says the same."""
    blocks: list[Block] = []
    for number, (first, second) in enumerate(combinations(range(len(comparison.entries)), 2)):
        pairs = [p for p in comparison.pairs if (p.first, p.second) == (first, second)]
        if not pairs:
            continue
        title = f"{comparison.names[first]} − {comparison.names[second]}"
        rows = [_difference_row(p) for p in pairs]
        table = Table(f"Difference of AUROC: {title}", ["Finding", "Difference", "p (Holm)"], rows)
        label = f"Differences of AUROC, {title}, with intervals. The table says the same in figures."
        blocks.append(Plot(f"plot-difference-{number}", forest_figure(pairs), label, table))
    if not blocks:
        blocks.append(
            Text("There is nothing to test: no film, or no finding with both classes, is in all models.")
        )
    return Section("differences", "Paired differences", blocks)


def _difference_row(pair: Pair) -> list[str]:
    ends = pair.auroc.interval
    spread = f" ({_signed(ends[0])}, {_signed(ends[1])})" if ends else ""
    return [pair.finding or "Mean over findings", _signed(pair.auroc.value) + spread, _p(pair.p_holm)]


def curves(comparison: Comparison) -> Section:
    """The ROC curves over each other, a figure for each finding."""
    blocks: list[Block] = []
    for number, finding in enumerate(comparison.findings):
        areas = [(name, a[finding]) for name, a in zip(comparison.names, comparison.auroc, strict=True)]
        if all(figure.value is None for _, figure in areas):
            blocks.append(Text(f"{finding}: {NOT_MEASURABLE}.", "muted"))
            continue
        table = Table(
            f"{finding}: AUROC", ["Model", "AUROC"], [[n, _figure(f.value, f.interval)] for n, f in areas]
        )
        label = f"ROC curves of {finding}. The table says the same in figures."
        blocks.append(Plot(f"plot-overlay-{number}", overlay_figure(comparison, finding), label, table))
    return Section("roc", "ROC curves", blocks)


def _figure(value: float | None, ends: Sequence[float] | None) -> str:
    return area_text(value) + (f" ({ends[0]:.3f}–{ends[1]:.3f})" if ends else "")


def _signed(value: float | None) -> str:
    return NOT_MEASURABLE if value is None else f"{value:+.3f}".replace("-", "−")


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
