"""`compare`: runs or files of predictions side by side, with paired tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ray_cxr.cli.arguments import Json
from ray_cxr.cli.output import number, output, table

if TYPE_CHECKING:
    from rich.table import Table

    from ray_cxr.evaluate.compare import Comparison, Pair


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
    draws: Annotated[int, typer.Option(min=100, help="Draws of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    json_: Json = False,
) -> None:
    """Set results side by side with paired tests; exit 3 where they stand under different protocols."""
    from ray_cxr.console import ConsoleProgress
    from ray_cxr.evaluate.compare import compare as compare_entries
    from ray_cxr.evaluate.compare_inputs import read_entries
    from ray_cxr.evaluate.compare_protocol import refuse_across
    from ray_cxr.report.compare import method_sentence, render_comparison, summary_sentences
    from ray_cxr.storage import Folder

    entries = read_entries(places, labels, patients, split)
    if not across_protocols:
        refuse_across(entries)
    with ConsoleProgress() as progress:
        progress.start("findings", 2 * len(entries) * len(entries[0].scored.findings))
        comparison = compare_entries(entries, draws, seed, progress.advance)
    answer = comparison.as_dict()
    lines: list[str | Table] = [
        *_protocol_lines(comparison),
        _areas_table(comparison),
        *_pair_tables(comparison),
    ]
    lines += [*summary_sentences(comparison), method_sentence(comparison)]
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
        protocol = entry.protocol.get("protocol", "not stated")
        lines.append(f"{entry.name}: {len(entry.scored)} films{who}, protocol {protocol}{opened}")
    for field, values in comparison.differences.items():
        lines.append(f"compared across protocols, as asked; {field}: {' / '.join(values)}")
    if comparison.unequal_labels:
        lines.append(
            f"labels that differ between the models, left out of the tests: {comparison.unequal_labels}"
        )
    return lines


def _areas_table(comparison: Comparison) -> Table:
    rows: list[list[object]] = [
        [f, *(number(a[f].value) for a in comparison.auroc)] for f in comparison.findings
    ]
    rows.append(["mean", *(number(m.value) for m in comparison.mean_auroc)])
    return table("AUROC", ["finding", *comparison.names], rows)


def _pair_tables(comparison: Comparison) -> list[Table]:
    tables = []
    for first, second in dict.fromkeys((p.first, p.second) for p in comparison.pairs):
        pairs = [p for p in comparison.pairs if (p.first, p.second) == (first, second)]
        title = f"{comparison.names[first]} minus {comparison.names[second]}, AUROC on {comparison.common_films} films of all"
        columns = ["finding", "difference", "95 % interval", "p", "p (Holm)"]
        tables.append(table(title, columns, [_pair_row(p) for p in pairs]))
    return tables


def _pair_row(pair: Pair) -> list[object]:
    ends, value = pair.auroc.interval, pair.auroc.value
    return [
        pair.finding or "mean",
        number(value) if value is None else f"{value:+.3f}",
        f"{ends[0]:+.3f} to {ends[1]:+.3f}" if ends else "none",
        _p(pair.p),
        _p(pair.p_holm),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return "none"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
