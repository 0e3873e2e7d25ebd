"""Values that became ids, by joins."""

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.encode import encode
from llm_ctr_pipeline.data.features.vocabulary import join_vocabularies, part_of
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
