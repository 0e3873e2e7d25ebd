"""Which rows of a raw log are in which split: given files, or rows held out of train.

Everything is decided by row numbers and the seed in whole numbers, so that any engine on any
number of threads gives the same splits.
"""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from itertools import accumulate
from operator import and_, or_

import ibis
import ibis.expr.types as ir
from ibis.util import gen_name

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import ROW, LogSchema
from llm_ctr_pipeline.data.log.times import FORMATS
from llm_ctr_pipeline.data.raw.manifest import Cuts, Key

# A prime below 2^31: products of two remainders fit an int64. Raising to the 5th power
# permutes the remainders, as 5 does not divide PRIME - 1.
PRIME = 2**31 - 1
_ROUNDS = 2

# Random, so that no raw column is called the same.
IN_SPLIT = gen_name("is_in_split")


def sample(table: ir.Table, every_nth_row: int) -> ir.Table:
    """Keep the first of every `every_nth_row` rows of a raw file."""
    return table if every_nth_row == 1 else table.filter(table[ROW] % every_nth_row == 0)


def shuffled(row: ir.IntegerColumn, seed: int) -> ir.IntegerColumn:
    """Give each row number below 2^31 - 1 another one; sorted by it, rows are in random order.

    No two rows get the same. Only products and remainders are used, which every engine
    computes alike.
    """
    digest = hashlib.sha256(f"split {seed}".encode()).digest()
    value = row.cast("int64")
    for round_ in range(_ROUNDS):
        factor, shift = (
            int.from_bytes(digest[start : start + 8]) % (PRIME - 1) + 1
            for start in (16 * round_, 16 * round_ + 8)
        )
        value = (value * ibis.literal(factor, "int64") + shift) % PRIME
        square = value * value % PRIME
        value = square * square % PRIME * value % PRIME
    return value


def find_cuts(table: ir.Table, schema: LogSchema) -> Cuts | None:
    """Find where the training file is cut; None where every split has a file of its own.

    Drawn at random, each class gives its share to a row; by time, the last rows are held
    out, valid before test. `table` holds the checked rows of the training file, sampled.

    Raises:
        RawLogError: If the shares leave a split without rows.
    """
    splits = schema.splits
    parts = ("train", *splits.shares)
    if len(parts) == 1:
        return None
    keys = {f"key_{at}": key for at, key in enumerate(_keys(table, schema))}
    keyed = table.select(group=_group(table, schema), **keys)
    counted = keyed.group_by("group").aggregate(rows=keyed.count()).to_pyarrow().to_pylist()
    ends = {found["group"]: _part_ends(found["rows"], schema) for found in counted}
    of_all = [sum(at) for at in zip(*ends.values(), strict=True)]
    for part, before, end in zip(parts, [0, *of_all], of_all, strict=False):
        if before == end:
            raise RawLogError(
                f"{splits.files['train']} has {of_all[-1]} rows: the shares held out "
                f"of it leave no row for {part}"
            )
    by_rank = ibis.window(group_by="group", order_by=[*keys])
    ranked = keyed.mutate(rank=ibis.row_number().over(by_rank) + 1)
    is_last = [
        (ranked["group"] == group) & ranked["rank"].isin(group_ends[:-1])
        for group, group_ends in ends.items()
    ]
    found = ranked.filter(reduce(or_, is_last)).to_pyarrow().to_pylist()
    key_at = {(row["group"], row["rank"]): tuple(row[name] for name in keys) for row in found}
    # A part may begin with no row of a rare class: it then ends before all shuffled numbers.
    nothing: Key = (-1,)
    last_keys = {
        group: tuple(key_at.get((group, end), nothing) for end in group_ends[:-1])
        for group, group_ends in ends.items()
    }
    return Cuts(parts=parts, last_keys=last_keys)


def mark_split(table: ir.Table, split: str, schema: LogSchema, cuts: Cuts | None) -> ir.Table:
    """Say which rows are a split's, in a column `IN_SPLIT`, bool; without it all of them are.

    A row's key is a long expression. Engines reckon it once for a column, but once for each
    time that it holds itself for a filter: counting fields in marked rows takes a fifth. `table`
    holds the sampled rows of the file that the split is made of.
    """
    if cuts is None or split not in cuts.parts:
        return table
    keys, group = _keys(table, schema), _group(table, schema)
    part = cuts.parts.index(split)
    bounds = []
    if part > 0:
        bounds.append(_is_after(keys, _last_keys(group, cuts, part - 1)))
    if part < len(cuts.parts) - 1:
        bounds.append(~_is_after(keys, _last_keys(group, cuts, part)))
    return table.mutate(**{IN_SPLIT: reduce(and_, bounds)})


def in_split(marked: ir.Table) -> ir.BooleanColumn | None:
    """Which rows `mark_split` marked; None for all of them."""
    return marked[IN_SPLIT] if IN_SPLIT in marked.columns else None


def rows_in_split(marked: ir.Table) -> ir.Table:
    """Keep the rows that `mark_split` marked."""
    is_in = in_split(marked)
    return marked if is_in is None else marked.filter(is_in).drop(IN_SPLIT)


def _keys(table: ir.Table, schema: LogSchema) -> list[ir.Column]:
    """What rows are sorted by before the file is cut."""
    splits = schema.splits
    time = None if splits.time_column is None else schema.time_of(splits.time_column)
    if time is None:
        return [shuffled(table[ROW], splits.seed)]
    return [FORMATS[time.format].sort_key(table[time.column]), table[ROW]]


def _group(table: ir.Table, schema: LogSchema) -> ir.StringColumn:
    """Which rows are cut apart from the others: those of a class, unless the cut is by time."""
    return table[schema.label] if schema.splits.time_column is None else ibis.literal("all")


def _part_ends(rows: int, schema: LogSchema) -> list[int]:
    """How many of a group's rows stand before the end of each part; shares rounded to a row."""
    held_out = [round(Fraction(str(share)) * rows) for share in schema.splits.shares.values()]
    return [*accumulate(held_out, initial=rows - sum(held_out))]


def _last_keys(group: ir.StringColumn, cuts: Cuts, part: int) -> Sequence[int | str | ir.Column]:
    """The key of the last row of a part: of the row's own group, where there are several.

    So each bound needs a row's key once; engines compute it anew wherever a filter names it.
    """
    by_group = {name: last_keys[part] for name, last_keys in cuts.last_keys.items()}
    if len(by_group) == 1:
        return next(iter(by_group.values()))
    (_, *others), (first, *_) = by_group.items(), by_group.values()
    return [
        group.cases(*((name, last[at]) for name, last in others), else_=first[at])
        for at in range(len(first))
    ]


def _is_after(keys: list[ir.Column], last: Sequence[int | str | ir.Column]) -> ir.BooleanColumn:
    """Whether a row's key comes after another, its first column first."""
    key, bound = keys[0], last[0]
    if len(keys) == 1:
        return key > bound
    return (key > bound) | ((key == bound) & _is_after(keys[1:], last[1:]))
