"""Options of `evaluate` about readers, and its work where there are readers but no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ray_cxr.cli.output import table
from ray_cxr.errors import InputError
from ray_cxr.storage import Folder

if TYPE_CHECKING:
    from rich.table import Table

    from ray_cxr.evaluate.figures import Choices
    from ray_cxr.evaluate.readers_files import ReaderFiles

PANEL = "Readers"
Choice = Literal["positive", "negative", "exclude"]

Readers = Annotated[
    list[str] | None,
    typer.Option("--readers", metavar="TABLE", rich_help_panel=PANEL, help="A row per reader and film, or a table for each reader; repeat it."),
]  # fmt: skip
ReferenceReaders = Annotated[
    str | None,
    typer.Option(metavar="NAMES", rich_help_panel=PANEL, help="Readers who made the labels: names with commas, or all."),
]  # fmt: skip
Method = Annotated[
    Literal["majority", "unanimous"],
    typer.Option("--consensus", rich_help_panel=PANEL, help="How answers become a label."),
]
Ties = Annotated[Choice, typer.Option(rich_help_panel=PANEL, help="What a tie becomes.")]
Uncertain = Annotated[Choice, typer.Option(rich_help_panel=PANEL, help="What an uncertain answer counts as.")]
Definitive = Annotated[
    list[str] | None,
    typer.Option(metavar="FINDING=COLUMN", rich_help_panel=PANEL, help="Column of the reader tables with a test that overrides readers (CT, biopsy)."),
]  # fmt: skip
Remainder = Annotated[
    str | None,
    typer.Option(metavar="OTHER=ABNORMAL", rich_help_panel=PANEL, help="OTHER is present, too, where ABNORMAL is and no other finding."),
]  # fmt: skip
LeaveOneOut = Annotated[
    bool,
    typer.Option("--leave-one-out/--no-leave-one-out", rich_help_panel=PANEL, help="Hold a reader who made the labels against the others."),
]  # fmt: skip
Margin = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, rich_help_panel=PANEL, help="Test non-inferiority by this much sensitivity."
    ),
]
ReaderNames = Annotated[
    bool,
    typer.Option(
        "--reader-names", rich_help_panel=PANEL, help="Show readers by their names, not by numbers."
    ),
]


def reader_files(
    readers: Sequence[str] | None, reference: str | None, method: Literal["majority", "unanimous"], ties: Choice,
    uncertain: Choice, definitive: Sequence[str] | None, remainder: str | None, leave_one_out: bool,
    margin: float | None, names: bool,
) -> ReaderFiles | None:  # fmt: skip
    """What was asked about readers; None where there are none. InputError for an option that needs readers, or a bad one."""
    from ray_cxr.evaluate.consensus import Rule
    from ray_cxr.evaluate.readers_files import ReaderFiles
    from ray_cxr.evaluate.readers_result import ReaderOptions

    if not readers:
        given = {
            "--reference-readers": reference,
            "--definitive": definitive,
            "--remainder": remainder,
            "--margin": margin,
        }
        unused = [option for option, value in given.items() if value]
        if unused:
            raise InputError(f"{unused[0]}: there are no --readers to go with it.")
        return None
    tests = dict(_pair("--definitive", text, "FINDING=COLUMN") for text in definitive or ())
    rest = _pair("--remainder", remainder, "OTHER=ABNORMAL") if remainder else None
    wanted = tuple(n.strip() for n in reference.split(",") if n.strip()) if reference else ()
    rule = Rule(method, ties, uncertain, tests, rest)
    return ReaderFiles(tuple(readers), ReaderOptions(rule, wanted, leave_one_out, margin, names))


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    left, _, right = text.partition("=")
    if not left.strip() or not right.strip():
        raise InputError(
            f"{option}: got {text!r}; write {form}, such as {'Mass=CT' if option == '--definitive' else 'Other=Abnormal'}."
        )
    return left.strip(), right.strip()


def readers_alone(
    files: ReaderFiles, labels: str | None, out: str | None, choices: Choices
) -> tuple[dict[str, Any], list[str | Table]]:
    """`evaluate --readers R [--labels L]`: agreement, consensus table and a page; gives the result and its lines."""
    from ray_cxr.evaluate.from_files import check_out, default_out
    from ray_cxr.evaluate.readers_files import study_alone, write_consensus
    from ray_cxr.report.html import render_page
    from ray_cxr.report.reader_sections import reader_sections

    readings = files.read(make_labels=False)
    folder = Folder(out or default_out(files.tables[0]))
    check_out(folder)
    result = study_alone(readings, labels, files.options, choices)
    made = write_consensus(folder, readings, files.options)
    figures = result.as_dict()
    folder.write_json("readers.json", figures)
    page = render_page("readers.html.jinja", folder.url.rsplit("/", 1)[-1], reader_sections(result), None)
    (folder / "report").write_bytes("index.html", page.encode())
    report = f"{folder.url}/report/index.html"
    lines = [*reader_lines(figures), f"consensus: {made}", f"report: {report}"]
    return {"out": folder.url, "report": report, "consensus": made, "readers": figures}, lines


def reader_lines(figures: dict[str, Any]) -> list[str | Table]:
    """What a terminal shows of the readers, from `ReaderResult.as_dict`."""
    rows: list[list[object]] = [
        [f, *(_value(a[n]) for n in ("observed", "positive", "fleiss", "krippendorff", "mean_cohen"))]
        for f, a in figures["agreement"].items()
    ]
    columns = [
        "finding", "pairs that\nagree", "… on\na yes", "Fleiss\nkappa", "Krippendorff\nalpha", "mean Cohen\nkappa",
    ]  # fmt: skip
    title = f"Agreement of {len(figures['readers'])} readers on {figures['films']} films"
    lines: list[str | Table] = [table(title, columns, rows), *_twice_lines(figures["self_agreement"])]
    lines.append(f"consensus: {figures['rule']['sentence']}")
    for key, words in (
        ("films_unread", "films of the test that nobody read, and that are left out beside readers"),
        ("films_without_test", "films that were read, but are not tested or labelled"),
    ):
        if figures[key]:
            lines.append(f"{words}: {figures[key]}")
    if figures["differences"]:
        lines.append(_difference_table(figures["differences"]))
    if figures["model"]:
        lines += [_model_table(figures), _reference_line(figures["reference"])]
    return lines


def _twice_lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """What readers said twice of one film, where one did."""
    twice, same = (sum(f[key] for f in found.values()) for key in ("read_twice", "same_answer"))
    if not twice:
        return []
    contradicted = [
        f"{f} {c['read_twice'] - c['same_answer']}"
        for f, c in found.items()
        if c["read_twice"] > c["same_answer"]
    ]
    line = (
        f"answers that one reader gave to one film more than once: {twice:,}, contradictory {twice - same:,}"
    )
    return [line + (f" (these count as uncertain: {', '.join(contradicted)})" if contradicted else "")]


def _difference_table(differences: dict[str, dict[str, int]]) -> Table:
    keys = {
        "both_positive": "both\nyes", "both_negative": "both\nno", "only_ours": "yes,\nlabel no",
        "only_theirs": "no,\nlabel yes", "undecided_positive": "none,\nlabel yes", "undecided_negative": "none,\nlabel no",
    }  # fmt: skip
    rows: list[list[object]] = [[f, *(counts[k] for k in keys)] for f, counts in differences.items()]
    return table("Consensus (named first) against the labels, films", ["finding", *keys.values()], rows)


def _model_table(figures: dict[str, Any]) -> Table:
    rows: list[list[object]] = []
    for finding, study in figures["model"].items():
        mean = study["mean_reader"]
        under = f"{study['under_curve']} of {study['measurable_readers']}"
        if mean is None:
            rows.append([finding, under, "not measurable", "", ""])
            continue
        ends = mean["difference"]["interval"]
        spread = f" ({ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""
        untested = "" if mean["margin"] is None else "not tested"
        verdict = {True: "yes", False: "not shown", None: untested}[mean["non_inferior"]]
        point = f"{mean['sensitivity']:.3f} / {mean['specificity']:.3f}"
        rows.append([finding, under, point, f"{mean['difference']['value']:+.3f}{spread}", verdict])
    columns = [
        "finding",
        "under\ncurve",
        "mean reader\nsens. / spec.",
        "model − mean reader",
        "non-\ninferior",
    ]
    return table("The model beside the readers (how many of them lie under its curve)", columns, rows)


def _reference_line(reference: dict[str, Any]) -> str:
    if not reference["made_by"]:
        return f"the labels are {reference['known_by']}"
    names = ", ".join(reference["made_by"])
    return f"the labels were made by {names} ({reference['known_by']}); each of them is held against the others' consensus"


def _value(figure: dict[str, Any]) -> str:
    return "not measurable" if figure["value"] is None else f"{figure['value']:.3f}"
