"""A vocabulary over several encodings of the same fields.

The codes of x1 and x2 are not x4's strings, nor each other's, so their values stay apart: the
joint vocabulary extends that of the first log. Its values keep their ids, so its encoded files
and embeddings trained on it remain valid; the others' values get the ids behind them. Parts of
the time mean the same in every log: there a value that is already known keeps its id.
"""

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

DATASET = "dataset"


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
        "dataset_position": joint[DATASET].cases(*_numbered(vocabularies), else_=-1),
        "field_position": joint["field"].cases(*_numbered(fields), else_=-1),
    }
    return joint.mutate(**positions).order_by([*positions, "id"]).drop(*positions)


def part_of(vocabulary: ir.Table, dataset: str) -> ir.Table:
    """Take one log's part of a joint vocabulary; another vocabulary is of one log already."""
    if DATASET not in vocabulary.columns:
        return vocabulary
    return vocabulary.filter(vocabulary[DATASET] == dataset).drop(DATASET)


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


def _numbered(names: Sequence[str] | Mapping[str, ir.Table]) -> list[tuple[str, int]]:
    return [(name, position) for position, name in enumerate(names)]
