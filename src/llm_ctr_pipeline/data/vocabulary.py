"""The vocabulary: which values of each field get an id of their own."""

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from llm_ctr_pipeline.data.normalise import field_value
from llm_ctr_pipeline.data.schema import CATEGORICAL, FieldSource, LogSchema


def fit_vocabulary(train: ir.Table, schema: LogSchema, min_count: int) -> ir.Table:
    """Number the values of each field that the training split holds often enough.

    Ids go by count descending, then by value in the order of its bytes, so that the same
    rows give the same ids on any engine and any number of threads. They begin at 1: id 0
    is left for "unknown". A field that the log lacks gets none.

    Args:
        train: The raw rows of the training split, as strings; a table or view of the engine,
            since every field reads it anew.
        schema: The log's description.
        min_count: How often a value must occur to get an id, at least 1.

    Returns:
        `field` string, `value` string, `count` int64, `id` int32; by field order, then id.

    Raises:
        ValueError: If `min_count` is below 1.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}: it must be at least 1")
    per_field = [
        _field_vocabulary(train, field, schema, min_count).mutate(
            position=ibis.literal(position, "int32")
        )
        for position, field in enumerate(schema.fields)
        if field.column is not None
    ]
    return ibis.union(*per_field, distinct=False).order_by(["position", "id"]).drop("position")


def entries_by_field(vocabulary: ir.Table) -> dict[str, pa.Table]:
    """Read a vocabulary into memory.

    Returns:
        `value` string and `id` int32 of each field that has any, by id.
    """
    entries = vocabulary.select("field", "value", "id").to_pyarrow().combine_chunks()
    fields = pc.dictionary_encode(entries["field"]).combine_chunks()
    entries = entries.drop_columns("field")
    by_field = {}
    for code, field in enumerate(fields.dictionary.to_pylist()):
        own = entries.filter(pc.equal(fields.indices, code))
        by_field[field] = own.take(pc.sort_indices(own["id"])).combine_chunks()
    return by_field


def _field_vocabulary(
    train: ir.Table, field: FieldSource, schema: LogSchema, min_count: int
) -> ir.Table:
    column = train[field.column]
    counted = train.group_by(value=column).aggregate(count=train.count())
    if field.kind != CATEGORICAL:
        # What is derived is derived from each raw value once: there are far fewer than rows.
        cells = counted.rename({field.column: "value"})
        counted = cells.group_by(value=field_value(cells, field, schema)).aggregate(
            # DuckDB sums in 128 bits and would write them as floats; files are below 2^31 rows.
            count=cells["count"].sum().cast("int32").cast("int64")
        )
    kept = counted.filter(counted["count"] >= min_count)
    by_rank = ibis.window(order_by=[kept["count"].desc(), kept["value"].asc()])
    return kept.select(
        field=ibis.literal(field.name),
        value=kept["value"],
        count=kept["count"],
        id=(ibis.row_number().over(by_rank) + 1).cast("int32"),
    )
