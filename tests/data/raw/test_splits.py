import hashlib
import json
from collections import Counter

import ibis
import ibis.expr.types as ir
import numpy as np
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import ROW, LogSchema
from llm_ctr_pipeline.data.raw.manifest import Cuts
from llm_ctr_pipeline.data.raw.splits import (
    find_cuts,
    mark_split,
    rows_in_split,
    sample,
    shuffled,
)
from tests.data.logs import changed, splitting

ROWS = 1000
CLICKS = 173


def with_splits(schema: LogSchema, by: str = "random", seed: int = 1, **shares: float) -> LogSchema:
    return changed(schema, splits=splitting(by, seed, **shares))


@pytest.fixture
def table(connection: Backend) -> ir.Table:
    """Rows with the clicks scattered, in ten hours that do not follow the file's order."""
    clicks = np.random.default_rng(3).permutation(ROWS) < CLICKS
    hours = [f"141021{(7 * row) % 10:02d}" for row in range(ROWS)]
    columns = {ROW: [*range(ROWS)], "click": [*np.where(clicks, "1", "0")], "hour": hours}
    return connection.create_table("raw", ibis.memtable(columns))


def rows_of(
    table: ir.Table, split: str, schema: LogSchema, cuts: Cuts | None
) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = (
        rows_in_split(mark_split(table, split, schema, cuts)).order_by(ROW).to_pyarrow().to_pylist()
    )
    return rows


def test_each_class_gives_its_share_to_a_row(table: ir.Table, x4: LogSchema) -> None:
    schema = with_splits(x4, valid=0.1, test=0.25)
    cuts = find_cuts(table, schema)
    parts = {split: rows_of(table, split, schema, cuts) for split in ("train", "valid", "test")}
    clicks = {split: sum(row["click"] == "1" for row in rows) for split, rows in parts.items()}
    assert clicks == {"train": 173 - 17 - 43, "valid": 17, "test": 43}
    assert len(parts["valid"]) - 17 == round(0.1 * (ROWS - CLICKS))
    assert len(parts["test"]) - 43 == round(0.25 * (ROWS - CLICKS))
    positions = [row[ROW] for rows in parts.values() for row in rows]
    assert sorted(positions) == [*range(ROWS)]


def test_only_what_has_no_file_is_held_out(table: ir.Table, x4: LogSchema) -> None:
    schema = with_splits(x4, valid=0.1)
    cuts = find_cuts(table, schema)
    assert len(rows_of(table, "test", schema, cuts)) == ROWS  # the rows of its own file
    assert len(rows_of(table, "train", schema, cuts)) == 900
    assert find_cuts(table, x4) is None


def test_cuts_are_written_alike_whichever_class_an_engine_counts_first() -> None:
    # The fingerprint of a part is made of how its cuts are written.
    parts, last_keys = ("train", "valid"), {"0": ((7,),), "1": ((5,),)}
    backwards = dict(reversed(last_keys.items()))
    written = [
        json.dumps(Cuts(parts=parts, last_keys=keys).to_json()) for keys in (last_keys, backwards)
    ]
    assert written[0] == written[1]


def test_the_draw_follows_the_seed_and_nothing_else(
    connection: Backend, table: ir.Table, x4: LogSchema
) -> None:
    def held_out(seed: int) -> list[str]:
        schema = with_splits(x4, seed=seed, valid=0.2)
        return [row[ROW] for row in rows_of(table, "valid", schema, find_cuts(table, schema))]

    first = held_out(1)
    connection.raw_sql("SET threads = 1")
    assert held_out(1) == first
    assert len({*first} & {*held_out(2)}) < 0.5 * len(first)


def test_the_draw_is_fixed_for_all_time(x4: LogSchema, table: ir.Table) -> None:
    # Numbers that any engine must give: computed apart, in Python's own integers.
    def by_hand(row: int) -> int:
        digest = hashlib.sha256(b"split 42").digest()
        prime = 2**31 - 1
        for start in (0, 16):
            factor = int.from_bytes(digest[start : start + 8]) % (prime - 1) + 1
            shift = int.from_bytes(digest[start + 8 : start + 16]) % (prime - 1) + 1
            row = pow(row * factor + shift, 5, prime)
        return row

    numbers = table.select(number=shuffled(table[ROW], 42), row=table[ROW])
    given = numbers.order_by("row").to_pyarrow()["number"].to_pylist()
    assert given == [by_hand(row) for row in range(ROWS)]
    assert len({*given}) == ROWS


def test_shuffled_row_numbers_are_spread_evenly(connection: Backend) -> None:
    rows = 100_000
    table = ibis.range(rows).unnest().name("row").as_table()
    numbers = connection.to_pyarrow(table.select(number=shuffled(table["row"], 7)))["number"]
    counts = np.histogram(numbers.to_numpy(), bins=50, range=(0, 2**31))[0]
    # Chi-squared of 49 degrees of freedom: above 85 once in a thousand.
    assert ((counts - rows / 50) ** 2 / (rows / 50)).sum() < 85
    # Neighbours in the file are no neighbours in the draw.
    assert abs(np.corrcoef(numbers.to_numpy()[:-1], numbers.to_numpy()[1:])[0, 1]) < 0.015


def test_by_time_the_last_rows_are_held_out(table: ir.Table, x4: LogSchema) -> None:
    schema = with_splits(x4, by="hour", valid=0.25, test=0.1)
    cuts = find_cuts(table, schema)
    parts = {split: rows_of(table, split, schema, cuts) for split in ("train", "valid", "test")}
    assert {split: len(rows) for split, rows in parts.items()} == {
        "train": 650,
        "valid": 250,
        "test": 100,
    }
    assert {row["hour"] for row in parts["test"]} == {"14102109"}
    assert max(row["hour"] for row in parts["train"]) == "14102106"
    # The hour in which the cut falls is cut in the file's order.
    cut_hour = Counter(row["hour"] for row in parts["train"])["14102106"]
    assert cut_hour == 50
    last_of_train = max(row[ROW] for row in parts["train"] if row["hour"] == "14102106")
    assert all(row[ROW] > last_of_train for row in parts["valid"] if row["hour"] == "14102106")


def test_cuts_survive_json(table: ir.Table, x4: LogSchema) -> None:
    for schema in (with_splits(x4, valid=0.1), with_splits(x4, by="hour", valid=0.1, test=0.2)):
        cuts = find_cuts(table, schema)
        assert cuts is not None
        assert Cuts.from_json(json.loads(json.dumps(cuts.to_json()))) == cuts


def test_a_share_that_leaves_no_row_is_refused(table: ir.Table, x4: LogSchema) -> None:
    with pytest.raises(RawLogError, match=r"train\.csv has 1000 rows: .* leave no row for valid"):
        find_cuts(table, with_splits(x4, valid=0.0001))


def test_a_class_too_rare_for_a_part_is_left_out_of_it(table: ir.Table, x4: LogSchema) -> None:
    rare = table.mutate(click=ibis.ifelse(table[ROW] < 2, "1", "0"))
    schema = with_splits(x4, valid=0.5, test=0.4)
    cuts = find_cuts(rare, schema)
    parts = {split: rows_of(rare, split, schema, cuts) for split in ("train", "valid", "test")}
    assert sum(len(rows) for rows in parts.values()) == ROWS
    clicks = {split: sum(row["click"] == "1" for row in rows) for split, rows in parts.items()}
    assert clicks == {"train": 0, "valid": 1, "test": 1}


def test_every_nth_row_is_kept(table: ir.Table) -> None:
    kept = sample(table, 5).order_by(ROW).to_pyarrow()[ROW].to_pylist()
    assert kept == [*range(0, ROWS, 5)]
    assert sample(table, 1) is table
