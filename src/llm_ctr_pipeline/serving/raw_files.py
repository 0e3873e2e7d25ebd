"""Raw files of rows to score: with a label or without, and with more columns than are needed.

CSV, or Parquet with the cells that the CSV file would have.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from llm_ctr_pipeline.data.errors import RawLogError, first_line
from llm_ctr_pipeline.data.log.schema import LogSchema, repeated
from llm_ctr_pipeline.data.raw.checks import check_widths
from llm_ctr_pipeline.data.raw.csv_blocks import Bytes, CsvBlocks
from llm_ctr_pipeline.data.raw.csv_text import CsvFile, read_first_line
from llm_ctr_pipeline.data.raw.csv_to_parquet import read_block
from llm_ctr_pipeline.data.storage.ordered_map import in_order
from llm_ctr_pipeline.data.storage.store_path import AnyPath, parquet_file
from llm_ctr_pipeline.progress import progress_bar
from llm_ctr_pipeline.serving.cells import as_cells, is_exact

_PARQUET = ".parquet"
_KINDS = (".csv", _PARQUET)
_PARQUET_ROWS = 65_536  # at a time

Block = tuple[pa.Table, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class ParquetRows:
    """A Parquet file, its columns checked, its rows not yet.

    Attributes:
        path: The file.
        numbers: The columns whose numbers may have a fraction.
    """

    path: AnyPath
    numbers: frozenset[str]


RowsFile = CsvFile | ParquetRows


def open_rows(path: AnyPath, schema: LogSchema, needed: Collection[str]) -> list[RowsFile]:
    """Check the columns of a file, or of each `.csv` and `.parquet` file of a folder, by name.

    Args:
        path: The file or the folder.
        schema: The log's delimiter, and its columns where CSV files have no header line.
        needed: The columns that must be there; others may be.

    Raises:
        RawLogError: If there is no file, one lacks a column, or a column of a Parquet file is of
            a type that does not say what the log's cells are.
    """
    if not path.is_dir():
        if not path.is_file():
            raise RawLogError(f"{path} not found: name a CSV or Parquet file, or a folder of them")
        return [_open(path, schema, needed)]
    files: list[AnyPath] = [file for kind in _KINDS for file in path.glob(f"*{kind}")]
    if not files:
        raise RawLogError(f"{path} holds no .csv or .parquet file with rows to score")
    return [_open(file, schema, needed) for file in sorted(files, key=lambda file: file.name)]


def _open(path: AnyPath, schema: LogSchema, needed: Collection[str]) -> RowsFile:
    if path.name.endswith(_PARQUET):
        return _open_parquet(path, schema, needed)
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


def _open_parquet(path: AnyPath, schema: LogSchema, needed: Collection[str]) -> ParquetRows:
    try:
        with parquet_file(path) as file:
            types = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise RawLogError(f"{path} cannot be read as Parquet: {first_line(error)}") from error
    if missing := [name for name in needed if name not in types.names]:
        raise RawLogError(f"{path} has no column {', '.join(missing)}")
    if twice := [name for name in repeated(types.names) if name in needed]:
        raise RawLogError(f"{path} has the column {', '.join(twice)} twice")
    # No field is made of a column that is only kept.
    numbers = schema.numeric_columns | {*needed} - {*schema.feature_columns}
    for name in needed:
        type_ = types.field(name).type
        if not (is_exact(type_) or (name in numbers and pa.types.is_floating(type_))):
            raise RawLogError(
                f"{path}: column {name!r} is of type {type_}, which does not say what stood in the "
                "log's cells: write it as text, or as whole numbers"
            )
    return ParquetRows(path, numbers)


def read_rows(file: RowsFile, kept: Sequence[str], refuse_bad: bool) -> Iterator[Block]:
    """Read a file's rows a block at a time, in its order.

    Args:
        file: The file.
        kept: The columns to read.
        refuse_bad: Whether a row with too few or too many cells is an error.

    Yields:
        The columns of the rows that could be read, as strings, in dictionaries or not; and which
        rows of the block those are, bool.

    Raises:
        RawLogError: If there is a fault; the message names the line.
    """
    if isinstance(file, ParquetRows):
        yield from _read_parquet(file, kept)
        return
    read = partial(_read, csv=file, kept=kept, refuse_bad=refuse_bad)
    yield from in_order(read, enumerate(CsvBlocks(file)), threads=1)


def _read_parquet(rows: ParquetRows, kept: Sequence[str]) -> Iterator[Block]:
    bar = progress_bar(MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with parquet_file(rows.path) as file, bar:
            task = bar.add_task(f"reading {rows.path.name}", total=file.metadata.num_rows)
            for batch in file.iter_batches(_PARQUET_ROWS, columns=[*kept]):
                cells = as_cells(pa.Table.from_batches([batch]), kept, rows.numbers)
                yield cells, np.ones(cells.num_rows, dtype=np.bool_)
                bar.advance(task, cells.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise RawLogError(f"{rows.path} cannot be read as Parquet: {first_line(error)}") from error


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
