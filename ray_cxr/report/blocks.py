"""The parts that a section of the report is made of: plain data, which the template turns into HTML.

Texts are plain text. The template escapes them; only a figure's texts are escaped by who makes the figure.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

Figure: TypeAlias = dict[str, Any]
"""A plotly figure as JSON: "data" and "layout"."""


@dataclass(frozen=True)
class Text:
    """A paragraph. `lead` is the report's answer, `warning` and `alarm` stand out, a `hint` is not printed.

    A `lesson` says what a figure teaches, to who sees such a figure for the first time.
    """

    kind: ClassVar = "text"
    text: str
    tone: Literal["plain", "lead", "lesson", "muted", "hint", "good", "warning", "alarm"] = "plain"


@dataclass(frozen=True)
class Facts:
    """Names and values, as a definition list; `wide` where values are sentences."""

    kind: ClassVar = "facts"
    facts: Sequence[tuple[str, str]]
    monospace: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A row's first cell is its header, further cells are numbers; in a short row the last cell takes the rest."""

    kind: ClassVar = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: Sequence[str] = ()


@dataclass(frozen=True)
class Plot:
    """A figure, and the table beside it that says the same to who cannot see the figure or prints without it.

    wide_table: the table stands below the figure.
    """

    kind: ClassVar = "plot"
    identifier: str
    figure: Figure
    label: str
    table: Table
    wide_table: bool = False


@dataclass(frozen=True)
class Panel:
    """A small figure among others of its kind, under its own heading."""

    identifier: str
    heading: str
    figure: Figure
    label: str


@dataclass(frozen=True)
class Panels:
    """Small figures side by side, one for each finding, and the table that says the same."""

    kind: ClassVar = "panels"
    panels: Sequence[Panel]
    table: Table


@dataclass(frozen=True)
class Code:
    """A text as it is in a file."""

    kind: ClassVar = "code"
    text: str


@dataclass(frozen=True)
class Fold:
    """A block that the reader opens."""

    kind: ClassVar = "fold"
    summary: str
    block: Table | Code | HeatTable


@dataclass(frozen=True)
class HeatCell:
    """A figure on a ground whose strength is `heat`, 0..1; what is `small` stands below it."""

    text: str
    heat: float
    small: str = ""


@dataclass(frozen=True)
class HeatTable:
    """A table whose cells are tinted: a heat map that can be read, copied and printed."""

    kind: ClassVar = "heat"
    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell]]]

    @property
    def upright_heads(self) -> bool:
        """Many long names fit above narrow columns only when they are turned."""
        return len(self.columns) > 6 and max(map(len, self.columns)) > 8


@dataclass(frozen=True)
class Picture:
    """A film as PNG, what stands below it, and what is said of it to who cannot see it. No film is named."""

    png: bytes
    caption: str
    spoken: str

    @property
    def data_uri(self) -> str:
        """The film inside the page, so that the page asks for nothing."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Pictures:
    """Films in a row under a heading; `wide` ones are shown in full size."""

    kind: ClassVar = "pictures"
    heading: str
    pictures: Sequence[Picture]
    wide: bool = False


Block: TypeAlias = Text | Facts | Table | Plot | Panels | Fold | HeatTable | Pictures | Code


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; `anchor` is the name in links."""

    anchor: str
    heading: str
    blocks: Sequence[Block]

    @property
    def plots(self) -> list[Plot | Panel]:
        """The figures of the section, to be drawn when the page is open."""
        found: list[Plot | Panel] = []
        for block in self.blocks:
            if isinstance(block, Plot):
                found.append(block)
            elif isinstance(block, Panels):
                found += block.panels
        return found
