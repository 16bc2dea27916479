"""Results on stdout: a few lines for a person, or with `--json` exactly one JSON object and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.table import Table


class Output(AbstractContextManager["Output"]):
    """Where a command's result goes. With `as_json`, whatever else is printed to stdout lands on stderr.

    Also what libraries and their child processes print: the file descriptor itself is moved.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._written = False
        self._stdout: int | None = None
        self._python_stdout = sys.stdout

    def __enter__(self) -> Output:
        if self.as_json:
            sys.stdout.flush()
            self._stdout = os.dup(1)
            os.dup2(2, 1)
            self._python_stdout, sys.stdout = sys.stdout, sys.stderr
        return self

    def __exit__(self, *exc: object) -> None:
        if self._stdout is not None:
            sys.stdout = self._python_stdout
            os.dup2(self._stdout, 1)
            os.close(self._stdout)
            self._stdout = None

    @property
    def written(self) -> bool:
        """Whether the result is out."""
        return self._written

    def result(self, value: dict[str, Any], lines: Sequence[str | Table] = ()) -> None:
        """The command's one result: the object under `--json`, the lines or tables otherwise."""
        if self._written:
            raise AssertionError("a command gives one result")
        self._written = True
        if not self.as_json:
            console = Console(highlight=False)
            for line in lines:
                console.print(line, markup=False, soft_wrap=isinstance(line, str))
            return
        data = (json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n").encode()
        os.write(self._stdout if self._stdout is not None else 1, data)

    def failure(self, message: str, exit_code: int) -> None:
        """A sentence on stderr and, under `--json`, the object that says so."""
        print(f"ray-cxr: {message}", file=sys.stderr)
        if self.as_json and not self._written:
            self.result({"error": message, "exit_code": exit_code})


_current: list[Output] = []


def output() -> Output:
    """The output of the running command."""
    return _current[-1]


def use_output(value: Output) -> None:
    """Makes this the output of the running command."""
    _current[:] = [value]


def number(value: float | None) -> str:
    """A figure for a person: three digits, or that it cannot be measured."""
    return "not measurable" if value is None else f"{value:.3f}"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose first column is text and whose others are figures."""
    made = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        # Where it is narrow, a long word goes on in the next line; by default rich cuts it.
        made.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    return made
