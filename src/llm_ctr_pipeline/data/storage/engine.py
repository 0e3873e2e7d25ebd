"""What depends on the engine: connecting, where a row stands in its file, and writing.

Reading text from CSV files and putting ids in the place of cells do too (`csv_to_parquet`,
`encode`); everything else is one Ibis expression for all engines.
"""

import atexit
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend
from ibis.util import gen_name

from llm_ctr_pipeline.data.errors import StoreError
from llm_ctr_pipeline.data.storage.atomic import Scratch
from llm_ctr_pipeline.data.storage.store_path import AnyPath, StorePath, parts_of

DUCKDB, SPARK = "duckdb", "pyspark"

# By DuckDB's connection, what the drivers that it has were opened with.
_REACHED: WeakKeyDictionary[Any, dict[type, Any]] = WeakKeyDictionary()


def connect(settings: Mapping[str, Any]) -> BaseBackend:
    """Connect to an engine.

    Args:
        settings: `backend`, the name of an Ibis backend, and what it takes besides: DuckDB's
            or Spark's own settings. Of DuckDB, `temp_directory` is the place beside which each
            process makes a folder of its own for what does not fit into memory.
    """
    options = dict(settings)
    backend = options.pop("backend")
    if backend == SPARK:
        from llm_ctr_pipeline.data.storage.spark import spark_session

        # First, for it says what to install; Ibis without PySpark says something else.
        session = spark_session(options)
        return ibis.pyspark.connect(session)
    if backend == DUCKDB and "temp_directory" in options:
        # What a killed process spilled is removed by the next one.
        scratch = Scratch(Path(options["temp_directory"]))
        atexit.register(scratch.drop)
        options["temp_directory"] = str(scratch.path)
    connection = getattr(ibis, backend).connect(**options)
    if backend == DUCKDB and sys.stdout.isatty():
        connection.raw_sql("SET enable_progress_bar = true")
    return connection


def threads_of(connection: BaseBackend) -> int:
    """How many threads DuckDB was told to take; as many as there are cores by default."""
    return int(connection.con.sql("SELECT current_setting('threads')").fetchone()[0])


def named(connection: BaseBackend, table: ir.Table) -> ir.Table:
    """Give an expression a name in the engine, as a view that computes nothing.

    An expression that is read several times in one query would be written as a common table
    expression, which DuckDB keeps in memory as a whole; a view it reads each time.
    """
    return connection.create_view(gen_name("rows"), table)


def read_parquet(connection: BaseBackend, path: AnyPath) -> ir.Table:
    """Name the rows of a Parquet file, or of a folder of them as Spark writes it."""
    _reach(connection, path)
    if connection.name == DUCKDB:
        return connection.read_parquet([str(part) for part in parts_of(path)])
    return connection.read_parquet(path)


def write_parquet(connection: BaseBackend, table: ir.Table, path: AnyPath) -> None:
    """Execute a table and write it, in its order, to a Parquet file, or a folder with Spark."""
    _reach(connection, path)
    if connection.name == SPARK:
        connection.to_parquet(table, str(path), mode="overwrite")
    else:
        connection.to_parquet(table, path)


def write_csv(connection: BaseBackend, table: ir.Table, path: AnyPath) -> None:
    """Execute a table of numbers and write it, in its order, to one CSV file with a header."""
    _reach(connection, path)
    if connection.name == SPARK:
        from llm_ctr_pipeline.data.storage.spark import write_csv_with_spark

        write_csv_with_spark(connection, table, path)
    else:
        connection.to_csv(table, path)


def _reach(connection: BaseBackend, path: AnyPath) -> None:
    """Let DuckDB read and write stores through fsspec's drivers; Spark has its own.

    Raises:
        StoreError: If the path is on another store of the same kind than those before: DuckDB
            tells stores by the scheme of their addresses alone.
    """
    if connection.name != DUCKDB or not isinstance(path, StorePath):
        return
    reached = _REACHED.setdefault(connection.con, {})
    driver, options = type(path.fs), path.fs.storage_options
    if driver not in reached:
        connection.register_filesystem(path.fs)
    if reached.setdefault(driver, options) != options:
        raise StoreError(
            f"{path} is on a second store of its kind, and DuckDB can use one at a time: "
            "preprocess on Spark"
        )
