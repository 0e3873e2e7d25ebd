"""Raw files as Parquet: the same cells as Python's csv module reads, wherever blocks end."""

import csv
import hashlib
import random
from pathlib import Path

import ibis
import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import EngineError
from llm_ctr_pipeline.data.log.schema import ROW
from llm_ctr_pipeline.data.raw.csv_text import CsvFile
from llm_ctr_pipeline.data.raw.csv_to_parquet import convert_csv
from tests.data.logs import CSV_COLUMNS, opened


def cells_of(connection: Backend, file: CsvFile) -> list[tuple[str, ...]]:
    target = file.path.with_suffix(".parquet")
    fingerprint = convert_csv(connection, file, target)
    assert fingerprint == hashlib.sha256(file.path.read_bytes()).hexdigest()
    rows = pq.read_table(target).sort_by(ROW)
    assert rows[ROW].to_pylist() == [*range(rows.num_rows)]
    return [tuple(row.values()) for row in rows.drop_columns(ROW).to_pylist()]


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("seed", range(6))
def test_cells_are_what_the_csv_module_reads(
    tmp_path: Path, connection: Backend, seed: int
) -> None:
    drawn = random.Random(seed)  # noqa: S311
    delimiter = drawn.choice(",;\t|")
    line_end = drawn.choice(["\n", "\r\n"])
    alphabet = ["1e5", "00012", "", " ", "é", "\U0001f600", "\0", "﻿", "x'", 'x"y', delimiter]
    alphabet += ['"', '""', "\n", "\r\n", "a,b", "NULL"] if seed % 2 else []
    rows = [
        [str(row), drawn.choice("01"), *("".join(drawn.choices(alphabet, k=2)) for _ in "ab")]
        for row in range(200)
    ]
    with (tmp_path / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end)
        writer.writerows([CSV_COLUMNS, *rows])
    content = (tmp_path / "train.csv").read_bytes()
    if seed % 3 == 0:
        content = content.removesuffix(line_end.encode())
    file = opened(tmp_path / "train.csv", content, delimiter)
    assert cells_of(connection, file) == [tuple(row[1:]) for row in rows]


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"id,label,a,b\n", []),
        (b"id,label,a,b", []),
        (b"\xef\xbb\xbfid,label,a,b\n1,0,x,y\n", [("0", "x", "y")]),
        (b'"id","label","a","b"\n1,0,x,y\n', [("0", "x", "y")]),
        (b"id,label,a,b\n\n1,0,x,y\n\n\n2,1,,\n\n", [("0", "x", "y"), ("1", "", "")]),
        (
            b'id,label,a,b\r\n1,0,"x\ny",z\n2,1,a"b"c,""\r\n',
            [("0", "x\ny", "z"), ("1", 'a"b"c', "")],
        ),
    ],
)
def test_headers_empty_lines_and_line_ends(
    tmp_path: Path, connection: Backend, content: bytes, expected: list[tuple[str, ...]]
) -> None:
    assert cells_of(connection, opened(tmp_path / "train.csv", content)) == expected


def test_a_file_without_a_header_keeps_its_first_row(tmp_path: Path, connection: Backend) -> None:
    file = opened(tmp_path / "train.csv", b"1,0,x,y\n2,1,z,w\n", header=False)
    assert cells_of(connection, file) == [("0", "x", "y"), ("1", "z", "w")]


def test_another_engine_is_refused(tmp_path: Path) -> None:
    file = opened(tmp_path / "train.csv", b"id,label,a,b\n1,0,x,y\n")
    with pytest.raises(EngineError, match="duckdb or pyspark, the engine is 'sqlite'"):
        convert_csv(ibis.sqlite.connect(), file, tmp_path / "train.parquet")
