"""Descriptions of small logs."""

from pathlib import Path
from typing import TypeVar

from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.log.schema import SPLITS, FieldSource, LogSchema, Splitting
from llm_ctr_pipeline.data.raw.raw_log import (
    CheckedLog,
    check_raw_log,
    describe_files,
    open_raw_rows,
    write_raw_rows,
)
from llm_ctr_pipeline.frozen import Frozen

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
