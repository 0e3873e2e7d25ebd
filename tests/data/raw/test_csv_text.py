import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import ROW, LogSchema
from llm_ctr_pipeline.data.raw.checks import RawFile
from llm_ctr_pipeline.data.raw.csv_text import open_csv, records
from llm_ctr_pipeline.data.synthetic.generated_log import AVAZU_COLUMNS as COLUMNS

WriteRaw = Callable[..., Path]
OpenRaw = Callable[[Path], RawFile]


def column(open_x4: OpenRaw, path: Path, name: str) -> list[str]:
    table = open_x4(path).table
    return table.order_by(ROW)[name].to_pyarrow().to_pylist()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_value_is_the_string_in_the_file(
    open_x4: OpenRaw, write_raw: WriteRaw, line_end: str
) -> None:
    values = ["68e10123", "00000001", "1e5", "00012", "", "NULL", "nan", " x ", "#1", 'a,"b"', "é"]
    path = write_raw([{"site_id": value} for value in values], line_end=line_end)
    assert column(open_x4, path, "site_id") == values


def test_a_quoted_value_may_hold_a_line_break(
    open_x4: OpenRaw, write_raw: WriteRaw, x4: LogSchema
) -> None:
    path = write_raw([{"app_id": "a\nb"}, {"app_id": "c"}])
    assert column(open_x4, path, "app_id") == ["a\nb", "c"]
    assert [line for line, _ in records(path, x4)] == [2, 4]


def test_columns_go_by_name_in_any_order(open_x4: OpenRaw, write_raw: WriteRaw) -> None:
    path = write_raw([{"C21": "last", "C1": "first"}], columns=COLUMNS[::-1])
    assert column(open_x4, path, "C21") == ["last"]
    assert column(open_x4, path, "C1") == ["first"]


def test_a_byte_order_mark_is_no_part_of_the_header(open_x4: OpenRaw, write_raw: WriteRaw) -> None:
    path = write_raw([{"C14": "7"}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert column(open_x4, path, "C14") == ["7"]


def test_row_is_the_position_in_the_file_with_many_threads(
    open_x4: OpenRaw, connection: Backend, write_raw: WriteRaw
) -> None:
    path = write_raw([{"C14": str(row)} for row in range(150_000)])
    connection.raw_sql("SET threads = 4")
    table = open_x4(path).table
    assert table.filter(table.C14.cast("int64") != table[ROW]).count().execute() == 0
    assert table[ROW].max().execute() == 149_999


def refused(open_x4: OpenRaw, path: Path) -> str:
    with pytest.raises(RawLogError) as error:
        open_x4(path)
    return str(error.value)


def test_a_missing_folder_is_refused(open_x4: OpenRaw, tmp_path: Path) -> None:
    message = refused(open_x4, tmp_path / "nowhere" / "train.csv")
    assert f"raw folder {tmp_path / 'nowhere'} not found: set raw_dir" in message


def test_a_missing_file_is_refused(open_x4: OpenRaw, tmp_path: Path) -> None:
    assert f"{tmp_path / 'valid.csv'} not found" in refused(open_x4, tmp_path / "valid.csv")


def test_an_empty_file_is_refused(open_x4: OpenRaw, tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()
    assert "is empty (0 bytes)" in refused(open_x4, tmp_path / "train.csv")


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ([name for name in COLUMNS if name != "C17"], "missing column 'C17'"),
        ([*COLUMNS, "C22"], "unexpected column 'C22'"),
        ([*COLUMNS, "click"], "repeated column 'click'"),
        ([name.lower() for name in COLUMNS], "missing column 'C1', 'C14'"),
    ],
)
def test_a_header_off_the_schema_is_refused(
    open_x4: OpenRaw, tmp_path: Path, columns: list[str], problem: str
) -> None:
    path = tmp_path / "train.csv"
    path.write_text(",".join(columns) + "\n")
    message = refused(open_x4, path)
    assert message.startswith(f"{path}, line 1: ")
    assert problem in message


@pytest.mark.parametrize("content", [b"\n1,2\n", b"\xff\xfei\x00d\x00"])
def test_what_is_no_header_is_refused(open_x4: OpenRaw, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    assert str(path) in refused(open_x4, path)


def test_a_file_that_may_not_be_read_is_refused(
    write_raw: WriteRaw, x4: LogSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    path = write_raw([{"C14": "7"}])
    monkeypatch.setattr(Path, "open", refuse)  # root may read any file
    with pytest.raises(RawLogError, match=r"train\.csv cannot be read: Permission denied"):
        open_csv(path, x4)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\x04", "is a 7z file, not CSV: unpack it"),
        (b"\x04\x22\x4d\x18@", "is a lz4 file, not CSV: unpack it"),
        (b"ORC\n\x08\0\x10", "is an ORC file, not CSV: write its rows as CSV"),
        (b"Obj\x01\x04\x16", "is an Avro file, not CSV: write its rows as CSV"),
        (b"ARROW1\0\0", "is an Arrow file, not CSV: write its rows as CSV"),
        (b"\x89HDF\r\n\x1a\n", "is a HDF5 file, not CSV: write its rows as CSV"),
        (b"SQLite format 3\0", "is a SQLite file, not CSV: write its rows as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel file, not CSV: write its rows as CSV"),
        ("ORC,PAR1é,BZh\n1,2,3\n".encode(), "line 1: missing column"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, x4: LogSchema, content: bytes, told: str
) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(RawLogError, match=told):
        open_csv(path, x4)
