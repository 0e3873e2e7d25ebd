"""What a feature map, and a joint one, says of its vocabulary."""

import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.build_feature_map import build_feature_map, build_joint_map
from llm_ctr_pipeline.data.features.feature_map import Extension, FeatureMap, Field
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary, join_vocabularies
from tests.data.logs import FIELDS, fit_on, log_of, raw_table


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
