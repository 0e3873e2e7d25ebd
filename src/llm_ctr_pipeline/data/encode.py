"""From a normalised split to ids."""

import ibis.expr.types as ir

from llm_ctr_pipeline.data.schema import LABEL, ROW


def encode(normalised: ir.Table, vocabulary: ir.Table, fields: tuple[str, ...]) -> ir.Table:
    """Replace every value by its id in the field's vocabulary, or 0 where it has none.

    Args:
        normalised: `row`, `label` and the fields as strings.
        vocabulary: `field`, `value`, `count`, `id`, as `fit_vocabulary` returns it.
        fields: The fields in order.

    Returns:
        `row` int64, `label` int8, one int32 column per field; sorted by `row`, since
        joins keep no order.
    """
    joined = normalised
    for field in fields:
        known = vocabulary.filter(vocabulary["field"] == field).select(
            **{_value(field): vocabulary["value"], _id(field): vocabulary["id"]}
        )
        joined = joined.left_join(known, joined[field] == known[_value(field)])
    return joined.select(
        ROW, LABEL, **{field: joined[_id(field)].fill_null(0).cast("int32") for field in fields}
    ).order_by(ROW)


def _value(field: str) -> str:
    return f"{field}__value"


def _id(field: str) -> str:
    return f"{field}__id"
