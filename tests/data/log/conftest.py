from collections.abc import Callable

import ibis
import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.log.schema import ROW, LogSchema

Normalise = Callable[[ir.Table, LogSchema], ir.Table]
Values = Callable[..., dict[str, list[str]]]


@pytest.fixture
def values(connection: Backend, normalise: Normalise) -> Values:
    """A log's fields, by name, of rows given by column."""

    def make(schema: LogSchema, **columns: list[str]) -> dict[str, list[str]]:
        rows = len(next(iter(columns.values())))
        raw = {ROW: [*range(rows)], "label": ["0"] * rows, **columns}
        table = connection.create_table("raw", ibis.memtable(raw), overwrite=True)
        found = normalise(table, schema).order_by("row").to_pyarrow().to_pydict()
        return {name: found[name] for name in schema.names}

    return make
