"""Small logs and their descriptions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.dataset_summary import SplitSummary
from llm_ctr_pipeline.data.features.feature_map import FitSource
from llm_ctr_pipeline.data.features.split_summary import summarise_split
from llm_ctr_pipeline.data.log.schema import ROW, SPLITS, FieldSource, LogSchema, Splitting
from llm_ctr_pipeline.data.raw.csv_text import CsvFile, open_csv
from llm_ctr_pipeline.data.raw.manifest import SplitCounts
from llm_ctr_pipeline.data.raw.raw_log import (
    CheckedLog,
    check_raw_log,
    describe_files,
    open_raw_rows,
    write_raw_rows,
)
from llm_ctr_pipeline.frozen import Frozen

CSV_COLUMNS = ("id", "label", "a", "b")
# The fields of the logs below tests/data/features.
FIELDS = ("site", "hour")

FrozenT = TypeVar("FrozenT", bound=Frozen)


def changed(record: FrozenT, **changes: object) -> FrozenT:
    """A record with other values, checked as a new one."""
    return type(record)(**(dict(record) | changes))


def splitting(by: str = "random", seed: int = 0, **shares: float) -> Splitting:
    """Splits of which some are held out of train, all others have files."""
    files = {split: f"{split}.csv" for split in SPLITS}
    return Splitting(**(files | shares), by=by, seed=seed)


def checked_log(
    connection: BaseBackend, folder: Path, log: LogSchema, rows: Path, every_nth_row: int = 1
) -> CheckedLog:
    """Read and check the log in a folder."""
    write_raw_rows(connection, describe_files(folder, log), rows)
    raw_rows = open_raw_rows(connection, rows)
    return CheckedLog(raw_rows, check_raw_log(raw_rows, every_nth_row))


def log_of(*names: str, absent: tuple[str, ...] = ()) -> LogSchema:
    """A log of categorical columns, some of which it lacks."""
    return LogSchema(
        dataset="x4",
        delimiter=",",
        columns=None,
        label="label",
        ignored=(),
        times=(),
        codes=(),
        fields=tuple(
            FieldSource(name=name, kind="absent" if name in absent else "categorical")
            for name in names
        ),
        splits=splitting(),
    )


def counted(rows: pa.Table, fields: Sequence[str]) -> SplitSummary:
    """What preprocessing counts of encoded rows."""
    counts = SplitCounts(file="train.csv", rows=rows.num_rows, clicks=0, fingerprint="ab" * 32)
    return summarise_split("train", ibis.memtable(rows), tuple(fields), counts)


def fit_on(dataset: str) -> FitSource:
    """The training rows of a log in a folder of its own."""
    return FitSource(
        source=f"folder of {dataset}", file="train.csv", rows=6, clicks=3, fingerprint="0" * 64
    )


def raw_table(connection: Backend, name: str, **columns: list[str]) -> ir.Table:
    """A split's raw rows, given by column."""
    rows = len(next(iter(columns.values())))
    table = {ROW: list(range(rows)), "label": ["0"] * rows, **columns}
    schema = {ROW: "int64", "label": "string", **dict.fromkeys(columns, "string")}
    return connection.create_table(name, ibis.memtable(table, schema=schema), overwrite=True)


def opened(path: Path, content: bytes, delimiter: str = ",", *, header: bool = True) -> CsvFile:
    """A raw file of the columns that `CSV_COLUMNS` names, `id` ignored, with some content."""
    columns = None if header else CSV_COLUMNS
    log = changed(log_of("a", "b"), delimiter=delimiter, columns=columns, ignored=("id",))
    path.write_bytes(content)
    return open_csv(path, log)
