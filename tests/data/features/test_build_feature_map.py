"""What a feature map, and a joint one, says of its vocabulary."""

from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import StaleDataError
from llm_ctr_pipeline.data.features.build_feature_map import (
    build_feature_map,
    build_joint_map,
    read_vocabulary,
)
from llm_ctr_pipeline.data.features.feature_map import Extension, FeatureMap, Field
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary, join_vocabularies
from tests.data.logs import FIELDS, changed, fit_on, log_of, raw_table

Made = dict[str, tuple[FeatureMap, pa.Table]]


@pytest.fixture
def made(own: dict[str, ir.Table]) -> Made:
    """A log's own map and the joint one, each with its vocabulary."""
    maps = {
        name: build_feature_map(table, name, FIELDS, 1, fit_on(name)) for name, table in own.items()
    }
    joint = join_vocabularies(own, FIELDS, ["hour"])
    joint_map = build_joint_map(joint, maps["x4"], [maps["x1"], maps["x2"]])
    return {"own": (maps["x4"], own["x4"].to_pyarrow()), "joint": (joint_map, joint.to_pyarrow())}


def test_feature_map_sizes_and_round_trip(connection: Backend) -> None:
    train = raw_table(connection, "train", site=["a", "b", "b"], app=["x", "x", "x"])
    vocabulary = fit_vocabulary(train, log_of("site", "app"), min_count=1)
    feature_map = build_feature_map(vocabulary, "x4", ("site", "app"), 1, fit_on("x4"))
    assert feature_map.fields == (Field(name="site", size=3), Field(name="app", size=2))
    assert feature_map.names == ("site", "app")
    assert feature_map.sizes == (3, 2)
    assert FeatureMap.from_json(feature_map.to_json()) == feature_map


def test_the_fingerprint_follows_fields_min_count_and_vocabulary(connection: Backend) -> None:
    def fingerprint(values: list[str], fields: tuple[str, ...], min_count: int) -> str:
        train = raw_table(connection, "train", site=values, app=["x"] * len(values))
        vocabulary = fit_vocabulary(train, log_of(*fields), min_count)
        return build_feature_map(vocabulary, "x4", fields, min_count, fit_on("x4")).fingerprint

    given = fingerprint(["a", "a", "b", "b"], ("site", "app"), 1)
    assert given == fingerprint(["b", "b", "a", "a"], ("site", "app"), 1)
    others = [
        fingerprint(["a", "a", "b", "b"], ("site", "app"), 2),
        fingerprint(["a", "a", "b", "b"], ("app", "site"), 1),
        fingerprint(["a", "a", "c", "c"], ("site", "app"), 1),
        fingerprint(["a", "b", "b"], ("site", "app"), 1),
    ]
    assert len({given, *others}) == 5


@pytest.mark.parametrize("kind", ["own", "joint"])
def test_a_vocabulary_is_the_one_that_the_map_was_made_of(made: Made, kind: str) -> None:
    known, values = made[kind]
    assert read_vocabulary(ibis.memtable(values), known).equals(values)
    ids = values["id"].to_pylist()
    texts, place = values["value"].to_pylist(), values.column_names.index("value")
    first, second = known.fields
    size = changed(first, size=first.size + 1)
    damages = [
        (known, values.slice(1)),
        (known, values.slice(0, values.num_rows - 1)),
        (known, values.set_column(place, "value", pa.array(["?", *texts[1:]]))),
        (known, values.set_column(values.num_columns - 1, "id", pa.array([*ids[:-1], 77]))),
        (changed(known, fields=(second, first)), values),
        (changed(known, fields=(size, second)), values),
        (changed(known, fingerprint="0" * 64), values),
        (changed(known, min_count=2), values),
    ]
    for feature_map, table in damages:
        with pytest.raises(StaleDataError, match=r"vocabulary\.parquet is not what feature_map\."):
            read_vocabulary(ibis.memtable(table), feature_map)


def test_a_damaged_vocabulary_is_refused_in_one_line(
    made: Made, connection: Backend, tmp_path: Path
) -> None:
    known, values = made["own"]
    pq.write_table(values, tmp_path / "v.parquet")
    read = connection.read_parquet(str(tmp_path / "v.parquet"))
    content = (tmp_path / "v.parquet").read_bytes()
    (tmp_path / "v.parquet").write_bytes(bytes(200) + content[200:])
    for table in (read, ibis.memtable(values.drop_columns("id"))):
        with pytest.raises(StaleDataError, match=r"x4/vocabulary\.parquet cannot be read \(.+\)$"):
            read_vocabulary(table, known)


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
    others = [fingerprint(name, ["hour"]) for name in own] + [fingerprint(None, [])]
    assert len({given, *others}) == 5
