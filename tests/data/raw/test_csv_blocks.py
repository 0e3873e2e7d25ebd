"""Bytes in blocks that begin and end with a row, and what is no text or no CSV."""

from pathlib import Path

import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.raw import csv_blocks, csv_text
from llm_ctr_pipeline.data.raw.csv_blocks import CsvBlocks
from llm_ctr_pipeline.data.raw.csv_to_parquet import convert_csv
from tests.data.logs import opened


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b'3,0,"x,y\n4,0,x,y\n', "line 4: a quote opens here and is never closed"),
        (b'3,0,"x"z,y\n4,0,x,y\n', "line 4: text stands behind a closing quote"),
        (b'3,0,"x" ,y\n', "line 4: text stands behind a closing quote"),
        (b"3,0,x,\xe9\n", "line 4: byte 0xe9 is not UTF-8"),
        (b"3,0,x,\xc3", "line 4: byte 0xc3 is not UTF-8"),
        (b"\xff,0,x,y\n", "line 4: byte 0xff is not UTF-8"),
    ],
)
def test_what_is_no_text_or_no_csv_is_refused_with_its_line(
    tmp_path: Path, connection: Backend, tail: bytes, message: str
) -> None:
    file = opened(tmp_path / "train.csv", b"id,label,a,b\n1,0,x,y\n2,1,x,y\n" + tail)
    with pytest.raises(RawLogError, match=message):
        convert_csv(connection, file, tmp_path / "train.parquet")


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("end", [b"", b"\n2,1,x,y\n"])
def test_a_row_that_is_too_long_is_refused(
    tmp_path: Path, connection: Backend, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    for module in (csv_blocks, csv_text):
        monkeypatch.setattr(module, "LONGEST_ROW", 1000)
    file = opened(tmp_path / "train.csv", b"id,label,a,b\n1,0,x," + b"y" * 1100 + end)
    with pytest.raises(RawLogError, match="line 2: a"):
        convert_csv(connection, file, tmp_path / "train.parquet")


def test_blocks_are_whole_rows_and_all_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "_BLOCK_BYTES", 100)
    content = b"id,label,a,b\n" + b"".join(b'%d,0,"x\ny",z\n' % row for row in range(50))
    blocks = CsvBlocks(opened(tmp_path / "train.csv", content))
    found = [*blocks]
    assert len(found) > 4
    assert b"".join(found) == content
    assert all(block.endswith(b"z\n") or block.endswith(b"b\n") for block in found)
    assert blocks.has_quotes
