"""Tables that somebody else has made: nothing in them is run."""

import ast
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_cxr.errors import RefusedError
from ray_cxr.labels.text_table import read_text_table
from ray_cxr.parquet import open_table, read_frame, read_table

PACKAGE = Path(__file__).resolve().parent.parent / "ray_cxr"
PICKLED = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.trace,)


def _table(trace: Path) -> bytes:
    """A table of ids with a column of Ray Data's that holds pickles, as its bytes."""
    import ray.data  # noqa: F401  makes the type known to Arrow, as a training does

    columns = [pa.array(["1.png", "2.png"]), pa.array([pickle.dumps(Bomb(trace))] * 2, pa.large_binary())]
    fields = [pa.field("image_id", pa.string()), pa.field("Mass", pa.large_binary(), metadata=PICKLED)]
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), sink)
    return sink.getvalue()


def test_such_a_table_runs_code_where_it_is_read_as_usual(tmp_path: Path) -> None:
    """Or the tests below would show nothing."""
    pd.read_parquet(io.BytesIO(_table(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("read", [
    lambda data: read_frame(data, "index.parquet"),
    lambda data: read_table(io.BytesIO(data), "index.parquet"),
    lambda data: open_table(io.BytesIO(data), "index.parquet"),
])  # fmt: skip
def test_it_is_refused_by_name(tmp_path: Path, read: Callable[[bytes], object]) -> None:
    with pytest.raises(RefusedError, match=r"^index\.parquet: the column 'Mass' holds objects of Python"):
        read(_table(tmp_path / "trace"))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("wrap", [
    pa.list_,
    lambda kind: pa.struct({"a": pa.int8(), "b": kind}),
    lambda kind: pa.map_(pa.string(), kind),
    lambda kind: pa.dictionary(pa.int8(), kind),
])  # fmt: skip
def test_it_is_found_inside_other_types(wrap: Callable[[pa.DataType], pa.DataType]) -> None:
    from ray_cxr.parquet import holds_objects

    inside = pq.read_schema(io.BytesIO(_table(Path("never")))).field("Mass").type
    assert holds_objects(wrap(inside))
    assert not holds_objects(wrap(pa.large_binary()))


def test_a_table_of_labels_is_read_without_that_column(tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_bytes(_table(tmp_path / "trace"))
    assert list(read_text_table(str(tmp_path / "labels.parquet")).columns) == ["image_id"]
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("columns", [None, ["a", "c"]])
def test_a_table_of_plain_columns_is_what_pandas_reads(columns: list[str] | None) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])})
    data = frame.to_parquet(index=False)
    assert data is not None
    pd.testing.assert_frame_equal(
        read_frame(data, "t", columns), pd.read_parquet(io.BytesIO(data), columns=columns)
    )
    assert read_table(io.BytesIO(data), "t", columns).column_names == (columns or ["a", "b", "c"])


READERS = {"read_parquet", "ParquetFile", "ParquetDataset", "read_feather", "open_file", "open_stream"}


def _reads(source: str) -> set[str]:
    """Functions of pandas and Arrow that read tables of bytes from elsewhere."""
    called = {n.func for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)}
    found = {f.attr for f in called if isinstance(f, ast.Attribute) and f.attr in READERS}
    return found | {
        f"pq.{f.attr}" for f in called if isinstance(f, ast.Attribute) and ast.unparse(f) == "pq.read_table"
    }


def test_all_modules_read_tables_through_one() -> None:
    found = {str(p.relative_to(PACKAGE)): _reads(p.read_text()) for p in PACKAGE.rglob("*.py")}
    found = {name: reads for name, reads in found.items() if reads}
    # A user's table of labels has any columns; those with objects are left out, as tested above.
    assert found == {"parquet.py": {"read_parquet", "ParquetFile"}, "labels/text_table.py": {"pq.read_table"}}
