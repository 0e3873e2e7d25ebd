"""What Spark is asked for: text as it is, rows numbered in the file's order, one CSV file."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import RawLogError, SettingsError
from llm_ctr_pipeline.data.log.schema import ROW
from llm_ctr_pipeline.data.raw.csv_to_parquet import convert_csv
from llm_ctr_pipeline.data.storage.engine import connect, read_parquet, write_csv
from tests.data.logs import CSV_COLUMNS, opened
from tests.spark import needs_java

# So few bytes of a file make a partition that small files have many.
PARTITION_BYTES = 500
SETTINGS = {
    "backend": "pyspark",
    "spark.master": "local[2]",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.files.maxPartitionBytes": str(PARTITION_BYTES),
    "spark.sql.shuffle.partitions": "3",
}


@pytest.fixture(scope="module")
def spark(pyspark_folder: Path | None) -> Iterator[BaseBackend]:
    """A connection to Spark in this process."""
    with pytest.MonkeyPatch.context() as patch:
        if pyspark_folder is not None:
            patch.syspath_prepend(pyspark_folder)
        connection = connect(SETTINGS)
        yield connection
        connection.disconnect()


def cells(folder: Path) -> list[tuple[str, ...]]:
    """The rows of a folder of Parquet files by their number."""
    rows = pq.read_table(folder).sort_by(ROW)
    assert rows[ROW].to_pylist() == [*range(rows.num_rows)]
    assert rows.column_names == [*CSV_COLUMNS[1:], ROW]
    return [tuple(row.values()) for row in rows.drop_columns(ROW).to_pylist()]


@needs_java
@pytest.mark.slow
def test_rows_are_numbered_in_the_files_order_over_many_partitions(
    spark: BaseBackend, tmp_path: Path
) -> None:
    rows = [(str(row % 2), f"{row:03d}", ["", "1e5", "NULL", " x "][row % 4]) for row in range(900)]
    lines = [",".join(["id", *row]) for row in rows]
    file = opened(tmp_path / "train.csv", "\n".join([",".join(CSV_COLUMNS), *lines, ""]).encode())
    convert_csv(spark, file, tmp_path / "rows")
    assert len([*(tmp_path / "rows").glob("part-*.parquet")]) > 10
    assert cells(tmp_path / "rows") == rows


@needs_java
@pytest.mark.slow
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [True, False])
def test_cells_in_quotes_are_what_the_csv_module_reads(
    spark: BaseBackend, tmp_path: Path, line_end: str, header: bool
) -> None:
    # Spark reads any line break in a cell as a line feed.
    broken = "two\nlines" if line_end == "\n" else "one line"
    odd = ['a;"b"', "", "00012", broken, " ", "é", "null", "x'"]
    rows = [(str(row % 2), odd[row % len(odd)], odd[row % 3]) for row in range(100)]
    with (tmp_path / "written.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=";", lineterminator=line_end)
        writer.writerows([CSV_COLUMNS] if header else [])
        writer.writerows(("id", *row) for row in rows)
    content = (tmp_path / "written.csv").read_bytes()
    file = opened(tmp_path / "train.csv", content, ";", header=header)
    convert_csv(spark, file, tmp_path / "rows")
    assert cells(tmp_path / "rows") == rows


@needs_java
@pytest.mark.slow
def test_a_file_without_rows_gives_none(spark: BaseBackend, tmp_path: Path) -> None:
    convert_csv(spark, opened(tmp_path / "train.csv", b"id,label,a,b\n"), tmp_path / "rows")
    assert cells(tmp_path / "rows") == []


@needs_java
@pytest.mark.slow
def test_quotes_in_lines_that_end_in_two_ways_are_refused(
    spark: BaseBackend, tmp_path: Path
) -> None:
    file = opened(tmp_path / "train.csv", b'id,label,a,b\r\n1,0,"x",y\n')
    with pytest.raises(RawLogError, match="let all lines end alike"):
        convert_csv(spark, file, tmp_path / "rows")
    assert not (tmp_path / "rows").exists()


@needs_java
@pytest.mark.slow
def test_a_table_is_written_in_its_order_to_one_file(spark: BaseBackend, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [*range(100)]}), tmp_path / "numbers.parquet")
    table = read_parquet(spark, tmp_path / "numbers.parquet")
    table = table.mutate(b=(table["a"] * 37) % 101).order_by("b")
    write_csv(spark, table, tmp_path / "numbers.csv")
    header, *lines = (tmp_path / "numbers.csv").read_text().splitlines()
    assert header == "a,b"
    found = [tuple(map(int, line.split(","))) for line in lines]
    assert found == sorted(((a, a * 37 % 101) for a in range(100)), key=lambda row: row[1])
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_without_pyspark_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pyspark", "pyspark.errors", "pyspark.sql"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=r"Java 17.*pip install -c constraints.txt .*\[spark\]"):
        connect({"backend": "pyspark"})
