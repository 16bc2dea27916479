"""Tables as text, on real bytes: what is read, and the one sentence for what is not."""

import gzip
import io
from pathlib import Path

import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.labels.text_table import read_text_table, require


def _read(tmp_path: Path, data: bytes, name: str = "table.csv") -> dict[str, list[str]]:
    path = tmp_path / name
    path.write_bytes(data)
    frame = read_text_table(str(path))
    return {str(c): frame[c].tolist() for c in frame.columns}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"a,b\n1,2\n3,4\n", "t.csv"),
        (b"a,b\n1,2\n3,4", "t.csv"),
        (b"a,b\r\n1,2\r\n3,4\r\n", "t.csv"),
        (b"a,b\r1,2\r3,4\r", "t.csv"),
        (b"\xef\xbb\xbf a , b\n1,2\n\n3,4\n\n", "t.csv"),
        (b'"a","b"\n"1","2"\n3,"4"\n', "t.csv"),
        (b"a\tb\n1\t2\n3\t4\n", "t.tsv"),
        (b"a;b\n1;2\n3;4\n", "t.csv"),
        (b"a|b\n1|2\n3|4\n", "t.txt"),
        (gzip.compress(b"a,b\n1,2\n3,4\n"), "t.csv.gz"),
        (gzip.compress(b"a\tb\n1\t2\n3\t4\n"), "without a suffix"),
    ],
)
def test_the_same_table_in_many_forms(tmp_path: Path, data: bytes, name: str) -> None:
    assert _read(tmp_path, data, name) == {"a": ["1", "3"], "b": ["2", "4"]}


@pytest.mark.parametrize("data", [b"a,b,\n1,2\n3,4\n", b"a,b\n1,2,\n3,4,\n", b"a,b,\n1,2,\n3,4,\n"])
def test_a_separator_at_the_end_shifts_no_column(tmp_path: Path, data: bytes) -> None:
    table = _read(tmp_path, data)
    assert (table["a"], table["b"]) == (["1", "3"], ["2", "4"])


def test_cells_stay_as_they_are_written(tmp_path: Path) -> None:
    data = b'id,text\n007,"a, ""b""\nc"\nNA,\n1e5,5" film\n'
    assert _read(tmp_path, data) == {"id": ["007", "NA", "1e5"], "text": ['a, "b"\nc', "", '5" film']}


def test_parquet_keeps_whole_numbers_whole(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pd.DataFrame(
        {
            "id": pd.array([13, None], dtype="Int64"),
            "mass": [1.0, -1.0],
            "edema": [True, None],
            "view": pd.Categorical(["PA", "AP"]),
            "boxes": [[1, 2], [3]],
        }
    ).to_parquet(buffer)
    assert _read(tmp_path, buffer.getvalue(), "t.parquet") == {
        "id": ["13", ""], "mass": ["1", "-1"], "edema": ["true", ""], "view": ["PA", "AP"],
    }  # fmt: skip


_GOOD = gzip.compress(b"a,b\n" + b"".join(b"%d,2\n" % n for n in range(5000)))


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("t.csv", b"", "is empty; give a table"),
        ("t.csv", b" \n\n", "is empty; give a table"),
        ("t.csv", b"a,b\n", "holds column names but no row"),
        ("t.csv", b"a,b", "holds column names but no row"),
        ("t.csv", b"a b\n1 2\n", r"has one column only \('a b'\); columns are told apart by commas, tabs, semicolons, bars"),
        ("t.csv", b"a^b^c\n1^2^3\n", "has one column only"),
        ("t.csv", b"a,b\n1,2\n3\n4,5,6\n", r"has 2 rows of another length than its header \(first: line 3, with 1 cells instead of 2\)"),
        ("t.csv", b'a,b\n1,"2\n3,4\n', "a quotation mark is opened and never closed"),
        ("t.csv", "a,b\nJosé,1\n".encode("latin-1"), r"line 2 is not UTF-8 text \(byte 0xE9\); save the table as UTF-8"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "it is text in UTF-16; save it as UTF-8"),
        ("t.csv", b"a,b\n1,2\n\0\0\0\0", "line 3 holds NUL bytes"),
        ("t.csv", b"PK\x03\x04\x14\0", "it is an Excel or zip file; save the sheet as CSV"),
        ("t.csv", b"\x89PNG\r\n\x1a\n", "it is a picture"),
        ("t.csv.gz", b"a,b\n1,2\n", "its name ends in .gz, but it is not compressed"),
        ("t.csv.gz", _GOOD[: len(_GOOD) // 2], "the compressed file is cut off; fetch it again"),
        ("t.csv.gz", _GOOD[:2000] + b"\xff\xff\xff\xff" + _GOOD[2004:], "the compressed file is damaged"),
        ("t.json", b'{"a":{"0":1},"b":{"0":2}}', "it is JSON; save it as CSV"),
        ("t.parquet", b"a,b\n1,2\n", "is no Parquet table"),
        ("t.parquet", b"PAR1 cut off", "cannot be read as a Parquet table: it is damaged"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^source.labels: '.*{name}' .*{sentence}") as caught:
        _read(tmp_path, data, name)
    message = caught.value.message
    assert message.endswith(".") and "\n" not in message
    assert not any(word in message for word in ("pandas", "Error", "tokeniz", "ParserE", "Arrow"))


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; give the path of a table"):
        read_text_table(str(tmp_path / "nothing.csv"))
    with pytest.raises(InputError, match="is a folder; give the path of a table"):
        read_text_table(str(tmp_path))


def test_columns_that_are_needed() -> None:
    frame = pd.DataFrame([["1", "2", "3"]], columns=["Patient ID", "Mass", "Mass"])
    require(frame, ["Patient ID"], "source.labels: 't'")
    with pytest.raises(InputError, match="has no column 'patient_idd'; did you mean 'Patient ID'"):
        require(frame, ["patient_idd"], "source.labels: 't'")
    with pytest.raises(InputError, match="has no column 'Covid'; it has 'Patient ID', 'Mass', 'Mass'"):
        require(frame, ["Covid"], "source.labels: 't'")
    with pytest.raises(InputError, match="has 2 columns 'Mass'; give each a name of its own"):
        require(frame, ["Mass"], "source.labels: 't'")
