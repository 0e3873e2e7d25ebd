"""What depends on the engine: text from CSV files, and the position of a row in its file.

Everything else is one Ibis expression for all engines.
"""

import atexit
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend
from ibis.util import gen_name

from llm_ctr_pipeline.data.draft import Scratch
from llm_ctr_pipeline.data.errors import RefusedError

# Named so that no raw column is likely to be called the same.
POSITION = "position_in_file"
QUOTE = '"'

DUCKDB, SPARK = "duckdb", "pyspark"
_ROW_NUMBER = "file_row_number"


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
        from llm_ctr_pipeline.data.spark import spark_session

        return ibis.pyspark.connect(spark_session(options))
    if backend == DUCKDB and "temp_directory" in options:
        # What a killed process spilled is removed by the next one.
        scratch = Scratch(Path(options["temp_directory"]))
        atexit.register(scratch.drop)
        options["temp_directory"] = str(scratch.path)
    connection = getattr(ibis, backend).connect(**options)
    if backend == DUCKDB and sys.stdout.isatty():
        connection.raw_sql("SET enable_progress_bar = true")
    return connection


class EngineError(RefusedError, NotImplementedError):
    """An engine that this project does not know how to read with."""


def convert_csv(
    connection: BaseBackend,
    source: Path,
    target: Path,
    columns: list[str],
    kept: list[str],
    delimiter: str,
    has_header: bool,
    has_quotes: Callable[[], bool],
) -> None:
    """Write some columns of a CSV file to Parquet as strings, in the file's order.

    Nothing is guessed: `1e5` and `00012` stay what they are, and an empty cell is "".

    Args:
        connection: Ibis backend.
        source: The CSV file, UTF-8.
        target: The Parquet file, or the folder that Spark makes of one.
        columns: All columns of the file, in order.
        kept: Those to write.
        delimiter: What stands between two cells.
        has_header: Whether the first line names the columns.
        has_quotes: Says whether there is a quote in the file, and thus may be a line break in a
            cell; only asked for an engine that reads files of the two kinds in different ways.

    Raises:
        EngineError: If the backend is none that is known here.
        Exception: Of the engine's own kind, if the file cannot be read.
    """
    if connection.name == DUCKDB:
        table = connection.read_csv(
            source,
            columns=dict.fromkeys(columns, "VARCHAR"),
            auto_detect=False,
            header=has_header,
            delim=delimiter,
            quote=QUOTE,
            escape=QUOTE,
            encoding="utf-8",
            force_not_null=columns,
            null_padding=False,
            strict_mode=True,
        )
        for name in set(columns) - set(kept):
            # No cell is null; this has DuckDB read the column. Where it skips one, a row with a
            # surplus cell is a fatal error in it, and the connection of no use any more.
            table = table.filter(table[name].notnull())
        # The order of the rows is the CSV's: DuckDB keeps it unless it is told not to.
        connection.to_parquet(table.select(*kept), target)
    elif connection.name == SPARK:
        from llm_ctr_pipeline.data.spark import convert_csv_with_spark

        options = {"sep": delimiter, "header": has_header, "multiLine": has_quotes()}
        convert_csv_with_spark(connection, source, target, columns, kept, options)
    else:
        raise EngineError(
            f"raw files are read with {DUCKDB} or {SPARK}, the engine is {connection.name!r}: "
            "set another backend in globals.yml"
        )


def open_converted(connection: BaseBackend, path: Path) -> ir.Table:
    """Name the rows that `convert_csv` wrote.

    Returns:
        The columns, and `POSITION`, int64: the 0-based position in the CSV file.
    """
    if connection.name == DUCKDB:
        table = connection.read_parquet(path, **{_ROW_NUMBER: True})
        return named(connection, table.rename({POSITION: _ROW_NUMBER}))
    return connection.read_parquet(path)


def named(connection: BaseBackend, table: ir.Table) -> ir.Table:
    """Give an expression a name in the engine, as a view that computes nothing.

    An expression that is read several times in one query would be written as a common table
    expression, which DuckDB keeps in memory as a whole; a view it reads each time.
    """
    return connection.create_view(gen_name("rows"), table)


def write_parquet(connection: BaseBackend, table: ir.Table, path: Path) -> None:
    """Execute a table and write it, in its order, to a Parquet file, or a folder with Spark."""
    if connection.name == SPARK:
        connection.to_parquet(table, str(path), mode="overwrite")
    else:
        connection.to_parquet(table, path)
