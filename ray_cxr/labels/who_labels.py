"""Who labels what: a table of sources × findings, for a person."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def label_lines(
    sources: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]], findings: Sequence[str]
) -> list[str]:
    """Lines of text: per finding and source, positive / labelled films. sources: name → (labelled, positives)."""
    table = Table("positive / labelled", box=box.SIMPLE_HEAD)
    for source in sources:
        table.add_column(source, justify="right")
    for finding in findings:
        cells = [
            f"{positives[finding]:,} / {labelled[finding]:,}" if labelled[finding] else "–"
            for labelled, positives in sources.values()
        ]
        table.add_row(finding, *cells)
    text = io.StringIO()
    Console(file=text, width=30 + 20 * (len(sources) + 1), color_system=None).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
