"""What DuckDB needs for stores and for folders that Spark wrote."""

from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import StoreError
from llm_ctr_pipeline.data.storage.engine import read_parquet, write_csv, write_parquet
from llm_ctr_pipeline.data.storage.store_path import parse_path
from tests import webhdfs


def test_a_folder_of_parts_is_read_in_their_order(connection: Backend, tmp_path: Path) -> None:
    folder = tmp_path / "table.parquet"
    folder.mkdir()
    for number in range(12):
        pq.write_table(pa.table({"n": [number]}), folder / f"part-{number:05d}.parquet")
    (folder / "_SUCCESS").touch()
    assert read_parquet(connection, folder).to_pyarrow()["n"].to_pylist() == [*range(12)]


def test_tables_are_written_to_a_store_and_read(connection: Backend, store: str) -> None:
    table = ibis.memtable({"b": [2, 1], "a": [0, 3]})
    folder = parse_path(store)
    write_parquet(connection, table, folder / "t.parquet")
    assert read_parquet(connection, folder / "t.parquet").to_pyarrow() == table.to_pyarrow()
    write_csv(connection, table, folder / "t.csv")
    assert (folder / "t.csv").read_text(encoding="utf-8") == "b,a\n2,0\n1,3\n"


def test_a_second_store_of_a_kind_is_refused(connection: Backend, tmp_path: Path) -> None:
    """DuckDB would read the file of this name on the first one."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    for name in ("first", "second"):
        pq.write_table(pa.table({"name": [name]}), tmp_path / name / "t.parquet")
    with webhdfs.served(tmp_path / "first") as one, webhdfs.served(tmp_path / "second") as two:
        table = read_parquet(connection, parse_path(f"{one}/t.parquet"))
        assert table.to_pyarrow()["name"].to_pylist() == ["first"]
        with pytest.raises(StoreError, match=r"second store of its kind.*preprocess on Spark"):
            read_parquet(connection, parse_path(f"{two}/t.parquet"))
