"""Any table as text: CSV, TSV (plain or .gz) or Parquet, whatever its separator, checked byte by byte.

Reads: a file (local path or URL). Gives: a DataFrame of str, a row per row of the table, blank cells "".
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from typing import NoReturn

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ray_cxr.errors import InputError
from ray_cxr.labels.names import nearest
from ray_cxr.parquet import holds_objects
from ray_cxr.urls import REFUSED_URL, holds_secret

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_FOREIGN = {
    b"PK\x03\x04": "an Excel or zip file; save the sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV (UTF-8)",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8",
    b"%PDF": "a PDF file; give a CSV table",
    b"{": "JSON; save it as CSV",
    b"\x89PNG": "a picture; give a CSV table",
}


def read_text_table(path: str, setting: str = "source.labels") -> pd.DataFrame:
    """The table at `path`; column names without spaces around them, cells as they stand.

    Raises InputError, which names `setting`, the path and what is wrong, in one sentence.
    """
    if holds_secret(path):
        raise InputError(f"{setting}: {REFUSED_URL}.")
    where = f"{setting}: {path!r}"
    data = _read(path, where)
    if data.startswith(b"PAR1"):
        return _from_parquet(data, where)
    if path.endswith((".parquet", ".parquet.gz")):
        raise InputError(
            f"{where} is no Parquet table (it does not begin with PAR1); write it again, or give CSV a name in .csv."
        )
    text = _text(data, where)
    separator = _separator(text, path, where)
    names, header_lines = _header(text, separator)
    if len(names) < 2:
        raise InputError(
            f"{where} has one column only ({names[0][:40]!r}); columns are told apart by {', '.join(SEPARATORS.values())}."
        )
    table = _parse(text, separator, len(names), header_lines, where)
    if '"' in text and text.count('"') % 2 and any("\n" in str(column[-1]) for column in table.columns):
        raise InputError(
            f"{where} cannot be read as a CSV table: a quotation mark is opened and never closed."
        )
    frame: pd.DataFrame = table.to_pandas()
    frame.columns = pd.Index([name.strip() for name in names])
    return frame


def require(frame: pd.DataFrame, columns: Sequence[str], where: str, hint: str = "") -> None:
    """Raises InputError where the table lacks one of these columns, or has it twice."""
    for column in columns:
        count = int((frame.columns == column).sum())
        if count > 1:
            raise InputError(f"{where} has {count} columns {column!r}; give each a name of its own.")
        if not count:
            close = nearest(column, list(frame.columns))
            near = f"; did you mean {close!r}?" if close else f"; it has {listed(list(frame.columns))}."
            raise InputError(f"{where} has no column {column!r}{hint}{near}")


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names as text, the first `most` of them."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + rest


def _read(path: str, where: str) -> bytes:
    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read()
    except FileNotFoundError:
        raise InputError(f"{where} does not exist; give the path of a table (CSV, TSV, Parquet).") from None
    except IsADirectoryError:
        raise InputError(f"{where} is a folder; give the path of a table (CSV, TSV, Parquet).") from None
    except (OSError, ValueError, ImportError) as error:
        _unreadable(where, getattr(error, "strerror", None) or str(error))
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except EOFError:
            _unreadable(where, "the compressed file is cut off; fetch it again")
        except (OSError, zlib.error):
            _unreadable(where, "the compressed file is damaged; fetch it again")
    elif path.endswith(".gz"):
        _unreadable(where, "its name ends in .gz, but it is not compressed; rename it")
    if not data.strip():
        raise InputError(f"{where} is empty; give a table with a row of column names and a row per film.")
    return data


def _unreadable(where: str, reason: str) -> NoReturn:
    raise InputError(
        f"{where} cannot be read as a CSV table: {reason.splitlines()[0].rstrip('.')}."
    ) from None


def _from_parquet(data: bytes, where: str) -> pd.DataFrame:
    try:
        table = pq.read_table(io.BytesIO(data))  # a column of objects is left out below, not looked into
    except (pa.ArrowException, OSError):
        raise InputError(
            f"{where} cannot be read as a Parquet table: it is damaged; write it again."
        ) from None
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if holds_objects(column.type):
            continue
        try:
            flat = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            columns[name] = flat.cast(pa.string()).fill_null("")
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            continue  # a column of lists or bytes holds neither a name nor a label
    frame: pd.DataFrame = pa.table(columns).to_pandas()
    if frame.empty:
        raise InputError(f"{where} holds no row; give a table with a row per film.")
    return frame


def _text(data: bytes, where: str) -> str:
    for magic, what in _FOREIGN.items():
        if data.startswith(magic):
            _unreadable(where, f"it is {what}")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        _unreadable(where, f"line {line} holds NUL bytes, so it is damaged or no text; save it as UTF-8 text")
    try:
        return data.decode("utf-8-sig").lstrip("\r\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        _unreadable(
            where, f"line {line} is not UTF-8 text (byte 0x{data[error.start]:02X}); save the table as UTF-8"
        )


def _separator(text: str, path: str, where: str) -> str:
    """The separator that the first line holds most of, outside quotation marks."""
    first = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", text, maxsplit=1)[0])
    best = max(SEPARATORS, key=first.count)
    if not first.count(best):
        return "\t" if re.search(r"\.tsv(\.gz)?$", path) else ","
    return best


def _header(text: str, separator: str) -> tuple[list[str], int]:
    """The column names, and the number of lines they take.

    Some published tables end their header or all of their rows in one more separator (NIH's of 2017 does): it is no
    column.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names, lines = [name.strip() for name in next(rows)], rows.line_num
    first = next(rows, names)
    if len(first) == len(names) + 1 and not first[-1]:
        names.append("")
    elif len(first) == len(names) - 1 and not names[-1]:
        names.pop()
    return names, lines


def _parse(text: str, separator: str, width: int, header_lines: int, where: str) -> pa.Table:
    ragged: list[tuple[int, int]] = []

    def keep_count(row: pa.csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns))
        return "skip"

    names = [f"c{n}" for n in range(width)]
    try:
        table = pa.csv.read_csv(
            io.BytesIO(f"{text}\n".encode()),
            # Threads would take the row numbers away.
            read_options=pa.csv.ReadOptions(
                use_threads=False,
                column_names=names,
                skip_rows=header_lines,
                block_size=min(4 * len(text) + 2, 2**30),
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=keep_count
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            _unreadable(where, str(error))
        table = pa.table(dict.fromkeys(names, pa.array([], pa.string())))
    if ragged:
        number, fields = ragged[0]
        raise InputError(
            f"{where} has {len(ragged)} rows of another length than its header (first: line {number}, with {fields} "
            f"cells instead of {width}); mend them, or quote the cells that hold a separator."
        )
    if not table.num_rows:
        raise InputError(f"{where} holds column names but no row; give a table with a row per film.")
    return table
