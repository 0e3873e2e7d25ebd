"""A raw CSV file as text: its header, its lines, its rows one by one to find a fault."""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import QUOTE, LogSchema, repeated
from llm_ctr_pipeline.data.storage.store_path import AnyPath

# Of a row, in characters. A quote that is never closed makes one cell of all that follows: without
# a limit the search for the fault would take it into memory.
LONGEST_ROW = 2_000_000
_LONGEST_SHOWN = 80
# What files of other kinds begin with, and no text does; and what to do with them.
_UNPACK, _WRITE_CSV = "unpack it under this name", "write its rows as CSV under this name"
_OTHER_KINDS = {
    b"\x1f\x8b": ("gzip", _UNPACK),
    b"PK\x03\x04": ("zip", f"{_UNPACK}, or save the sheet as CSV if it is Excel's"),
    b"\xfd7zXZ": ("xz", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("zstd", _UNPACK),
    b"BZh": ("bzip2", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("7z", _UNPACK),
    b"\x04\x22\x4d\x18": ("lz4", _UNPACK),
    b"PAR1": ("Parquet", _WRITE_CSV),
    b"ORC": ("ORC", _WRITE_CSV),
    b"Obj\x01": ("Avro", _WRITE_CSV),
    b"ARROW1": ("Arrow", _WRITE_CSV),
    b"\x89HDF\r\n": ("HDF5", _WRITE_CSV),
    b"SQLite format 3\0": ("SQLite", _WRITE_CSV),
    b"\xd0\xcf\x11\xe0": ("Excel", _WRITE_CSV),
}
_BEGIN_BYTES = 512
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")
# What Python's csv module says, and what it means here.
_FAULTS = {
    "expected after": "text stands behind a closing quote",
    "unexpected end of data": "a quote opens here and is never closed",
    "field larger than field limit": (
        f"a cell of more than {LONGEST_ROW:,} characters begins here: is a quote never closed?"
    ),
}


@dataclass(frozen=True)
class CsvFile:
    """One split's raw file, its header checked, its rows not yet.

    Attributes:
        path: The CSV file.
        schema: The columns it was checked against.
        columns: Its columns in their order.
    """

    path: AnyPath
    schema: LogSchema
    columns: tuple[str, ...]


def open_csv(path: AnyPath, schema: LogSchema) -> CsvFile:
    """Check a raw file's first line.

    Args:
        path: The CSV file, UTF-8.
        schema: Its delimiter and columns: those of its header line in any order, or those of
            a file without one.

    Raises:
        RawLogError: If the file is missing or empty or cannot be read, or its first line does not
            fit the schema's columns.
    """
    try:
        cells = read_first_line(path, schema)
    except PermissionError as error:
        raise RawLogError(
            f"{path} cannot be read: {error.strerror}; give the user who runs this the right to"
        ) from error
    fault = _fault_in(cells, schema)
    if fault:
        raise RawLogError(f"{path}, line 1: {fault} {', '.join(schema.raw_columns)}")
    return CsvFile(path, schema, schema.columns or tuple(cells))


def read_first_line(path: AnyPath, schema: LogSchema) -> list[str]:
    """The cells on the first line of a CSV file: its header, where it has one.

    Raises:
        RawLogError: If there is none, or the file is of another kind.
        PermissionError: If it may not be read.
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
    with path.open("rb") as file:
        begin = file.read(_BEGIN_BYTES)
    for mark, (kind, cure) in _OTHER_KINDS.items():
        # A column may well be called ORC.
        if begin.startswith(mark) and not _is_text(begin):
            article = "an" if kind[0] in "AOE" else "a"
            raise RawLogError(f"{path} is {article} {kind} file, not CSV: {cure}")
    try:
        reader = csv.reader(_lines(path), delimiter=schema.delimiter, quotechar=QUOTE)
        cells = next(reader, [])
    except csv.Error as error:
        raise RawLogError(f"{path}, line 1: {_in_words(error)}") from error
    if not cells:
        raise RawLogError(f"{path}, line 1: expected {expected}, found an empty line")
    return cells


def _is_text(begin: bytes) -> bool:
    """Whether a file that begins like this may be text."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(begin) is None


def _fault_in(cells: list[str], schema: LogSchema) -> str:
    """How a header is not exactly the schema's columns, or a first row not as wide; else empty."""
    if schema.columns is not None:
        width = len(schema.columns)
        between = f"{len(cells)} cells between {schema.delimiter!r}"
        has = f"but the {schema.dataset} log has the {width} columns"
        return "" if len(cells) == width else f"{between}, {has}"
    faults = {
        "repeated column": repeated(cells),
        "missing column": [name for name in schema.raw_columns if name not in cells],
        "unexpected column": [name for name in cells if name not in schema.raw_columns],
    }
    told = [f"{what} {', '.join(map(shown, names))}" for what, names in faults.items() if names]
    return f"{'; '.join(told)}. The {schema.dataset} log has the columns" if told else ""


def records(path: AnyPath, schema: LogSchema) -> Iterator[tuple[int, list[str]]]:
    """Walk through a CSV file's data rows one by one, to find where a fault is.

    Blank lines are no rows, as for DuckDB.

    Yields:
        The 1-based number of the line on which the row begins, and its cells.

    Raises:
        RawLogError: If the text is not UTF-8, a quoted cell is malformed, or a row is too long.
    """
    csv.field_size_limit(LONGEST_ROW)  # Python's own is 131,072
    reader = csv.reader(_lines(path), delimiter=schema.delimiter, quotechar=QUOTE, strict=True)
    header = int(schema.columns is None)
    line = 1
    try:
        for cells in reader:
            if sum(map(len, cells)) > LONGEST_ROW:
                raise RawLogError(
                    f"{path}, line {line}: a row of more than {LONGEST_ROW:,} characters: is a "
                    "quote never closed, or a line end missing?"
                )
            if cells and line > header:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise RawLogError(f"{path}, line {line}: {_in_words(error)}") from error


def shown(value: str) -> str:
    """A value as an error message shows it: in quotes, and not longer than a line."""
    text = repr(value)
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[:_LONGEST_SHOWN]}… ({len(value):,} characters)"


def _in_words(error: csv.Error) -> str:
    said = str(error)
    return next((words for part, words in _FAULTS.items() if part in said), said)


def _lines(path: AnyPath) -> Iterator[str]:
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
