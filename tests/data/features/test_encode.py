"""Values that became ids, by joins."""

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.encode import encode
from llm_ctr_pipeline.data.features.vocabulary import (
    fit_vocabulary,
    join_vocabularies,
    part_of,
)
from llm_ctr_pipeline.data.log.schema import FieldSource, TimeColumn
from tests.data.logs import FIELDS, changed, log_of, raw_table


def test_encoded_rows_of_every_log(splits: dict[str, ir.Table], own: dict[str, ir.Table]) -> None:
    joint = join_vocabularies(own, FIELDS, ["hour"])
    first = encode(splits["x4"], part_of(joint, "x4"), log_of(*FIELDS)).to_pyarrow()
    assert first == encode(splits["x4"], own["x4"], log_of(*FIELDS)).to_pyarrow()
    second = encode(splits["x1"], part_of(joint, "x1"), log_of(*FIELDS)).to_pyarrow()
    assert second["site"].to_pylist() == [4, 5, 5, 4, 4, 6]
    assert second["hour"].to_pylist() == [2, 2, 4, 4, 4, 5]


def test_every_field_of_a_column_gets_its_ids_and_the_label_a_number(connection: Backend) -> None:
    schema = changed(
        log_of("site"),
        times=(TimeColumn(column="at", format="unix_seconds"),),
        fields=(
            FieldSource(name="hour", kind="hour", column="at"),
            FieldSource(name="weekend", kind="weekend", column="at"),
            FieldSource(name="site"),
        ),
    )
    raw = raw_table(connection, "raw", at=["0", "3600", "0"], site=["b", "a", "c"])
    known = {"hour": ["1"], "weekend": ["0", "1"], "site": ["a", "b"]}  # 1 January 1970: Thursday
    entries = [(field, value, id_) for field in known for id_, value in enumerate(known[field], 1)]
    vocabulary = ibis.memtable(entries, columns=["field", "value", "id"])
    encoded = encode(raw, connection.create_table("vocabulary", vocabulary), schema)
    assert encoded.to_pyarrow().to_pydict() == {
        "row": [0, 1, 2],
        "label": [0, 0, 0],
        "hour": [0, 1, 0],
        "weekend": [1, 1, 1],
        "site": [2, 1, 0],
    }


def test_columns_may_be_called_what_joins_are_wont_to_call_theirs(connection: Backend) -> None:
    names = ("a", "a__cell", "a__id", "a__known", "id", "key", "value", "count")
    columns = {name: ["2", "2", name] for name in names} | {"a": ["2", "2", "1"]}
    raw = raw_table(connection, "raw", **columns)
    log = log_of(*names)
    log = changed(log, fields=(FieldSource(name="a", kind="numeric"), *log.fields[1:]))
    vocabulary = connection.create_table("v", fit_vocabulary(raw, log, 1).to_pyarrow())
    encoded = encode(raw, vocabulary, log).to_pyarrow()
    assert {name: encoded[name].to_pylist() for name in names} == {
        name: [1, 1, 2] for name in names
    }
