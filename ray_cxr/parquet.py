"""Reads Parquet tables of which somebody else may have made any byte. All other modules read them through this one.

Ray Data registers a type of column with Arrow whose values are pickles, and loads them as soon as a table becomes a data frame or a
list. So a data set, a run or a shard that a stranger hands over could run code. Columns of a type that Python defines are refused.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ray_cxr.errors import RefusedError


def read_frame(data: bytes, where: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of a file's bytes. where: its name, for messages. Raises RefusedError, and what Arrow raises for damage."""
    refuse_objects(pq.read_schema(io.BytesIO(data)), where)
    return pd.read_parquet(io.BytesIO(data), columns=None if columns is None else list(columns))


def open_table(file: IO[bytes], where: str, *, pre_buffer: bool = False) -> pq.ParquetFile:
    """A file whose groups of rows are to be read, with the checksums of its pages. Raises as `read_frame`.

    pre_buffer: what lies side by side is fetched at once, ahead of its use.
    """
    opened = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=pre_buffer)
    refuse_objects(opened.schema_arrow, where)
    return opened


def read_table(file: IO[bytes], where: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The columns of a file, read in this thread, with the checksums of its pages. Raises as `read_frame`."""
    return open_table(file, where).read(None if columns is None else list(columns), use_threads=False)


def refuse_objects(schema: pa.Schema, where: str) -> None:
    """Raises RefusedError where a column would be made into objects of Python by what is written in it."""
    for column in schema:
        if holds_objects(column.type):
            raise RefusedError(
                f"{where}: the column {column.name!r} holds objects of Python, and reading them could run code; do not use this file "
                "unless you know who made it, and write it anew without that column."
            )


def holds_objects(kind: Any) -> bool:
    """Whether a type, or one inside it, is one that Python defines."""
    if isinstance(kind, pa.BaseExtensionType):
        return isinstance(kind, pa.ExtensionType) or holds_objects(kind.storage_type)
    if pa.types.is_dictionary(kind):  # it counts no types inside
        return holds_objects(kind.value_type)
    return any(holds_objects(kind.field(n).type) for n in range(kind.num_fields))
