import ibis
import ibis.expr.types as ir
import numpy as np
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.build_feature_map import build_feature_map, build_joint_map
from llm_ctr_pipeline.data.features.encode import encode
from llm_ctr_pipeline.data.features.feature_map import Extension, FeatureMap, Field, FitSource
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary, join_vocabularies, part_of
from llm_ctr_pipeline.data.log.schema import ROW
from tests.data.logs import log_of

FIELDS = ("site", "hour")
SPLITS = {
    "x4": {"site": ["a", "a", "b", "c", "b", "a"], "hour": ["7", "7", "7", "3", "3", "9"]},
    "x1": {"site": ["b", "9", "9", "b", "b", "5"], "hour": ["3", "3", "8", "8", "8", "1"]},
    "x2": {"site": ["9", "9", "9", "9", "1", "1"], "hour": ["8", "8", "8", "7", "2", "2"]},
}


def fit_on(dataset: str) -> FitSource:
    return FitSource(
        source=f"folder of {dataset}", file="train.csv", rows=6, clicks=3, fingerprint="0" * 64
    )


@pytest.fixture
def splits(connection: Backend) -> dict[str, ir.Table]:
    tables = {}
    for name, columns in SPLITS.items():
        content = {ROW: [*range(6)], "label": ["0", "1"] * 3, **columns}
        schema = {ROW: "int64", "label": "string", **dict.fromkeys(columns, "string")}
        tables[name] = connection.create_table(name, ibis.memtable(content, schema=schema))
    return tables


@pytest.fixture
def own(splits: dict[str, ir.Table]) -> dict[str, ir.Table]:
    return {
        name: fit_vocabulary(table, log_of(*FIELDS), min_count=1) for name, table in splits.items()
    }


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


def test_encoded_rows_of_every_log(splits: dict[str, ir.Table], own: dict[str, ir.Table]) -> None:
    joint = join_vocabularies(own, FIELDS, ["hour"])
    first = encode(splits["x4"], part_of(joint, "x4"), log_of(*FIELDS)).to_pyarrow()
    assert first == encode(splits["x4"], own["x4"], log_of(*FIELDS)).to_pyarrow()
    second = encode(splits["x1"], part_of(joint, "x1"), log_of(*FIELDS)).to_pyarrow()
    assert second["site"].to_pylist() == [4, 5, 5, 4, 4, 6]
    assert second["hour"].to_pylist() == [2, 2, 4, 4, 4, 5]


def test_the_joint_map_says_what_it_joins(own: dict[str, ir.Table]) -> None:
    maps = {
        name: build_feature_map(table, name, FIELDS, 1, fit_on(name)) for name, table in own.items()
    }
    joint = join_vocabularies(own, FIELDS, ["hour"])
    described = build_joint_map(joint, maps["x4"], [maps["x1"], maps["x2"]])
    assert described.dataset == "joint"
    assert described.fields == (Field(name="site", size=9), Field(name="hour", size=7))
    assert described.extends == maps["x4"].fingerprint
    assert described.fit_on == fit_on("x4")
    assert described.extensions == tuple(
        Extension(dataset=name, fit_on=fit_on(name), fingerprint=maps[name].fingerprint)
        for name in ("x1", "x2")
    )
    assert FeatureMap.from_json(described.to_json()) == described
    assert "extends" not in maps["x4"].to_json()


def test_its_fingerprint_follows_every_part(
    connection: Backend, splits: dict[str, ir.Table], own: dict[str, ir.Table]
) -> None:
    def fingerprint(changed: str | None, shared: list[str]) -> str:
        tables = dict(own)
        if changed:
            renamed = splits[changed].mutate(site=splits[changed]["site"] + "?")
            tables[changed] = fit_vocabulary(renamed, log_of(*FIELDS), min_count=1)
        maps = [
            build_feature_map(table, name, FIELDS, 1, fit_on(name))
            for name, table in tables.items()
        ]
        joint = join_vocabularies(tables, FIELDS, shared)
        return build_joint_map(joint, maps[0], maps[1:]).fingerprint

    given = fingerprint(None, ["hour"])
    assert given == fingerprint(None, ["hour"])
    others = [fingerprint(name, ["hour"]) for name in SPLITS] + [fingerprint(None, [])]
    assert len({given, *others}) == 5


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
    for name in SPLITS:
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
