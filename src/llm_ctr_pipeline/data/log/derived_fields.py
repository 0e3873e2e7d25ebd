"""From a raw log's columns to the unified schema."""

import ibis
import ibis.expr.types as ir

from llm_ctr_pipeline.data.log.schema import (
    ABSENT,
    CATEGORICAL,
    DAYS_OF_WEEK,
    NUMERIC,
    WEEKDAY,
    WEEKEND,
    CodeColumn,
    FieldSource,
    LogSchema,
)
from llm_ctr_pipeline.data.log.times import FORMATS, is_weekend

_WHOLE_UP_TO = 2  # in the Criteo challenge's buckets
_LOWEST = -9e18  # numbers below it share its bucket: int64 ends there


def field_value(table: ir.Table, field: FieldSource, schema: LogSchema) -> ir.StringValue:
    """A field's value, made of the raw column of this name in a table; null if it is absent.

    A string: `hour` is "0" to "23", `weekday` "0" (Sunday) to "6", `weekend` "0" or "1".
    """
    if field.kind == ABSENT or field.column is None:
        return ibis.null("string")
    column = table[field.column]
    if field.kind == CATEGORICAL:
        return column
    if field.kind == NUMERIC:
        return _bucket(column, field.edges).cast("string").fill_null("")
    time, code = schema.time_of(field.column), schema.code_of(field.column)
    if time is not None:
        return FORMATS[time.format].part(column, field.kind).cast("string")
    assert code is not None  # noqa: S101 - the schema was checked
    value = code_value(column, code)
    return (is_weekend(value) if field.kind == WEEKEND else value).cast("string")


def code_value(column: ir.StringColumn, code: CodeColumn) -> ir.IntegerColumn:
    """The part of the time that an integer code stands for; weekdays from 0 for Sunday."""
    value = column.cast("int64") - code.offset
    return value % DAYS_OF_WEEK if code.part == WEEKDAY else value


def _bucket(column: ir.StringColumn, edges: tuple[float, ...] | None) -> ir.IntegerColumn:
    """The bucket of a number; null where the cell is empty, so that it gets a value of its own.

    Without edges it is FuxiCTR's reading of what the winners of the Criteo challenge did:
    ⌊ln(x)²⌋ above 2, else the number without its fraction.
    """
    number = column.nullif("").cast("float64")
    if edges is not None:
        return sum((number >= edge).cast("int64") for edge in edges)
    # Engines may compute both branches for every row, and some refuse the logarithm of 0.
    above_two = ibis.greatest(number, 1.0).ln().pow(2).floor()
    whole = (number < 0).ifelse(ibis.greatest(number, _LOWEST).ceil(), number.floor())
    return (number > _WHOLE_UP_TO).ifelse(above_two, whole).cast("int64")
