"""From a raw CSV file to Parquet: every cell as the text that it is, in the file's order."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import EngineError, RawLogError
from llm_ctr_pipeline.data.log.schema import QUOTE, ROW
from llm_ctr_pipeline.data.raw.csv_blocks import Bytes, CsvBlocks
from llm_ctr_pipeline.data.raw.csv_text import CsvFile
from llm_ctr_pipeline.data.storage.engine import DUCKDB, SPARK, threads_of
from llm_ctr_pipeline.data.storage.ordered_map import in_order
from llm_ctr_pipeline.data.storage.store_path import AnyPath, parquet_writer

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A dictionary is kept however many values a block has: encoding looks up those, not the rows.
_LARGEST_DICTIONARY = 1 << 30
_FILES = 4


def convert_csv(connection: BaseBackend, csv: CsvFile, target: AnyPath) -> str:
    """Read a CSV file once and write its columns, but for the ignored ones, as strings.

    Nothing is guessed: `1e5` and `00012` stay what they are, and an empty cell is "".

    Args:
        connection: Ibis backend.
        csv: The file, its first line checked.
        target: The folder of Parquet files to make, with `ROW`, int64: the 0-based position
            in the file.

    Returns:
        SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        EngineError: If the backend is none that is known here.
        RawLogError: If the text is not UTF-8, a quote is not closed, or Spark cannot read it.
        Exception: Of the reader's own kind, if a row cannot be read.
    """
    kept = [name for name in csv.columns if name not in csv.schema.ignored]
    blocks = CsvBlocks(csv)
    if connection.name == DUCKDB:
        _write_blocks(blocks, kept, target, threads_of(connection))
    elif connection.name == SPARK:
        from llm_ctr_pipeline.data.storage.spark import convert_csv_with_spark

        for _ in blocks:
            pass  # Spark reads the file itself, in one of two ways
        if blocks.has_quotes and _has_two_line_ends(csv):
            raise RawLogError(
                f"{csv.path} has quotes, and lines that end in \\r\\n and in \\n: Spark takes one "
                "kind for part of a cell; let all lines end alike"
            )
        options = {
            "sep": csv.schema.delimiter,
            "header": csv.schema.columns is None,
            "multiLine": blocks.has_quotes,
        }
        convert_csv_with_spark(connection, csv.path, target, [*csv.columns], kept, options)
    else:
        raise EngineError(
            f"raw files are read with {DUCKDB} or {SPARK}, the engine is {connection.name!r}"
        )
    return blocks.fingerprint


def _has_two_line_ends(csv: CsvFile) -> bool:
    with csv.path.open("rb") as stream:
        return len({line.endswith(b"\r\n") for line in stream if line.endswith(b"\n")}) > 1


def _write_blocks(blocks: CsvBlocks, kept: list[str], target: AnyPath, threads: int) -> None:
    """Write each block's rows as a row group, dealt out to some files in turn."""
    cells = pa.dictionary(pa.int32(), pa.string())
    types = {**dict.fromkeys(kept, cells), ROW: pa.int64()}
    # What cannot be null is written and read without its marks of where it is.
    schema = pa.schema([pa.field(name, types[name], nullable=False) for name in types])
    read = partial(read_block, csv=blocks.csv, kept=kept)
    target.mkdir()
    written = 0
    with ExitStack() as stack:
        files: list[_File] = []
        for number, rows in enumerate(in_order(read, enumerate(blocks), threads)):
            if number < _FILES:
                path = target / f"part-{number}.parquet"
                files.append(stack.enter_context(_File(path, schema, kept)))
            files[number % _FILES].write(rows, first=written)
            written += rows.num_rows


class _File(AbstractContextManager["_File"]):
    """A Parquet file that a thread of its own writes, one row group after the other."""

    def __init__(self, path: AnyPath, schema: pa.Schema, kept: list[str]) -> None:
        self._schema = schema
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._writer = parquet_writer(
            path,
            schema,
            store_schema=False,
            compression="lz4",
            write_statistics=False,
            use_dictionary=kept,
            dictionary_pagesize_limit=_LARGEST_DICTIONARY,
            column_encoding={ROW: "DELTA_BINARY_PACKED"},
        )
        self._writing: Future[Any] = self._thread.submit(bool)

    def write(self, rows: pa.Table, first: int) -> None:
        """Begin to write rows, the first of them at a position, when those before are written."""
        self._writing.result()
        self._writing = self._thread.submit(self._write, rows, first)

    def _write(self, rows: pa.Table, first: int) -> None:
        position = pa.array(np.arange(first, first + rows.num_rows))
        numbered = pa.Table.from_arrays([*rows.columns, position], schema=self._schema)
        self._writer.write_table(numbered, row_group_size=max(1, rows.num_rows))

    def __exit__(self, *_: object) -> None:
        try:
            self._writing.result()
        finally:
            self._thread.shutdown()
            self._writer.close()


def read_block(
    numbered: tuple[int, Bytes],
    csv: CsvFile,
    kept: Sequence[str],
    on_bad: Callable[[int], Literal["skip"]] | None = None,
) -> pa.Table:
    """Read a block's rows as strings in dictionaries, one of each column.

    Args:
        numbered: The block's number in its file, from 0, and its bytes.
        csv: The file.
        kept: The columns to read.
        on_bad: Told the 0-based position within the block of each row with too few or too many
            cells, which is left out.

    Raises:
        ArrowInvalid: A row has too few or too many cells, and nobody is told.
    """
    number, block = numbered
    is_first = number == 0
    if not is_first and block.startswith(_BYTE_ORDER_MARK):
        block = b"\n" + block  # it is part of a cell here; an empty line is no row
    if not block.endswith(b"\n"):
        block = block + b"\n"  # a header without it would be no row
    header = int(is_first and csv.schema.columns is None)

    def leave_out(row: pa_csv.InvalidRow) -> Literal["skip", "error"]:
        return "error" if on_bad is None else on_bad(row.number - header - 1)

    rows = pa_csv.read_csv(
        pa.py_buffer(block),
        pa_csv.ReadOptions(
            use_threads=False,
            block_size=len(block) + 1,
            column_names=csv.columns,
            skip_rows_after_names=header,
        ),
        pa_csv.ParseOptions(
            delimiter=csv.schema.delimiter,
            quote_char=QUOTE,
            newlines_in_values=QUOTE.encode() in block,
            invalid_row_handler=leave_out,
        ),
        pa_csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(csv.columns, pa.string()),
            strings_can_be_null=False,
            include_columns=[*kept],
        ),
    )
    return pa.table({name: rows[name].combine_chunks().dictionary_encode() for name in kept})
