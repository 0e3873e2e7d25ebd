"""Raw files of rows to score: with a label or without, and with more columns than are needed."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import LogSchema, repeated
from llm_ctr_pipeline.data.raw.checks import check_widths
from llm_ctr_pipeline.data.raw.csv_blocks import Bytes, CsvBlocks
from llm_ctr_pipeline.data.raw.csv_text import CsvFile, read_first_line
from llm_ctr_pipeline.data.raw.csv_to_parquet import read_block
from llm_ctr_pipeline.data.storage.ordered_map import in_order
from llm_ctr_pipeline.data.storage.store_path import AnyPath

Block = tuple[pa.Table, npt.NDArray[np.bool_]]


def open_rows(path: AnyPath, schema: LogSchema, needed: Collection[str]) -> list[CsvFile]:
    """Check the first line of a file, or of each `.csv` file of a folder, in the order of names.

    Args:
        path: The file or the folder.
        schema: The log's delimiter, and its columns where files have no header line.
        needed: The columns that must be there; others may be.

    Raises:
        RawLogError: If there is no file, or one lacks a column.
    """
    if not path.is_dir():
        if not path.is_file():
            raise RawLogError(f"{path} not found: name a CSV file, or a folder of them")
        return [_open(path, schema, needed)]
    files: list[AnyPath] = sorted(path.glob("*.csv"), key=lambda file: file.name)
    if not files:
        raise RawLogError(f"{path} holds no .csv file with rows to score")
    return [_open(file, schema, needed) for file in files]


def _open(path: AnyPath, schema: LogSchema, needed: Collection[str]) -> CsvFile:
    try:
        cells = tuple(read_first_line(path, schema))
    except PermissionError as error:
        raise RawLogError(f"{path} cannot be read: {error.strerror}") from error
    if schema.columns is None:
        if twice := repeated(cells):
            raise RawLogError(f"{path}, line 1: repeated column {', '.join(twice)}")
        if missing := [name for name in needed if name not in cells]:
            raise RawLogError(f"{path}, line 1: missing column {', '.join(missing)}")
        return CsvFile(path, schema, cells)
    unlabelled = tuple(name for name in schema.columns if name != schema.label)
    columns = {len(known): known for known in (schema.columns, unlabelled)}.get(len(cells))
    if columns is None:
        raise RawLogError(
            f"{path}, line 1: {len(cells)} cells between {schema.delimiter!r}, but the "
            f"{schema.dataset} log has the columns {', '.join(schema.columns)}, with or without "
            f"its label {schema.label}"
        )
    if missing := [name for name in needed if name not in columns]:
        raise RawLogError(f"{path} has no column {', '.join(missing)}")
    return CsvFile(path, schema, columns)


def read_rows(csv: CsvFile, kept: Sequence[str], refuse_bad: bool) -> Iterator[Block]:
    """Read a file's rows a block at a time, in its order.

    Args:
        csv: The file.
        kept: The columns to read.
        refuse_bad: Whether a row with too few or too many cells is an error.

    Yields:
        The columns of the rows that could be read, as strings in dictionaries; and which rows
        of the block those are, bool.

    Raises:
        RawLogError: If there is a fault; the message names the line.
    """
    read = partial(_read, csv=csv, kept=kept, refuse_bad=refuse_bad)
    yield from in_order(read, enumerate(CsvBlocks(csv)), threads=1)


def _read(
    numbered: tuple[int, Bytes], csv: CsvFile, kept: Sequence[str], refuse_bad: bool
) -> Block:
    bad: list[int] = []

    def note(row: int) -> Literal["skip"]:
        bad.append(row)
        return "skip"

    try:
        rows = read_block(numbered, csv, kept, None if refuse_bad else note)
    except pa.ArrowInvalid as error:
        check_widths(csv)
        raise RawLogError(f"{csv.path} cannot be read as CSV: {error}") from error
    whole = np.ones(rows.num_rows + len(bad), dtype=np.bool_)
    whole[bad] = False
    return rows, whole
