"""From a raw log's columns to the unified schema."""

import ibis
import ibis.expr.types as ir

from llm_ctr_pipeline.data.schema import HOUR, LABEL, ROW, WEEKDAY, WEEKEND, LogSchema

_DAYS = 7
_SATURDAY = 6  # with Sunday as 0


def normalise(table: ir.Table, schema: LogSchema) -> ir.Table:
    """Name label and fields as the unified schema does and derive the time fields.

    Args:
        table: A checked raw file's rows: strings, and `row`.
        schema: The log's columns.

    Returns:
        `row` int64, `label` int8, then the fields as strings in the schema's order;
        `hour` is "0" to "23", `weekday` "0" (Sunday) to "6", `weekend` "0" or "1".
    """
    time = table[schema.raw_time]
    date = (ibis.literal("20") + time.substr(0, 6)).as_date("%Y%m%d")
    weekday = (date.day_of_week.index() + 1) % _DAYS  # Ibis counts from Monday
    derived = {
        HOUR: time.substr(6, 2).cast("int8"),
        WEEKDAY: weekday.cast("int8"),
        WEEKEND: weekday.isin([0, _SATURDAY]).cast("int8"),
    }
    return table.select(
        **{ROW: table[ROW], LABEL: table[schema.raw_label].cast("int8")},
        **{field: table[field] for field in schema.raw_fields},
        **{field: value.cast("string") for field, value in derived.items()},
    )
