"""Checking a raw log's rows before anything is written."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.raw_csv import DELIMITER, QUOTE, RawFile, records
from llm_ctr_pipeline.data.schema import ROW

_CHUNK_BYTES = 1 << 22

# YYMMDDHH with a day that exists; within 2000 to 2099 every fourth year is a leap year.
_DAY_OF_YEAR = (
    r"(0[13578]|1[02])(0[1-9]|[12][0-9]|3[01])"
    r"|(0[469]|11)(0[1-9]|[12][0-9]|30)"
    r"|02(0[1-9]|1[0-9]|2[0-8])"
)
_LEAP_DAY = r"([02468][048]|[13579][26])0229"
_HOUR_OF_DAY = r"([01][0-9]|2[0-3])"
_TIME_PATTERN = rf"^([0-9][0-9]({_DAY_OF_YEAR})|{_LEAP_DAY}){_HOUR_OF_DAY}$"
_TIME_DIGITS = 8


@dataclass(frozen=True)
class RawSplitFacts:
    """What is known of one split's raw file once it passed the check.

    Attributes:
        file: Name of the file, without its folder.
        rows: Data rows.
        clicks: Rows with label 1.
        fingerprint: SHA-256 of the file's bytes, in hexadecimal.
    """

    file: str
    rows: int
    clicks: int
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON types."""
        return asdict(self)


def check_raw_log(files: Mapping[str, RawFile]) -> dict[str, RawSplitFacts]:
    """Check every row of every split, and that no two splits are one file.

    Args:
        files: The raw file of each split, by the split's name.

    Returns:
        The facts of each split, in the order given.

    Raises:
        RawLogError: If a file has no rows, a row has too few or too many cells, a label
            is not 0 or 1, a time is no YYMMDDHH, or two splits are identical.
    """
    facts = {split: check_raw_file(file) for split, file in files.items()}
    first_with: dict[str, str] = {}
    for split, found in facts.items():
        twin = first_with.setdefault(found.fingerprint, split)
        if twin != split:
            raise RawLogError(
                f"{files[split].path} and {files[twin].path} are identical: the {twin} and "
                f"{split} splits must be different rows"
            )
    return facts


def check_raw_file(file: RawFile) -> RawSplitFacts:
    """Check every row of one raw file; look for the first bad one only if there is any.

    Raises:
        RawLogError: See `check_raw_log`, except identical splits.
    """
    label = file.table[file.schema.raw_label]
    time = file.table[file.schema.raw_time]
    bad_label = ~label.isin(["0", "1"])
    bad_time = (time.length() != _TIME_DIGITS) | ~time.re_search(_TIME_PATTERN)
    counts = _scan(file, label, bad_label, bad_time)
    fingerprint = _check_bytes(file, counts["rows"])
    if counts["rows"] == 0:
        raise RawLogError(f"{file.path} has a header but no rows: expected at least one")
    if counts["bad_labels"]:
        raise _value_error(file, label, bad_label, counts["bad_labels"], "0 or 1")
    if counts["bad_times"]:
        expected = "YYMMDDHH: 8 digits, a day that exists and an hour from 00 to 23"
        raise _value_error(file, time, bad_time, counts["bad_times"], expected)
    return RawSplitFacts(file.path.name, counts["rows"], counts["clicks"], fingerprint)


def _scan(
    file: RawFile, label: ir.StringColumn, bad_label: ir.BooleanColumn, bad_time: ir.BooleanColumn
) -> dict[str, int]:
    """Count rows, clicks and violations in one pass of the engine."""
    query = file.table.aggregate(
        rows=file.table.count(),
        clicks=(label == "1").sum(),
        bad_labels=bad_label.sum(),
        bad_times=bad_time.sum(),
    )
    try:
        counts = query.to_pyarrow().to_pylist()[0]
    except Exception as error:
        # Engines raise classes of their own for a row they cannot read: find it ourselves.
        _check_widths(file)
        reason = str(error).strip().splitlines()
        raise RawLogError(f"{file.path} cannot be read as CSV: {' '.join(reason[:3])}") from error
    return {name: int(count or 0) for name, count in counts.items()}


def _check_bytes(file: RawFile, rows: int) -> str:
    """Hash the file and refuse rows with a surplus empty cell; return the SHA-256.

    DuckDB drops an empty cell after the last column without a word. The number of
    delimiters tells, unless quoted cells may hold some of their own.
    """
    digest = hashlib.sha256()
    delimiters, quotes = 0, 0
    with file.path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            delimiters += chunk.count(DELIMITER.encode())
            quotes += chunk.count(QUOTE.encode())
    expected = (len(file.schema.raw_columns) - 1) * (rows + 1)
    if quotes or delimiters != expected:
        _check_widths(file)
    return digest.hexdigest()


def _check_widths(file: RawFile) -> None:
    """Raise for the first row whose number of cells is not the number of columns."""
    width = len(file.schema.raw_columns)
    for row, (line, cells) in enumerate(records(file.path), start=1):
        if len(cells) != width:
            many = "many" if len(cells) > width else "few"
            raise RawLogError(
                f"{file.path}, row {row} (line {line}): too {many} cells, "
                f"{len(cells)} for {width} columns"
            )


def _value_error(
    file: RawFile, column: ir.StringColumn, bad: ir.BooleanColumn, count: int, expected: str
) -> RawLogError:
    """Say where the first of some bad values is."""
    found = (
        file.table.filter(bad)
        .select(row=file.table[ROW], value=column)
        .order_by(ROW)
        .limit(1)
        .to_pyarrow()
        .to_pylist()[0]
    )
    return RawLogError(
        f"{file.path}, column {column.get_name()!r}, row {found['row'] + 1} "
        f"(line {_line_of(file.path, found['row'])}): {found['value']!r} is not {expected}; "
        f"{count} such row{'s' if count > 1 else ''} in all"
    )


def _line_of(path: Path, row: int) -> int:
    """Return the 1-based line on which a 0-based row begins."""
    lines = (line for position, (line, _) in enumerate(records(path)) if position == row)
    return next(lines)
