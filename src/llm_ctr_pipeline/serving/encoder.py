"""From raw cells to ids, as preprocessing makes them, for rows that come a few at a time.

Values are looked up in memory. What is derived from a cell (parts of a time, buckets of a number)
and whether a cell is as the log's description says is reckoned by preprocessing's own expressions,
in DuckDB, once for each cell that was not met before.

Shape legend: N rows, F fields.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llm_ctr_pipeline.data.features.vocabulary import entries_by_field, part_of
from llm_ctr_pipeline.data.log.derived_fields import field_value
from llm_ctr_pipeline.data.log.schema import CATEGORICAL, FieldSource, LogSchema
from llm_ctr_pipeline.data.raw.checks import Rule, rules
from llm_ctr_pipeline.data.raw.csv_text import shown

_TABLE = "cells"
# Of each derivation, cells whose ids are kept; then it begins anew.
_MOST_KEPT = 1_000_000

# The cells of a row in some columns.
Cells = tuple[str, ...]
# Of some cells the ids of the fields made of them, or the rule that they break.
Found = tuple[int, ...] | Rule


@dataclass(frozen=True)
class EncodedRows:
    """Rows as ids.

    Attributes:
        ids_NF: Ids within each field, int32, `[N, F]`; 0 where a value has none, or is bad.
        bad_N: Whether a row has a cell that is not as the log's description says, bool, `[N]`.
        fault: What is wrong with the first of those; empty if there is none.
    """

    ids_NF: npt.NDArray[np.int32]
    bad_N: npt.NDArray[np.bool_]
    fault: str


class RowEncoder:
    """Makes ids of a log's raw cells.

    Args:
        schema: The log's description.
        vocabulary: Columns field, value, id; of a joint one also dataset.

    Attributes:
        columns: The raw columns that fields are made of.
        numeric: Those of them that hold numbers.
    """

    def __init__(self, schema: LogSchema, vocabulary: pa.Table) -> None:
        made = [field for field in schema.fields if field.column is not None]
        self.columns = schema.feature_columns
        self.numeric = schema.numeric_columns
        own = entries_by_field(part_of(ibis.memtable(vocabulary), schema.dataset))
        known = {
            name: dict(zip(entries["value"].to_pylist(), entries["id"].to_pylist(), strict=True))
            for name, entries in own.items()
        }
        table = ibis.table(dict.fromkeys(schema.raw_columns, "string"), name=_TABLE)
        # Those of columns that no field is made of do not matter here.
        checked = [
            rule for rule in rules(table, schema) if _columns_read_by(rule.bad) <= {*self.columns}
        ]
        derived = {str(field.column) for field in made if field.kind != CATEGORICAL}
        read_together = [_columns_read_by(rule.bad) for rule in checked]
        plain = [f for f in made if f.column not in derived.union(*read_together)]
        values = [_Values(field, known.get(field.name, {})) for field in plain]
        groups = _groups(derived, read_together)
        others = [_Derived(columns, table, schema, checked, known) for columns in groups]
        self._lookups: tuple[_LookUp, ...] = (*values, *others)
        self._positions = {field.name: at for at, field in enumerate(schema.fields)}

    def encode(self, cells: pa.Table) -> EncodedRows:
        """Make ids.

        Args:
            cells: At least `columns`, as strings or dictionaries of strings, without nulls.
        """
        ids_NF = np.zeros((cells.num_rows, len(self._positions)), dtype=np.int32)
        bad_N = np.zeros(cells.num_rows, dtype=np.bool_)
        faults: list[tuple[int, str]] = []
        for lookup in self._lookups:
            distinct, place_N = _distinct(cells, lookup.columns)
            found = lookup.find(distinct)
            none = (0,) * len(lookup.fields)
            ids = np.array(
                [none if isinstance(of_cell, Rule) else of_cell for of_cell in found],
                dtype=np.int32,
            ).reshape(-1, len(none))
            for at, field in enumerate(lookup.fields):
                ids_NF[:, self._positions[field]] = ids[place_N, at]
            bad = np.array([isinstance(of_cell, Rule) for of_cell in found], dtype=np.bool_)
            if bad.any():
                row = int(bad[place_N].argmax())
                rule, value = found[place_N[row]], distinct[place_N[row]]
                faults.append((row, _told(rule, dict(zip(lookup.columns, value, strict=True)))))
                bad_N |= bad[place_N]
        return EncodedRows(ids_NF, bad_N, min(faults)[1] if faults else "")


class _LookUp(Protocol):
    """Gives the ids of the fields that are made of some columns."""

    columns: tuple[str, ...]
    fields: tuple[str, ...]

    def find(self, distinct: Sequence[Cells]) -> Sequence[Found]:
        """What stands for cells of `columns`: an id for each of `fields`."""


class _Values:
    """The ids of a field whose values are a raw column's cells."""

    def __init__(self, field: FieldSource, known: Mapping[str, int]) -> None:
        self.columns: tuple[str, ...] = (str(field.column),)
        self.fields: tuple[str, ...] = (field.name,)
        self._known = known

    def find(self, distinct: Sequence[Cells]) -> Sequence[Found]:
        return [(self._known.get(cell, 0),) for (cell,) in distinct]


class _Derived:
    """The ids of fields that are derived from some columns' cells."""

    def __init__(
        self,
        columns: tuple[str, ...],
        table: ir.Table,
        schema: LogSchema,
        checked: Sequence[Rule],
        known: Mapping[str, Mapping[str, int]],
    ) -> None:
        made = [field for field in schema.fields if field.column in columns]
        self.columns = columns
        self.fields = tuple(field.name for field in made)
        self._rules = [rule for rule in checked if _columns_read_by(rule.bad) <= {*columns}]
        self._known = [known.get(name, {}) for name in self.fields]
        bad = {f"rule_{at}": rule.bad for at, rule in enumerate(self._rules)}
        values = {field.name: field_value(table, field, schema) for field in made}
        self._queries = [
            ibis.to_sql(table.select(**wanted), dialect="duckdb") if wanted else None
            for wanted in (bad, values)
        ]
        self._connection = ibis.duckdb.connect(threads=1).con
        self._kept: dict[Cells, Found] = {}
        self._lock = Lock()  # DuckDB's connection is one thread's at a time

    def find(self, distinct: Sequence[Cells]) -> Sequence[Found]:
        """Look cells up, or reckon what is not kept."""
        with self._lock:
            unmet = [cells for cells in distinct if cells not in self._kept]
            if unmet:
                if len(self._kept) + len(unmet) > _MOST_KEPT:
                    self._kept, unmet = {}, [*distinct]
                self._kept |= self._reckon(unmet)
            return [self._kept[cells] for cells in distinct]

    def _reckon(self, unmet: Sequence[Cells]) -> dict[Cells, Found]:
        found: dict[Cells, Found] = {}
        of_rules, of_values = self._queries
        if of_rules is not None:
            for cells, broken in zip(unmet, self._run(of_rules, unmet), strict=True):
                if any(broken):
                    found[cells] = self._rules[broken.index(True)]
        # Engines refuse what cannot be derived, so that it must not reach them.
        good = [cells for cells in unmet if cells not in found]
        if of_values is None or not good:
            return found | dict.fromkeys(good, ())
        for cells, values in zip(good, self._run(of_values, good), strict=True):
            ids = zip(self._known, values, strict=True)
            found[cells] = tuple(known.get(value, 0) for known, value in ids)
        return found

    def _run(self, query: str, cells: Sequence[Cells]) -> list[tuple[Any, ...]]:
        columns = zip(*cells, strict=True)
        arrays = [pa.array(column, pa.string()) for column in columns]
        self._connection.register(_TABLE, pa.table(arrays, names=[*self.columns]))
        result: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
        return result


def _columns_read_by(expression: ir.Value) -> frozenset[str]:
    """The columns that an expression reads."""
    return frozenset(field.name for field in expression.op().find(ops.Field))


def _groups(
    columns: Collection[str], read_together: Sequence[Collection[str]]
) -> list[tuple[str, ...]]:
    """Put columns that are read together into one group; every column is in one."""
    groups = [{column} for column in sorted(columns)]
    for together in read_together:
        met = [group for group in groups if group & {*together}]
        groups = [group for group in groups if group not in met]
        groups.append(set(together).union(*met))
    return [tuple(sorted(group)) for group in groups]


def _distinct(
    cells: pa.Table, columns: tuple[str, ...]
) -> tuple[list[Cells], npt.NDArray[np.integer]]:
    """The cells of some columns that differ, and which of them each row has, `[N]`."""
    if len(columns) == 1:
        column = cells[columns[0]].combine_chunks()
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        return [(cell,) for cell in coded.dictionary.to_pylist()], coded.indices.to_numpy()
    places: dict[Cells, int] = {}
    rows = zip(*(cells[column].to_pylist() for column in columns), strict=True)
    place_N = [places.setdefault(row, len(places)) for row in rows]
    return [*places], np.array(place_N, dtype=np.int64)


def _told(rule: Found, cells: Mapping[str, str]) -> str:
    assert isinstance(rule, Rule)  # noqa: S101 - it was found as one
    return f"column {rule.column!r}: {shown(cells[rule.column])} is not {rule.expected}"
