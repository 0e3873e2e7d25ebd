"""Which values get which ids, in one log and in several together."""

import ibis
import ibis.expr.types as ir
import numpy as np
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.build_feature_map import build_feature_map
from llm_ctr_pipeline.data.features.encode import encode
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary, join_vocabularies, part_of
from llm_ctr_pipeline.data.log.schema import ROW
from tests.data.logs import FIELDS, fit_on, log_of, raw_table


def entries(vocabulary: ir.Table) -> list[tuple[str, str, int, int]]:
    return [tuple(row.values()) for row in vocabulary.to_pyarrow().to_pylist()]


def test_ids_go_by_count_then_by_bytes(connection: Backend) -> None:
    values = ["b", "a", "B", "é", "z", "z", "z", "", "10", "9", "1e5", "100000"]
    train = raw_table(connection, "train", site=values)
    assert entries(fit_vocabulary(train, log_of("site"), min_count=1)) == [
        ("site", "z", 3, 1),
        *(
            ("site", value, 1, id_)
            for id_, value in enumerate(["", "10", "100000", "1e5", "9", "B", "a", "b", "é"], 2)
        ),
    ]


def test_rare_values_and_other_splits_stay_unknown(connection: Backend) -> None:
    train = raw_table(connection, "train", site=["a", "a", "b", "c", "c", "c"], app=["x"] * 6)
    test = raw_table(connection, "test", site=["new", "c", "b", "a"], app=["new", "new", "x", "x"])
    vocabulary = fit_vocabulary(train, log_of("app", "site"), min_count=2)
    assert entries(vocabulary) == [("app", "x", 6, 1), ("site", "c", 3, 1), ("site", "a", 2, 2)]
    encoded = encode(test, vocabulary, log_of("app", "site"))
    assert encoded.columns == ("row", "label", "app", "site")
    assert encoded.schema()["site"].is_int32()
    assert encoded.to_pyarrow()["site"].to_pylist() == [0, 1, 0, 2]
    assert encoded.to_pyarrow()["app"].to_pylist() == [0, 0, 1, 1]


def test_a_field_that_the_log_lacks_gets_no_ids(connection: Backend) -> None:
    train = raw_table(connection, "train", site=["a", "a"], app=["x", "x"])
    lacking = log_of("site", "app", absent=("app",))
    vocabulary = fit_vocabulary(train, lacking, min_count=1)
    assert entries(vocabulary) == [("site", "a", 2, 1)]
    feature_map = build_feature_map(vocabulary, "x1", ("site", "app"), 1, fit_on("x4"))
    assert feature_map.sizes == (2, 1)
    assert encode(train, vocabulary, lacking).to_pyarrow()["app"].to_pylist() == [0, 0]


def test_min_count_below_one_is_refused(connection: Backend) -> None:
    with pytest.raises(ValueError, match="min_count is 0"):
        fit_vocabulary(raw_table(connection, "train", site=["a"]), log_of("site"), min_count=0)


def test_the_same_ids_in_row_order_on_any_number_of_threads(connection: Backend) -> None:
    draws = np.random.default_rng(0).integers(5000, size=150_000)
    sites = [f"{draw:08x}" for draw in draws]
    train = raw_table(connection, "train", site=sites, app=sites[::-1])
    results = []
    for threads in (1, 4):
        connection.raw_sql(f"SET threads = {threads}")
        vocabulary = fit_vocabulary(train, log_of("site", "app"), min_count=20)
        feature_map = build_feature_map(vocabulary, "x4", ("site", "app"), 20, fit_on("x4"))
        encoded = encode(train, vocabulary, log_of("site", "app")).to_pyarrow()
        assert encoded["row"].to_pylist() == list(range(len(sites)))
        results.append((entries(vocabulary), feature_map, encoded))
    assert results[0] == results[1]
    id_of = {value: id_ for field, value, _, id_ in results[0][0] if field == "site"}
    assert results[0][2]["site"].to_pylist() == [id_of.get(site, 0) for site in sites]


def ids(vocabulary: ir.Table, field: str) -> dict[str, int]:
    rows = vocabulary.filter(vocabulary.field == field).to_pyarrow().to_pylist()
    return {row["value"]: row["id"] for row in rows}


def test_the_first_log_keeps_its_ids(own: dict[str, ir.Table]) -> None:
    joint = join_vocabularies(own, FIELDS, ["hour"])
    assert joint.columns == ("dataset", "field", "value", "count", "id")
    assert joint.schema()["id"].is_int32()
    assert part_of(joint, "x4").to_pyarrow() == own["x4"].to_pyarrow()
    assert part_of(own["x4"], "x4") is own["x4"]


def test_values_of_other_logs_get_the_ids_behind(own: dict[str, ir.Table]) -> None:
    joint = join_vocabularies(own, FIELDS, ["hour"])
    assert ids(part_of(joint, "x4"), "site") == {"a": 1, "b": 2, "c": 3}
    # x1's "b" is not x4's, nor is x2's "9" x1's.
    assert ids(part_of(joint, "x1"), "site") == {"b": 4, "9": 5, "5": 6}
    assert ids(part_of(joint, "x2"), "site") == {"9": 7, "1": 8}


def test_parts_of_the_time_are_shared(own: dict[str, ir.Table]) -> None:
    joint = join_vocabularies(own, FIELDS, ["hour"])
    assert ids(part_of(joint, "x4"), "hour") == {"7": 1, "3": 2, "9": 3}
    assert ids(part_of(joint, "x1"), "hour") == {"3": 2, "8": 4, "1": 5}
    assert ids(part_of(joint, "x2"), "hour") == {"7": 1, "8": 4, "2": 6}


def test_its_rows_come_by_log_then_field_then_id(own: dict[str, ir.Table]) -> None:
    rows = join_vocabularies(own, FIELDS, ["hour"]).to_pyarrow().to_pylist()
    keys = [(row["dataset"], row["field"]) for row in rows]
    assert list(dict.fromkeys(keys)) == [
        (dataset, field) for dataset in ("x4", "x1", "x2") for field in FIELDS
    ]
    for key in set(keys):
        own_ids = [row["id"] for row in rows if (row["dataset"], row["field"]) == key]
        assert own_ids == sorted(own_ids)
    assert [row["count"] for row in rows if row["dataset"] == "x2"] == [4, 2, 1, 3, 2]


def test_a_field_that_a_log_lacks_adds_no_ids(
    splits: dict[str, ir.Table], own: dict[str, ir.Table]
) -> None:
    lacking = log_of(*FIELDS, absent=("site",))
    tables = own | {"x1": fit_vocabulary(splits["x1"], lacking, min_count=1)}
    joint = join_vocabularies(tables, FIELDS, ["hour"])
    assert ids(part_of(joint, "x1"), "site") == {}
    assert ids(part_of(joint, "x2"), "site") == {"9": 4, "1": 5}
    encoded = encode(splits["x1"], part_of(joint, "x1"), lacking).to_pyarrow()
    assert encoded["site"].to_pylist() == [0] * 6


def test_the_same_ids_on_any_number_of_threads(connection: Backend) -> None:
    rng = np.random.default_rng(0)
    tables = {}
    for name in ("x4", "x1", "x2"):
        values = {field: [str(v) for v in rng.integers(3000, size=60_000)] for field in FIELDS}
        content = {ROW: [*range(60_000)], "label": ["0"] * 60_000, **values}
        tables[name] = connection.create_table(f"big_{name}", ibis.memtable(content))
    results = []
    for threads in (1, 4):
        connection.raw_sql(f"SET threads = {threads}")
        vocabularies = {
            name: fit_vocabulary(table, log_of(*FIELDS), 2) for name, table in tables.items()
        }
        results.append(join_vocabularies(vocabularies, FIELDS, ["hour"]).to_pyarrow())
    assert results[0] == results[1]
