"""Reading a raw log's files into Parquet and checking every row of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import RawLogError, RefusedError
from llm_ctr_pipeline.data.log.derived_fields import code_value
from llm_ctr_pipeline.data.log.schema import (
    DAYS_OF_WEEK,
    NUMERIC,
    ROW,
    WEEKDAY,
    CodeColumn,
    LogSchema,
)
from llm_ctr_pipeline.data.log.times import FORMATS
from llm_ctr_pipeline.data.raw.csv_text import CsvFile, records, shown
from llm_ctr_pipeline.data.raw.csv_to_parquet import convert_csv
from llm_ctr_pipeline.data.raw.manifest import SplitCounts
from llm_ctr_pipeline.data.storage.disk import told_if_short
from llm_ctr_pipeline.data.storage.store_path import AnyPath

_LONGEST_REASON = 500  # a reader may quote the whole row
# As pandas writes floats, and always below the largest double.
_NUMBER = r"^-?[0-9]{1,200}(\.[0-9]{1,200})?([eE][+-]?[0-9]{1,2})?$"
_INTEGER = r"^-?[0-9]{1,18}$"
# A file with so many rows for each value of a code holds every value, unless the offset is
# wrong: the rarest hour of Avazu has one row in 60.
_ROWS_FOR_ALL_CODES = 1000


@dataclass(frozen=True)
class RawFile:
    """One split's raw rows, read once, their values not checked yet.

    Attributes:
        path: The CSV file that they come from.
        schema: The log's description.
        table: All columns that are not ignored, as strings (an empty cell is the value ""), and
            `row`, int64, the 0-based position in the file.
        fingerprint: SHA-256 of the file's bytes, in hexadecimal.
    """

    path: AnyPath
    schema: LogSchema
    table: ir.Table
    fingerprint: str


@dataclass(frozen=True)
class Rule:
    """What the values of one column must be.

    Attributes:
        column: The column.
        bad: Whether a row's value is not so.
        expected: What it must be, for an error.
    """

    column: str
    bad: ir.BooleanColumn
    expected: str


def read_raw_file(connection: BaseBackend, csv: CsvFile, target: AnyPath) -> str:
    """Read a CSV file once, as `convert_csv` does, and say where it cannot be read.

    Raises:
        RawLogError: If a row has too few or too many cells, or the text is no CSV or not UTF-8.
        StorageError: If the disk is full.
        EngineMemoryError: If the engine may take too little memory.
    """
    try:
        with told_if_short(target.parent):
            return convert_csv(connection, csv, target)
    except RefusedError:
        raise
    except Exception as error:
        # Readers raise classes of their own for a row they cannot read: find it ourselves.
        check_widths(csv)
        reason = " ".join(str(error).strip().splitlines()[:3])[:_LONGEST_REASON]
        raise RawLogError(f"{csv.path} cannot be read as CSV: {reason}") from error


def check_raw_files(files: Mapping[str, RawFile]) -> dict[str, SplitCounts]:
    """Check every row of every split's file, and that no two splits hold the same rows.

    Raises:
        RawLogError: If a file has no rows, a row has too few or too many cells, a value is
            not what the log's description says, or two splits hold the same rows.
    """
    counts = {split: check_raw_file(file) for split, file in files.items()}
    for (twin, first), (split, second) in combinations(counts.items(), 2):
        same_counts = (first.rows, first.clicks) == (second.rows, second.clicks)
        if same_counts and _same_rows(files[twin], files[split]):
            raise RawLogError(
                f"{files[split].path} and {files[twin].path} hold the same rows: the {twin} and "
                f"{split} splits must be different ones"
            )
    return counts


def _same_rows(first: RawFile, second: RawFile) -> bool:
    """Whether two files hold the same rows, as often, in whatever order."""
    if first.fingerprint == second.fingerprint:
        return True
    rows = first.table.drop(ROW)
    others = second.table.select(*rows.columns)
    return bool(ibis.difference(rows, others, distinct=False).count().to_pyarrow().as_py() == 0)


def check_raw_file(file: RawFile) -> SplitCounts:
    """Check every row of one raw file in one pass; look for the first bad one only if there is any.

    Raises:
        RawLogError: See `check_raw_files`, except for splits of the same rows.
    """
    table, schema, path = file.table, file.schema, file.path
    checked = [*rules(table, schema)]
    query = table.aggregate(
        rows=table.count(),
        clicks=(table[schema.label] == "1").sum(),
        **{f"bad_{position}": rule.bad.sum() for position, rule in enumerate(checked)},
        **{f"codes_{code.column}": table[code.column].nunique() for code in schema.codes},
    )
    found = query.to_pyarrow().to_pylist()[0]
    counts = {name: int(count or 0) for name, count in found.items()}  # without rows there is none
    rows = counts["rows"]
    if rows == 0:
        begin = "has a header but no rows" if schema.columns is None else "has no rows"
        raise RawLogError(f"{path} {begin}: expected at least one")
    for position, rule in enumerate(checked):
        if counts[f"bad_{position}"]:
            raise _value_error(file, rule, counts[f"bad_{position}"])
    for code in schema.codes:
        _check_all_codes(file, code, rows, counts[f"codes_{code.column}"])
    return SplitCounts(
        file=path.name, rows=rows, clicks=counts["clicks"], fingerprint=file.fingerprint
    )


def rules(table: ir.Table, schema: LogSchema) -> Iterator[Rule]:
    """What a log's description says of its columns; other columns may hold any text.

    Args:
        table: Its cells as strings.
        schema: The description.
    """
    yield Rule(schema.label, ~table[schema.label].isin(["0", "1"]), "0 or 1")
    for time in schema.times:
        format_ = FORMATS[time.format]
        yield Rule(time.column, format_.is_bad(table[time.column]), format_.expected)
    for code in schema.codes:
        column = table[code.column]
        low, high = code.offset + code.first, code.offset + code.last
        in_range = _guarded_number(column).cast("int64").between(low, high)
        yield Rule(
            code.column,
            ~(_matches(column, _INTEGER) & in_range),
            f"an integer from {low} to {high} ({code.part} {code.first} to {code.last} "
            f"plus {code.offset})",
        )
    yield from _weekday_rules(table, schema)
    for field in schema.fields:
        if field.kind == NUMERIC and field.column is not None:
            column = table[field.column]
            bad = (column != "") & ~_matches(column, _NUMBER)
            yield Rule(field.column, bad, "a number or empty")


def _weekday_rules(table: ir.Table, schema: LogSchema) -> Iterator[Rule]:
    """What the weekday must be, where the day says it too."""
    for day in schema.codes:
        for code in schema.codes:
            if day.first_weekday is None or code.part != WEEKDAY:
                continue
            days = code_value(_guarded_number(table[day.column]), day) - day.first
            weekday = (days + day.first_weekday) % DAYS_OF_WEEK
            yield Rule(
                code.column,
                code_value(_guarded_number(table[code.column]), code) != weekday,
                f"the weekday of the day in column {day.column!r}, of which code "
                f"{day.offset + day.first} is a weekday {day.first_weekday} (0 for Sunday)",
            )


def _matches(column: ir.StringColumn, pattern: str) -> ir.BooleanColumn:
    # Some engines let `$` match before a line break at the end.
    return column.re_search(pattern) & ~column.contains("\n")


def _guarded_number(column: ir.StringColumn) -> ir.StringColumn:
    """An integer as text, 0 where it is none: engines may cast every row, bad ones too."""
    return _matches(column, _INTEGER).ifelse(column, ibis.literal("0"))


def _check_all_codes(file: RawFile, code: CodeColumn, rows: int, found: int) -> None:
    """Refuse a long file without some of a code's values: its offset is not the stated one."""
    values = code.last - code.first + 1
    if found >= values or rows < values * _ROWS_FOR_ALL_CODES:
        return
    codes = file.table[code.column].cast("int64")
    ends = file.table.aggregate(low=codes.min(), high=codes.max()).to_pyarrow().to_pylist()[0]
    raise RawLogError(
        f"{file.path}, column {code.column!r}: expected all {values} codes from "
        f"{code.offset + code.first} to {code.offset + code.last} ({code.part} {code.first} to "
        f"{code.last}) in {rows} rows, found {found} of them, from {ends['low']} to "
        f"{ends['high']}: is the offset {code.offset} right?"
    )


def check_widths(csv: CsvFile) -> None:
    """See that each row has a cell for each column.

    Raises:
        RawLogError: If one has not, or is no CSV.
    """
    width = len(csv.columns)
    for row, (line, cells) in enumerate(records(csv.path, csv.schema), start=1):
        if len(cells) != width:
            many = "many" if len(cells) > width else "few"
            raise RawLogError(
                f"{csv.path}, row {row} (line {line}): too {many} cells, "
                f"{len(cells)} for {width} columns"
            )


def _value_error(file: RawFile, rule: Rule, count: int) -> RawLogError:
    """Say where the first of some bad values is."""
    found = (
        file.table.filter(rule.bad)
        .select(row=file.table[ROW], value=file.table[rule.column])
        .order_by("row")
        .limit(1)
        .to_pyarrow()
        .to_pylist()[0]
    )
    line, _ = next(islice(records(file.path, file.schema), found["row"], None))
    return RawLogError(
        f"{file.path}, column {rule.column!r}, row {found['row'] + 1} "
        f"(line {line}): {shown(found['value'])} is not "
        f"{rule.expected}; {count} such row{'s' if count > 1 else ''} in all"
    )
