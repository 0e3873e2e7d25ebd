"""Rows that are scored get the ids that preprocessing gives them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.operations as ops
import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend
from kedro.config import OmegaConfigLoader

from llm_ctr_pipeline.data.features.encode import encode
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary, join_vocabularies
from llm_ctr_pipeline.data.log.schema import ROW, FieldSource, LogSchema
from llm_ctr_pipeline.data.raw.checks import rules
from llm_ctr_pipeline.serving.encoder import RowEncoder
from llm_ctr_pipeline.settings import CONFIG_LOADER_ARGS
from tests.data.logs import changed, log_of

PROJECT = Path(__file__).parents[2]
# Every shipped description of a log: its environment, and where it stands in the parameters.
LOGS = {
    "avazu_x4": ("base", ()),
    "avazu_x1": ("base", ("x1",)),
    "avazu_x2": ("base", ("x2",)),
    "criteo": ("criteo", ()),
    "frappe": ("frappe", ()),
    "movielens": ("movielens", ()),
    "movielens_100k": ("movielens_100k", ()),
}
TEXTS = ["a", "A", " a", "", "é", "点", "a,b", 'say "b"', "two\nlines", "NULL", "1e5", "00012", "0"]
UNSEEN = ["never", "nan", "-"]
NUMBERS = [
    "",
    "0",
    "-1",
    "1",
    "2",
    "2.5",
    "3",
    "17",
    "1e3",
    "-0.5",
    "1E+10",
    "123456789012345678901",
]
BAD_NUMBERS = ["x", " 1", "1,5", "nan", "0x10", "3\n"]
TIMES: dict[str, tuple[list[str], list[str]]] = {
    "YYMMDDHH": (
        ["14102100", "14102123", "00022912", "16022907"],
        ["1410210", "15022900", "", "x"],
    ),
    "YYYY-MM-DD HH:MM:SS": (
        ["2014-10-21 00:59:59", "2016-02-29 23:00:00"],
        ["2014-10-21", "2015-02-29 00:00:00", "2014-10-21 24:00:00"],
    ),
    "unix_seconds": (["0", "86399", "99999999999"], ["-1", "1.5", "", "123456789012"]),
}
DAYS_KEPT = 400


@cache
def log_named(name: str) -> LogSchema:
    env, groups = LOGS[name]
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env=env, **CONFIG_LOADER_ARGS)
    content: Any = loader["parameters"]
    for group in groups:
        content = content[group]
    return LogSchema(**content["log"])


def draw(schema: LogSchema, rows: int, seed: int, odd: float) -> pa.Table:
    """Draw cells, a share of them such as training has not seen, or that are bad."""
    rng = np.random.default_rng(seed)
    kinds = {field.column: field.kind for field in schema.fields}

    def cell(column: str) -> str:
        is_odd = rng.random() < odd
        time, code = schema.time_of(column), schema.code_of(column)
        if column == schema.label:
            return str(rng.integers(2))
        if time is not None:
            return str(rng.choice(TIMES[time.format][is_odd]))
        if code is not None:
            return str(code.offset + rng.integers(code.first - is_odd, code.last + 1 + is_odd))
        if kinds.get(column) == "numeric":
            return str(rng.choice(BAD_NUMBERS if is_odd else NUMBERS))
        return str(rng.choice(UNSEEN if is_odd else TEXTS))

    columns = [column for column in schema.raw_columns if column not in schema.ignored]
    cells = {column: [cell(column) for _ in range(rows)] for column in columns}
    return pa.table({ROW: np.arange(rows), **cells})


def flaws(connection: Backend, cells: pa.Table, schema: LogSchema) -> np.ndarray:
    """Which rows preprocessing would refuse for a cell that a field is made of."""
    table = connection.create_table(ibis.util.gen_name("cells"), cells)
    used = {field.column for field in schema.fields}
    checked = [
        rule.bad
        for rule in rules(table, schema)
        if {field.name for field in rule.bad.op().find(ops.Field)} <= used
    ]
    bad = {str(at): is_bad for at, is_bad in enumerate(checked)}
    marked = table.select(ROW, never=ibis.literal(False), **bad)
    found = marked.order_by(ROW).drop(ROW).to_pyarrow()
    return np.any([column.to_numpy() for column in found.columns], axis=0)


def preprocessed(
    connection: Backend, cells: pa.Table, vocabulary: pa.Table, schema: LogSchema
) -> np.ndarray:
    """The ids that preprocessing gives rows, int32 `[N, F]`."""
    raw, known = (
        connection.create_table(ibis.util.gen_name("t"), table) for table in (cells, vocabulary)
    )
    encoded = encode(raw, known, schema).to_pyarrow()
    return np.stack([encoded[name].to_numpy() for name in schema.names], axis=1)


@pytest.fixture
def connection() -> Backend:
    return ibis.duckdb.connect()


@pytest.fixture
def fitted(connection: Backend) -> Callable[[LogSchema, int], pa.Table]:
    """The vocabulary of random rows, of those that preprocessing takes."""

    def fit(schema: LogSchema, seed: int) -> pa.Table:
        drawn = draw(schema, 3000, seed, odd=0.0)
        train = drawn.filter(pa.array(~flaws(connection, drawn, schema)))
        assert train.num_rows > DAYS_KEPT
        table = connection.create_table(ibis.util.gen_name("train"), train)
        return fit_vocabulary(table, schema, 2).to_pyarrow()

    return fit


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", sorted(LOGS))
def test_any_row_is_encoded_or_refused_as_preprocessing_does(
    name: str, seed: int, connection: Backend, fitted: Callable[[LogSchema, int], pa.Table]
) -> None:
    schema = log_named(name)
    vocabulary = fitted(schema, seed)
    encoder = RowEncoder(schema, vocabulary)
    cells = draw(schema, 500, seed + 100, odd=0.02)
    bad = flaws(connection, cells, schema)
    good = cells.filter(pa.array(~bad))
    expected = preprocessed(connection, good, vocabulary, schema)
    assert 0 < (expected == 0).sum() < expected.size
    for block in (good, good.slice(7, 1), good):  # looked up again, it is the same
        ids = encoder.encode(block).ids_NF
        first = block[ROW][0].as_py()
        begin = good[ROW].to_pylist().index(first)
        np.testing.assert_array_equal(ids, expected[begin : begin + block.num_rows])
    found = encoder.encode(cells)
    np.testing.assert_array_equal(found.bad_N, bad)
    assert bool(found.fault) == bad.any()
    np.testing.assert_array_equal(found.ids_NF[~bad], expected)


def test_of_a_joint_vocabulary_a_logs_own_part_is_taken(connection: Backend) -> None:
    schemas = {name: changed(log_of("site"), dataset=name) for name in ("x4", "x1")}
    own = {}
    for at, (name, schema) in enumerate(schemas.items()):
        drawn = draw(schema, 300, at, odd=0.0)
        own[name] = fit_vocabulary(connection.create_table(name, drawn), schema, 1)
    joint = join_vocabularies(own, ("site",), ()).to_pyarrow()
    cells = pa.table({"site": ["a"]})
    first, second = (RowEncoder(schema, joint).encode(cells) for schema in schemas.values())
    assert 0 < first.ids_NF[0, 0] <= len(TEXTS) < second.ids_NF[0, 0]


def test_the_first_bad_row_is_told(fitted: Callable[[LogSchema, int], pa.Table]) -> None:
    schema = log_named("criteo")
    encoder = RowEncoder(schema, fitted(schema, 1))
    cells = draw(schema, 6, 5, odd=0.0).to_pydict()
    column = next(str(field.column) for field in schema.fields if field.kind == "numeric")
    cells[column][3:5] = ["x", "y"]
    found = encoder.encode(pa.table(cells))
    assert found.bad_N.tolist() == [False, False, False, True, True, False]
    assert found.fault == f"column '{column}': 'x' is not a number or empty"


def test_a_column_of_two_kinds_of_fields_and_an_absent_field(connection: Backend) -> None:
    log = changed(
        log_of("n", absent=("none",)),
        fields=(
            FieldSource(name="n"),
            FieldSource(name="bucket", kind="numeric", column="n", edges=(1.0, 10.0)),
            FieldSource(name="none", kind="absent"),
        ),
    )
    raw = pa.table({ROW: [0, 1, 2], log.label: ["0", "1", "0"], "n": ["1", "5", "1"]})
    vocabulary = fit_vocabulary(connection.create_table("raw", raw), log, 1).to_pyarrow()
    found = RowEncoder(log, vocabulary).encode(pa.table({"n": ["5", "7", "x"]}))
    assert found.ids_NF.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found.bad_N.tolist() == [False, False, True]


def test_rows_without_a_row_are_none(connection: Backend) -> None:
    log = log_of("a")
    vocabulary = pa.table({"field": ["a"], "value": ["1"], "id": pa.array([1], pa.int32())})
    found = RowEncoder(log, vocabulary).encode(pa.table({"a": pa.array([], pa.string())}))
    assert found.ids_NF.shape == (0, 1)
    assert found.fault == ""
