"""From a split's raw rows to ids."""

from collections.abc import Sequence
from typing import TypeAlias

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
from ibis.backends import BaseBackend
from ibis.util import gen_name

from llm_ctr_pipeline.data.features.dictionary_encoder import CellIds, LookUp, count_rows
from llm_ctr_pipeline.data.features.vocabulary import entries_by_field
from llm_ctr_pipeline.data.log.derived_fields import field_value
from llm_ctr_pipeline.data.log.schema import (
    CATEGORICAL,
    LABEL,
    ROW,
    SPLITS,
    FieldSource,
    LogSchema,
)
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog, RawSplit
from llm_ctr_pipeline.data.raw.splits import IN_SPLIT, in_split
from llm_ctr_pipeline.data.storage.engine import DUCKDB, threads_of, write_parquet
from llm_ctr_pipeline.data.storage.store_path import AnyPath

# Random ends of names, so that no raw column is called the same.
_CELL, _KNOWN, _ID = gen_name("cell"), gen_name("known"), gen_name("id")
# Rows to be written: a table of the engine, or rows that are looked up meanwhile.
Encoded: TypeAlias = ir.Table | LookUp


def encode_splits(checked: CheckedLog, vocabulary: ir.Table) -> dict[str, Encoded]:
    """Replace every value by its id in the field's vocabulary, or 0 where it has none.

    Args:
        checked: The log.
        vocabulary: `field`, `value`, `count`, `id`, as `fit_vocabulary` returns it.

    Returns:
        By split, what `encode` returns; with DuckDB rows that are encoded while they are written.
    """
    connection, schema = checked.rows.connection, checked.raw_log.log
    splits = {name: checked.split(name) for name in SPLITS}
    if connection.name != DUCKDB:
        return {name: encode(split.table, vocabulary, schema) for name, split in splits.items()}
    # The cells of all files at once: which of them are a split's need not be told.
    rows = ibis.union(*checked.rows.tables.values(), distinct=False)
    columns = _ids_by_column(rows, vocabulary, schema)
    threads = threads_of(connection)
    return {
        name: LookUp(split.source, _chosen(split), columns, schema, threads)
        for name, split in splits.items()
    }


def _ids_by_column(rows: ir.Table, vocabulary: ir.Table, schema: LogSchema) -> dict[str, CellIds]:
    """The ids of a log's cells, by raw column."""
    known = entries_by_field(vocabulary)
    columns = {}
    for column, fields in _by_column(schema).items():
        names = [field.name for field in fields]
        if not _is_plain(fields):
            found = _ids_of_cells(rows, vocabulary, column, fields, schema).to_pyarrow()
            cells, *ids = found.combine_chunks().columns
            by_field = {
                name: of_field.fill_null(0).to_numpy()
                for name, of_field in zip(names, ids, strict=True)
            }
            columns[column] = CellIds(cells.combine_chunks(), by_field)
        elif names[0] in known:
            entries = known[names[0]]
            by_field = {names[0]: entries["id"].to_numpy()}
            columns[column] = CellIds(entries["value"].combine_chunks(), by_field)
    return columns


def _chosen(split: RawSplit) -> npt.NDArray[np.bool_] | None:
    """Which rows of its file are a split's; None for all."""
    if not split.is_part:
        return None
    chosen = np.zeros(count_rows(split.source), dtype=np.bool_)
    is_in = in_split(split.marked)
    marked = split.marked.select(ROW, **{IN_SPLIT: ibis.literal(True) if is_in is None else is_in})
    for batch in marked.to_pyarrow_batches():
        chosen[batch[ROW].to_numpy()] = batch[IN_SPLIT].to_numpy(zero_copy_only=False)
    return chosen


def write_encoded(connection: BaseBackend, rows: Encoded, path: AnyPath) -> None:
    """Write encoded rows to a Parquet file, or a folder of them."""
    if isinstance(rows, LookUp):
        rows.write(path)
    else:
        write_parquet(connection, rows, path)


def encode(raw: ir.Table, vocabulary: ir.Table, schema: LogSchema) -> ir.Table:
    """Replace every value by its id, by joins.

    Args:
        raw: A split's checked rows as strings, and their position; a table or view of the
            engine, since it is read several times.
        vocabulary: See `encode_splits`.
        schema: The log's description.

    Returns:
        `row` int64, the position in the raw file; `label` int8; one int32 column per field;
        sorted by `row`, since joins keep no order.
    """
    joined = raw
    for column, fields in _by_column(schema).items():
        ids = _ids_of_cells(raw, vocabulary, column, fields, schema)
        joined = joined.left_join(ids, joined[column] == ids[_cell(column)])
    zero = ibis.literal(0, "int32")
    encoded = {
        field.name: zero
        if field.column is None
        else joined[_id(field.name)].fill_null(0).cast("int32")
        for field in schema.fields
    }
    return joined.select(
        **{ROW: joined[ROW], LABEL: joined[schema.label].cast("int8")}, **encoded
    ).order_by(ROW)


def _by_column(schema: LogSchema) -> dict[str, list[FieldSource]]:
    """The fields made of each raw column."""
    by_column: dict[str, list[FieldSource]] = {}
    for field in schema.fields:
        if field.column is not None:
            by_column.setdefault(field.column, []).append(field)
    return by_column


def _is_plain(fields: Sequence[FieldSource]) -> bool:
    """Whether a column's cells are the values of the only field made of it."""
    return [field.kind for field in fields] == [CATEGORICAL]


def _ids_of_cells(
    raw: ir.Table,
    vocabulary: ir.Table,
    column: str,
    fields: Sequence[FieldSource],
    schema: LogSchema,
) -> ir.Table:
    """The ids of all fields made of a raw column, for each of its cells that differ."""
    known = {
        field.name: vocabulary.filter(vocabulary["field"] == field.name).select(
            **{_known(field.name): "value", _id(field.name): "id"}
        )
        for field in fields
    }
    if _is_plain(fields):
        return known[fields[0].name].rename({_cell(column): _known(fields[0].name)})
    # What is derived is derived from each raw value once, and looked up with one join.
    cells = raw.select(column).distinct()
    for field in fields:
        ids = known[field.name]
        value = field_value(cells, field, schema)
        cells = cells.left_join(ids, value == ids[_known(field.name)])
    return cells.select(
        **{_cell(column): cells[column]}, **{_id(f.name): cells[_id(f.name)] for f in fields}
    )


def _cell(column: str) -> str:
    return f"{column}{_CELL}"


def _known(field: str) -> str:
    return f"{field}{_KNOWN}"


def _id(field: str) -> str:
    return f"{field}{_ID}"
