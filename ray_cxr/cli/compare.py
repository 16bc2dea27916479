"""`compare`: runs or files of predictions side by side, with paired tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ray_cxr.cli.arguments import Draws, Json, Seed
from ray_cxr.cli.output import number, output, table

if TYPE_CHECKING:
    from rich.table import Table

    from ray_cxr.evaluate.compare_result import Comparison, Levels, Pair


def compare(
    places: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs that have been tested, or files of predictions."),
    ],
    labels: Annotated[
        str | None, typer.Option(metavar="L", help="Label table of the files of predictions.")
    ] = None,
    patients: Annotated[
        str | None,
        typer.Option(metavar="CSV", help="Table with columns image_id and patient_id, for the files."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Where comparison.json and index.html go.")
    ] = None,
    across_protocols: Annotated[
        bool, typer.Option("--across-protocols", help="Compare even where films, labels or protocols differ.")
    ] = False,
    split: Annotated[str, typer.Option(help="Which films of the runs: test or validation.")] = "test",
    draws: Draws = 2000,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Set results side by side with paired tests; exit 3 where they stand under different protocols."""
    from ray_cxr.console import ConsoleProgress
    from ray_cxr.evaluate.compare import compare as compare_entries
    from ray_cxr.evaluate.compare_inputs import read_entries
    from ray_cxr.evaluate.compare_protocol import refuse_across
    from ray_cxr.report.compare import few_sentences, method_sentence, render_comparison, summary_sentences
    from ray_cxr.storage import Folder

    entries = read_entries(places, labels, patients, split)
    if not across_protocols:
        refuse_across(entries)
    with ConsoleProgress() as progress:
        comparison = compare_entries(entries, draws, seed, progress.start, progress.advance)
    answer = comparison.as_dict()
    lines: list[str | Table] = [
        *_protocol_lines(comparison),
        *_areas_tables(comparison),
        *_pair_tables(comparison),
        *few_sentences(comparison),
        *summary_sentences(comparison),
        method_sentence(comparison),
    ]
    if out is not None:
        folder = Folder(out)
        folder.write_json("comparison.json", answer)
        folder.write_bytes("index.html", render_comparison(comparison).encode())
        answer["report"] = f"{folder.url}/index.html"
        lines.append(f"report: {answer['report']}")
    output().result(answer, lines)


def _protocol_lines(comparison: Comparison) -> list[str]:
    lines = []
    for entry in comparison.entries:
        who = "" if entry.scored.patients is None else f" of {entry.scored.patients} patients"
        opened = "" if entry.openings is None else f", test split opened {entry.openings}×"
        lines.append(
            f"{entry.name}: {len(entry.scored)} films{who}, protocol {entry.stated('protocol')}{opened}"
        )
    if comparison.differences:
        lines.append(f"compared across protocols, as asked; what differs ({' / '.join(comparison.names)}):")
        lines += [f"  {field}: {' / '.join(values)}" for field, values in comparison.differences.items()]
    if comparison.unequal_labels:
        lines.append(
            f"labels that differ between the models, left out of the tests: {comparison.unequal_labels}"
        )
    return lines


def _areas_tables(comparison: Comparison) -> list[str | Table]:
    """On the films of the tests; on each model's own films beside, where these are others."""
    tables: list[str | Table] = []
    if comparison.common_films:
        title = f"AUROC on the {comparison.common_films} films of all"
        tables.append(_areas_table(title, comparison, comparison.levels, comparison.mean_name))
    if comparison.own is not None:
        tables += [
            "each model on all its own films and labels, so not to be held against each other:",
            _areas_table("AUROC, own films", comparison, comparison.own, "mean"),
        ]
    return tables


def _areas_table(title: str, comparison: Comparison, levels: list[Levels], mean: str) -> Table:
    rows: list[list[object]] = [
        [f, *(number(of.auroc[f].value) for of in levels)] for f in comparison.findings
    ]
    if any(of.mean_auroc.value is not None for of in levels):
        rows.append([mean, *(number(of.mean_auroc.value) for of in levels)])
    return table(title, ["finding", *comparison.names], rows)


def _pair_tables(comparison: Comparison) -> list[Table]:
    tables = []
    for first, second in dict.fromkeys((p.first, p.second) for p in comparison.pairs):
        pairs = [p for p in comparison.pairs if (p.first, p.second) == (first, second)]
        title = f"{comparison.names[first]} minus {comparison.names[second]}: AUROC on the {comparison.common_films} films of all"
        columns = ["finding", "difference", "95 % interval", "p", "p (Holm)"]
        tables.append(table(title, columns, [_pair_row(p, comparison.mean_name) for p in pairs]))
    return tables


def _pair_row(pair: Pair, mean: str) -> list[object]:
    ends, value = pair.auroc.interval, pair.auroc.value
    return [
        pair.finding or mean,
        number(value) if value is None else f"{value:+.3f}",
        f"{ends[0]:+.3f} to {ends[1]:+.3f}" if ends else pair.untested or "none",
        _p(pair.p),
        _p(pair.p_holm),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
