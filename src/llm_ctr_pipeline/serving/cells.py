"""Rows as users hold them, as the text that a raw file of the log has in its cells."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from llm_ctr_pipeline.data.errors import RefusedError

Rows: TypeAlias = pd.DataFrame | Sequence[Mapping[str, Any]] | pa.Table


class RowError(RefusedError, ValueError):
    """Rows that cannot be scored; the message names the column and the row."""


def as_cells(rows: Rows, columns: Sequence[str], numeric: Collection[str]) -> pa.Table:
    """Write the cells of some columns as a raw file has them.

    Text stays as it is, a whole number becomes its digits, what is missing the empty cell. Other
    numbers are text only in numeric columns: where 1005 became 1005.0 on the way, the value that
    was trained on can no longer be told, and the row would be scored as one never seen.

    Args:
        rows: A data frame, an Arrow table or a sequence of mappings, with more columns or not.
        columns: Those that are wanted.
        numeric: Those of them whose cells are read as numbers.

    Returns:
        A string column without nulls for each of `columns`, in their order.

    Raises:
        RowError: A column is missing, or a value is none that a cell can hold.
    """
    take = _take_from(rows)
    cells = {column: _as_text(take(column), column, column in numeric) for column in columns}
    return pa.table(cells)


def is_exact(type_: pa.DataType) -> bool:
    """Whether values of a type have one way to be written; those that are none are empty."""
    if pa.types.is_dictionary(type_):
        return is_exact(type_.value_type)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_null)
    return any(is_kind(type_) for is_kind in kinds)


def _take_from(rows: Rows) -> Callable[[str], Any]:
    """What gives a column of the rows."""
    if isinstance(rows, pd.DataFrame | pa.Table):
        known = rows.column_names if isinstance(rows, pa.Table) else [*rows.columns]

        def take(column: str) -> Any:
            if known.count(column) != 1:
                how = "twice" if column in known else "not"
                raise RowError(f"column {column!r} is {how} among the rows' columns")
            return rows[column]

        return take

    def take_each(column: str) -> list[Any]:
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise RowError(f"row {number} is {_shown(row)}, not an object of columns")
            if column not in row:
                raise RowError(f"row {number} has no column {column!r}")
        return [row[column] for row in rows]

    return take_each


def _as_text(values: Any, column: str, is_numeric: bool) -> pa.Array:
    try:
        is_arrow = isinstance(values, pa.ChunkedArray)
        array = values.combine_chunks() if is_arrow else pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):  # of several types
        listed = [*values]
    else:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if is_exact(array.type):
            return array.cast(pa.string()).fill_null("")
        listed = array.to_pylist()
    return pa.array([_cell(v, n, column, is_numeric) for n, v in enumerate(listed)], pa.string())


def _cell(value: Any, number: int, column: str, is_numeric: bool) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        if is_numeric:
            return repr(float(value))
        raise RowError(
            f"column {column!r}, row {number}: {value!r} is a number with a fraction, and the log "
            "has text there: give it as the raw file has it (pandas: read_csv(..., dtype=str))"
        )
    raise RowError(f"column {column!r}, row {number}: {_shown(value)} is neither text nor a number")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text[:60]}…" if len(text) > 60 else text  # noqa: PLR2004 - a line's worth
