import ibis
import numpy as np
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.rows_digest import as_text, joined, power_sums
from llm_ctr_pipeline.data.features.split_summary import summarise_split
from llm_ctr_pipeline.data.raw.manifest import SplitCounts

ROWS = 1000
LARGEST = 2**31 - 1


@pytest.fixture
def columns() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, size, ROWS, dtype=np.int32) for size in (2, 3_000_000, LARGEST)]
    ids[2][:2] = LARGEST, 0
    return [np.arange(ROWS) + 2**40, rng.integers(0, 2, ROWS).astype(np.int8), *ids]


def test_the_sums_are_those_of_the_engine(columns: list[np.ndarray], connection: Backend) -> None:
    table = ibis.memtable(dict(zip(("row", "label", "a", "b", "c"), columns, strict=True)))
    raw = SplitCounts(file="", rows=ROWS, clicks=0, fingerprint="")
    counted = summarise_split("train", connection.create_table("t", table), ("a", "b", "c"), raw)
    assert as_text(power_sums(columns)) == counted.ids_fingerprint


def test_the_order_and_the_parts_make_no_difference(columns: list[np.ndarray]) -> None:
    whole = power_sums(columns)
    parts = [
        power_sums([column[rows] for column in columns])
        for rows in np.split(np.random.default_rng(1).permutation(ROWS), [1, 400])
    ]
    assert joined(parts) == whole
    assert joined([]) == power_sums([column[:0] for column in columns]) == (0, 0)


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("bit", [0, 6])
def test_every_bit_of_every_value_counts(columns: list[np.ndarray], column: int, bit: int) -> None:
    whole = power_sums(columns)
    columns[column] = columns[column].copy()
    columns[column][7] ^= 1 << bit
    assert power_sums(columns) != whole


def test_swapped_columns_count(columns: list[np.ndarray]) -> None:
    one, two, *others = columns[2:4] + columns[:2]
    assert power_sums([*others, one, two]) != power_sums([*others, two, one])
