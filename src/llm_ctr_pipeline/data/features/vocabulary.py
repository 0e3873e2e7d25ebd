"""The vocabulary: which values of each field get an id of their own, and of several logs together.

The codes of x1 and x2 are not x4's strings, nor each other's, so in a joint vocabulary their values
stay apart: it extends that of the first log. Its values keep their ids, so its encoded files and
embeddings trained on it remain valid; the others' values get the ids behind them. Parts of the time
mean the same in every log: there a value that is already known keeps its id.
"""

from collections.abc import Mapping, Sequence
from itertools import count

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llm_ctr_pipeline.data.log.derived_fields import field_value
from llm_ctr_pipeline.data.log.schema import CATEGORICAL, FieldSource, LogSchema
from llm_ctr_pipeline.data.raw.splits import in_split

DATASET = "dataset"


def fit_vocabulary(train: ir.Table, schema: LogSchema, min_count: int) -> ir.Table:
    """Number the values of each field that the training split holds often enough.

    Ids go by count descending, then by value in the order of its bytes, so that the same
    rows give the same ids on any engine and any number of threads. They begin at 1: id 0
    is left for "unknown". A field that the log lacks gets none.

    Args:
        train: The raw rows of the training split, as strings, or rows in which `mark_split`
            marked them; a table or view of the engine, since every field reads it anew.
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
        count_values(train, field, schema).mutate(
            field=ibis.literal(field.name), position=ibis.literal(position, "int32")
        )
        for position, field in enumerate(schema.fields)
        if field.column is not None
    ]
    counted = ibis.union(*per_field, distinct=False)
    kept = counted.filter(counted["count"] >= min_count)
    by_rank = ibis.window(group_by="position", order_by=[kept["count"].desc(), kept["value"].asc()])
    ranked = kept.mutate(id=(ibis.row_number().over(by_rank) + 1).cast("int32"))
    return ranked.order_by(["position", "id"]).select("field", "value", "count", "id")


def entries_by_field(vocabulary: ir.Table) -> dict[str, pa.Table]:
    """Read a vocabulary into memory.

    Returns:
        `value` string and `id` int32 of each field that has any, by id.
    """
    entries = vocabulary.select("field", "value", "id").to_pyarrow().combine_chunks()
    fields = pc.dictionary_encode(entries["field"]).combine_chunks()
    codes = fields.indices.to_numpy()
    entries = entries.take(np.lexsort((entries["id"].to_numpy(), codes))).drop_columns("field")
    ends = np.cumsum(np.bincount(codes, minlength=len(fields.dictionary)))
    by_field, first = {}, 0
    for field, end in zip(fields.dictionary.to_pylist(), ends.tolist(), strict=True):
        by_field[field] = entries.slice(first, end - first)
        first = end
    return by_field


def join_vocabularies(
    vocabularies: Mapping[str, ir.Table], fields: Sequence[str], shared: Sequence[str]
) -> ir.Table:
    """Number the values of several logs together.

    Args:
        vocabularies: Each log's own vocabulary by its short name; the first keeps its ids.
        fields: The fields in order, the same for all logs.
        shared: Those of them whose values mean the same in every log.

    Returns:
        `dataset` string, `field` string, `value` string, `count` int64, `id` int32; by log,
        then field, then id. A log's rows are its part: all its values, whether or not another
        log has them too.
    """
    (first, base), *others = vocabularies.items()
    joint = base.select(dataset=ibis.literal(first), **_entries(base))
    for dataset, own in others:
        joint = joint.union(_numbered_after(joint, own, dataset, shared))
    positions = {
        "dataset_position": joint[DATASET].cases(*zip(vocabularies, count()), else_=-1),
        "field_position": joint["field"].cases(*zip(fields, count()), else_=-1),
    }
    return joint.mutate(**positions).order_by([*positions, "id"]).drop(*positions)


def part_of(vocabulary: ir.Table, dataset: str) -> ir.Table:
    """Take one log's part of a joint vocabulary; another vocabulary is of one log already."""
    if DATASET not in vocabulary.columns:
        return vocabulary
    return vocabulary.filter(vocabulary[DATASET] == dataset).drop(DATASET)


def count_values(train: ir.Table, field: FieldSource, schema: LogSchema) -> ir.Table:
    """How often each value of a field occurs: `value` string, `count` int64."""
    rows = train.count(where=in_split(train))
    counted = train.group_by(value=train[field.column]).aggregate(count=rows)
    if field.kind == CATEGORICAL:
        return counted
    # What is derived is derived from each raw value once: there are far fewer than rows.
    cells = counted.rename({field.column: "value"})
    return cells.group_by(value=field_value(cells, field, schema)).aggregate(
        # DuckDB sums in 128 bits and would write them as floats; files are below 2^31 rows.
        count=cells["count"].sum().cast("int32").cast("int64")
    )


def _numbered_after(
    joint: ir.Table, own: ir.Table, dataset: str, shared: Sequence[str]
) -> ir.Table:
    """Give a log's values the ids behind those in use, in the order of its own ids."""
    in_use = joint.group_by(used_field="field").aggregate(used=joint["id"].max())
    seen = (
        joint.filter(joint["field"].isin(shared))
        .select(seen_field="field", seen_value="value", seen_id="id")
        .distinct()
    )
    matched = own.left_join(
        seen, [own["field"] == seen["seen_field"], own["value"] == seen["seen_value"]]
    ).left_join(in_use, own["field"] == in_use["used_field"])
    matched = matched.mutate(is_new=matched["seen_id"].isnull())
    by_own_id = ibis.window(group_by=[matched["field"], matched["is_new"]], order_by=matched["id"])
    new_id = matched["used"].fill_null(0) + ibis.row_number().over(by_own_id) + 1
    return matched.select(
        dataset=ibis.literal(dataset),
        **_entries(matched)
        | {"id": matched["is_new"].ifelse(new_id, matched["seen_id"]).cast("int32")},
    )


def _entries(vocabulary: ir.Table) -> dict[str, ir.Column]:
    return {name: vocabulary[name] for name in ("field", "value", "count", "id")}
