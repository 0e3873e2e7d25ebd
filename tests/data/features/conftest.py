"""Three small logs, and the vocabulary of each."""

import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary
from tests.data.logs import FIELDS, log_of, raw_table

SPLITS = {
    "x4": {"site": ["a", "a", "b", "c", "b", "a"], "hour": ["7", "7", "7", "3", "3", "9"]},
    "x1": {"site": ["b", "9", "9", "b", "b", "5"], "hour": ["3", "3", "8", "8", "8", "1"]},
    "x2": {"site": ["9", "9", "9", "9", "1", "1"], "hour": ["8", "8", "8", "7", "2", "2"]},
}


@pytest.fixture
def splits(connection: Backend) -> dict[str, ir.Table]:
    return {name: raw_table(connection, name, **columns) for name, columns in SPLITS.items()}


@pytest.fixture
def own(splits: dict[str, ir.Table]) -> dict[str, ir.Table]:
    return {
        name: fit_vocabulary(table, log_of(*FIELDS), min_count=1) for name, table in splits.items()
    }
