"""From a split's raw rows to ids."""

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from llm_ctr_pipeline.data.engine import POSITION
from llm_ctr_pipeline.data.normalise import field_value
from llm_ctr_pipeline.data.schema import CATEGORICAL, LABEL, ROW, FieldSource, LogSchema


def encode(
    raw: ir.Table, vocabulary: ir.Table, schema: LogSchema, sizes: Mapping[str, int]
) -> ir.Table:
    """Replace every value by its id in the field's vocabulary, or 0 where it has none.

    Args:
        raw: A split's checked rows as strings, and their position; a table or view of the
            engine, since it is read several times.
        vocabulary: `field`, `value`, `count`, `id`, as `fit_vocabulary` returns it.
        schema: The log's description.
        sizes: About how many ids each field has. The result does not depend on it.

    Returns:
        `row` int64, the position in the raw file; `label` int8; one int32 column per field;
        sorted by `row`, since joins keep no order.
    """
    by_column: dict[str, list[FieldSource]] = {}
    for field in schema.fields:
        if field.column is not None:
            by_column.setdefault(field.column, []).append(field)
    joined = raw
    # A row without a match leaves its batch in DuckDB, and a batch in pieces slows down the joins
    # behind: the columns with the fewest values come first, the others hold nearly all rare ones.
    for column in sorted(by_column, key=lambda name: max(_sizes(by_column[name], sizes))):
        ids = _ids_of_cells(raw, vocabulary, column, by_column[column], schema)
        joined = joined.left_join(ids, joined[column] == ids[_cell(column)])
    zero = ibis.literal(0, "int32")
    encoded = {
        field.name: zero
        if field.column is None
        else joined[_id(field.name)].fill_null(0).cast("int32")
        for field in schema.fields
    }
    return joined.select(
        **{ROW: joined[POSITION], LABEL: joined[schema.label].cast("int8")}, **encoded
    ).order_by(ROW)


def _ids_of_cells(
    raw: ir.Table,
    vocabulary: ir.Table,
    column: str,
    fields: Sequence[FieldSource],
    schema: LogSchema,
) -> ir.Table:
    """The ids of all fields made of a raw column, for each of its cells that differ."""
    if [field.kind for field in fields] == [CATEGORICAL]:
        known = vocabulary.filter(vocabulary["field"] == fields[0].name)
        return known.select(**{_cell(column): known["value"], _id(fields[0].name): known["id"]})
    # What is derived is derived from each raw value once, and looked up with one join.
    cells = raw.select(column).distinct()
    cells = cells.select(
        **{_cell(column): cells[column]},
        **{_value(field.name): field_value(cells, field, schema) for field in fields},
    )
    for field in fields:
        known = vocabulary.filter(vocabulary["field"] == field.name)
        known = known.select(**{_known(field.name): known["value"], _id(field.name): known["id"]})
        cells = cells.left_join(known, cells[_value(field.name)] == known[_known(field.name)])
    return cells.select(_cell(column), *(_id(field.name) for field in fields))


def _sizes(fields: Sequence[FieldSource], sizes: Mapping[str, int]) -> list[int]:
    return [sizes[field.name] for field in fields]


def _cell(column: str) -> str:
    return f"{column}__cell"


def _value(field: str) -> str:
    return f"{field}__value"


def _known(field: str) -> str:
    return f"{field}__known"


def _id(field: str) -> str:
    return f"{field}__id"
