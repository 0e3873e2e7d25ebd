import ibis
import ibis.expr.types as ir
import numpy as np
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.build_feature_map import build_feature_map
from llm_ctr_pipeline.data.features.encode import encode
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, Field, FitSource
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary
from llm_ctr_pipeline.data.log.schema import ROW
from tests.data.logs import log_of

FIT_ON = FitSource(source="generated log", file="train.csv", rows=3, clicks=1, fingerprint="0" * 64)


def split(connection: Backend, name: str, **columns: list[str]) -> ir.Table:
    rows = len(next(iter(columns.values())))
    table = {ROW: list(range(rows)), "label": ["0"] * rows, **columns}
    schema = {ROW: "int64", "label": "string", **dict.fromkeys(columns, "string")}
    return connection.create_table(name, ibis.memtable(table, schema=schema), overwrite=True)


def entries(vocabulary: ir.Table) -> list[tuple[str, str, int, int]]:
    return [tuple(row.values()) for row in vocabulary.to_pyarrow().to_pylist()]


def test_ids_go_by_count_then_by_bytes(connection: Backend) -> None:
    values = ["b", "a", "B", "é", "z", "z", "z", "", "10", "9", "1e5", "100000"]
    train = split(connection, "train", site=values)
    assert entries(fit_vocabulary(train, log_of("site"), min_count=1)) == [
        ("site", "z", 3, 1),
        *(
            ("site", value, 1, id_)
            for id_, value in enumerate(["", "10", "100000", "1e5", "9", "B", "a", "b", "é"], 2)
        ),
    ]


def test_rare_values_and_other_splits_stay_unknown(connection: Backend) -> None:
    train = split(connection, "train", site=["a", "a", "b", "c", "c", "c"], app=["x"] * 6)
    test = split(connection, "test", site=["new", "c", "b", "a"], app=["new", "new", "x", "x"])
    vocabulary = fit_vocabulary(train, log_of("app", "site"), min_count=2)
    assert entries(vocabulary) == [("app", "x", 6, 1), ("site", "c", 3, 1), ("site", "a", 2, 2)]
    encoded = encode(test, vocabulary, log_of("app", "site"))
    assert encoded.columns == ("row", "label", "app", "site")
    assert encoded.schema()["site"].is_int32()
    assert encoded.to_pyarrow()["site"].to_pylist() == [0, 1, 0, 2]
    assert encoded.to_pyarrow()["app"].to_pylist() == [0, 0, 1, 1]


def test_a_field_that_the_log_lacks_gets_no_ids(connection: Backend) -> None:
    train = split(connection, "train", site=["a", "a"], app=["x", "x"])
    lacking = log_of("site", "app", absent=("app",))
    vocabulary = fit_vocabulary(train, lacking, min_count=1)
    assert entries(vocabulary) == [("site", "a", 2, 1)]
    feature_map = build_feature_map(vocabulary, "x1", ("site", "app"), 1, FIT_ON)
    assert feature_map.sizes == (2, 1)
    assert encode(train, vocabulary, lacking).to_pyarrow()["app"].to_pylist() == [0, 0]


def test_min_count_below_one_is_refused(connection: Backend) -> None:
    with pytest.raises(ValueError, match="min_count is 0"):
        fit_vocabulary(split(connection, "train", site=["a"]), log_of("site"), min_count=0)


def test_the_same_ids_in_row_order_on_any_number_of_threads(connection: Backend) -> None:
    draws = np.random.default_rng(0).integers(5000, size=150_000)
    sites = [f"{draw:08x}" for draw in draws]
    train = split(connection, "train", site=sites, app=sites[::-1])
    results = []
    for threads in (1, 4):
        connection.raw_sql(f"SET threads = {threads}")
        vocabulary = fit_vocabulary(train, log_of("site", "app"), min_count=20)
        feature_map = build_feature_map(vocabulary, "x4", ("site", "app"), 20, FIT_ON)
        encoded = encode(train, vocabulary, log_of("site", "app")).to_pyarrow()
        assert encoded["row"].to_pylist() == list(range(len(sites)))
        results.append((entries(vocabulary), feature_map, encoded))
    assert results[0] == results[1]
    id_of = {value: id_ for field, value, _, id_ in results[0][0] if field == "site"}
    assert results[0][2]["site"].to_pylist() == [id_of.get(site, 0) for site in sites]


def test_feature_map_sizes_and_round_trip(connection: Backend) -> None:
    train = split(connection, "train", site=["a", "b", "b"], app=["x", "x", "x"])
    vocabulary = fit_vocabulary(train, log_of("site", "app"), min_count=1)
    feature_map = build_feature_map(vocabulary, "x4", ("site", "app"), 1, FIT_ON)
    assert feature_map.fields == (Field(name="site", size=3), Field(name="app", size=2))
    assert feature_map.names == ("site", "app")
    assert feature_map.sizes == (3, 2)
    assert FeatureMap.from_json(feature_map.to_json()) == feature_map


def test_the_fingerprint_follows_fields_min_count_and_vocabulary(connection: Backend) -> None:
    def fingerprint(values: list[str], fields: tuple[str, ...], min_count: int) -> str:
        train = split(connection, "train", site=values, app=["x"] * len(values))
        vocabulary = fit_vocabulary(train, log_of(*fields), min_count)
        return build_feature_map(vocabulary, "x4", fields, min_count, FIT_ON).fingerprint

    given = fingerprint(["a", "a", "b", "b"], ("site", "app"), 1)
    assert given == fingerprint(["b", "b", "a", "a"], ("site", "app"), 1)
    others = [
        fingerprint(["a", "a", "b", "b"], ("site", "app"), 2),
        fingerprint(["a", "a", "b", "b"], ("app", "site"), 1),
        fingerprint(["a", "a", "c", "c"], ("site", "app"), 1),
        fingerprint(["a", "b", "b"], ("site", "app"), 1),
    ]
    assert len({given, *others}) == 5


def test_what_is_no_feature_map_is_refused() -> None:
    with pytest.raises(ValueError, match="not a feature map"):
        FeatureMap.from_json({"fields": []})
