"""The vocabulary: which values of each field get an id of their own."""

import ibis
import ibis.expr.types as ir


def fit_vocabulary(train: ir.Table, fields: tuple[str, ...], min_count: int) -> ir.Table:
    """Number the values of each field that the training split holds often enough.

    Ids go by count descending, then by value in the order of its bytes, so that the same
    rows give the same ids on any engine and any number of threads. They begin at 1: id 0
    is left for "unknown". A field that the log lacks is null and gets none.

    Args:
        train: The normalised training split.
        fields: The fields in order.
        min_count: How often a value must occur to get an id, at least 1.

    Returns:
        `field` string, `value` string, `count` int64, `id` int32; by field order, then id.

    Raises:
        ValueError: If `min_count` is below 1.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}: it must be at least 1")
    per_field = [
        _field_vocabulary(train, field, min_count).mutate(position=ibis.literal(position, "int32"))
        for position, field in enumerate(fields)
    ]
    return ibis.union(*per_field, distinct=False).order_by(["position", "id"]).drop("position")


def _field_vocabulary(train: ir.Table, field: str, min_count: int) -> ir.Table:
    counted = train.group_by(value=train[field]).aggregate(count=train.count())
    kept = counted.filter((counted["count"] >= min_count) & counted["value"].notnull())
    by_rank = ibis.window(order_by=[kept["count"].desc(), kept["value"].asc()])
    return kept.select(
        field=ibis.literal(field),
        value=kept["value"],
        count=kept["count"],
        id=(ibis.row_number().over(by_rank) + 1).cast("int32"),
    )
