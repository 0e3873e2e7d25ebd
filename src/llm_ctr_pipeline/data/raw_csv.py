"""Reading a raw CSV file with every value a string, and its header checked first.

What depends on the engine is here alone: reading text, and the position of a row in its file.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.schema import LogSchema

QUOTE = '"'
# Named so that no raw column is likely to be called the same.
POSITION = "position in file"


@dataclass(frozen=True)
class RawFile:
    """One split's raw file, its header checked, its rows not yet.

    Attributes:
        path: The CSV file.
        schema: The columns it was checked against.
        table: Its columns as strings (an empty cell is the value ""), and `POSITION`, int64,
            the 0-based position in the file. Nothing is read until it is executed.
    """

    path: Path
    schema: LogSchema
    table: ir.Table


def open_raw_file(connection: BaseBackend, path: Path, schema: LogSchema) -> RawFile:
    """Check a raw file's header and name its rows as a table of strings.

    Args:
        connection: Ibis backend that will read the file; DuckDB is the one supported.
        path: The CSV file, UTF-8.
        schema: Its delimiter and columns: those of its header line in any order, or those of
            a file without one.

    Raises:
        RawLogError: If the file is missing or empty, or its first line does not fit the
            schema's columns.
        NotImplementedError: If the backend has no reader here.
    """
    columns = read_first_line(path, schema)
    if schema.columns is None:
        check_columns(path, columns, schema)
    else:
        check_width(path, columns, schema)
        columns = [*schema.columns]
    if connection.name != "duckdb":
        raise NotImplementedError(
            f"raw CSV files are read with DuckDB only, the engine is {connection.name!r}: "
            "give the raw datasets a connection of backend duckdb"
        )
    return RawFile(path, schema, _read_with_duckdb(connection, path, columns, schema))


def _read_with_duckdb(
    connection: BaseBackend, path: Path, columns: list[str], schema: LogSchema
) -> ir.Table:
    # Nothing is sniffed: DuckDB would otherwise guess types, nulls and the dialect from
    # the first rows, and `1e5` or `00000001` would come back as numbers.
    table = connection.read_csv(
        path,
        columns=dict.fromkeys(columns, "VARCHAR"),
        auto_detect=False,
        header=schema.columns is None,
        delim=schema.delimiter,
        quote=QUOTE,
        escape=QUOTE,
        encoding="utf-8",
        force_not_null=columns,
        null_padding=False,
        strict_mode=True,
    )
    # Without an order DuckDB numbers rows as it reads them (a streaming window over an
    # insertion-ordered scan), so this is the position in the file at no cost of a sort.
    return table.mutate(**{POSITION: ibis.row_number().cast("int64")})


def read_first_line(path: Path, schema: LogSchema) -> list[str]:
    """Read the cells on the first line of a CSV file: its header, where it has one.

    Raises:
        RawLogError: If the folder or the file is missing, or the first line is none.
    """
    if not path.parent.is_dir():
        raise RawLogError(
            f"raw folder {path.parent} not found: set raw_dir to a folder with {path.name}"
        )
    if not path.is_file():
        raise RawLogError(f"{path} not found: the raw folder must hold this file")
    expected = "a header line and rows" if schema.columns is None else "rows"
    if path.stat().st_size == 0:
        raise RawLogError(f"{path} is empty (0 bytes): expected {expected}")
    try:
        reader = csv.reader(text_lines(path), delimiter=schema.delimiter, quotechar=QUOTE)
        cells = next(reader, [])
    except csv.Error as error:
        raise RawLogError(f"{path}, line 1: {error}") from error
    if not cells:
        raise RawLogError(f"{path}, line 1: expected {expected}, found an empty line")
    return cells


def check_columns(path: Path, columns: list[str], schema: LogSchema) -> None:
    """Refuse a header that is not exactly the schema's columns, in whatever order.

    Raises:
        RawLogError: If a column is repeated, missing or unexpected.
    """
    repeated = [name for name, times in Counter(columns).items() if times > 1]
    missing = [name for name in schema.raw_columns if name not in columns]
    extra = [name for name in columns if name not in schema.raw_columns]
    problems = [
        f"{what} {', '.join(map(repr, names))}"
        for what, names in (
            ("repeated column", repeated),
            ("missing column", missing),
            ("unexpected column", extra),
        )
        if names
    ]
    if problems:
        raise RawLogError(
            f"{path}, line 1: {'; '.join(problems)}. "
            f"The {schema.dataset} log has the columns {', '.join(schema.raw_columns)}"
        )


def check_width(path: Path, cells: list[str], schema: LogSchema) -> None:
    """Refuse a file without a header whose first row has not one cell a column.

    Raises:
        RawLogError: If it has more or fewer.
    """
    width = len(schema.raw_columns)
    if len(cells) != width:
        raise RawLogError(
            f"{path}, line 1: {len(cells)} cells between {schema.delimiter!r}, but the "
            f"{schema.dataset} log has the {width} columns {', '.join(schema.raw_columns)}"
        )


def records(path: Path, schema: LogSchema) -> Iterator[tuple[int, list[str]]]:
    """Walk through a CSV file's data rows one by one, to find where a fault is.

    Blank lines are no rows, as for DuckDB.

    Yields:
        The 1-based number of the line on which the row begins, and its cells.

    Raises:
        RawLogError: If the text is not UTF-8 or a quoted cell is malformed.
    """
    lines = text_lines(path)
    reader = csv.reader(lines, delimiter=schema.delimiter, quotechar=QUOTE, strict=True)
    header = int(schema.columns is None)
    line = 1
    try:
        for cells in reader:
            if cells and line > header:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise RawLogError(f"{path}, near line {line}: {error}") from error


def text_lines(path: Path) -> Iterator[str]:
    """Walk through a file's lines.

    Raises:
        RawLogError: On the first line that is not UTF-8.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.encode()
            except UnicodeEncodeError as error:
                byte = line[error.start].encode(errors="surrogateescape")
                raise RawLogError(
                    f"{path}, line {number}: byte 0x{byte.hex()} is not UTF-8 text: save the "
                    "file as UTF-8"
                ) from error
            yield line
