import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ibis
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.schema import AVAZU_X4

WriteRaw = Callable[..., Path]

_DEFAULTS = {**dict.fromkeys(AVAZU_X4.raw_columns, "0"), "hour": "14102100"}


@pytest.fixture
def connection() -> Backend:
    return ibis.duckdb.connect()


@pytest.fixture
def write_raw(tmp_path: Path) -> WriteRaw:
    """Write a raw file of rows that say only what matters: the rest is "0"."""

    def write(
        rows: Sequence[Mapping[str, str]],
        name: str = "train.csv",
        columns: Sequence[str] = AVAZU_X4.raw_columns,
        line_end: str = "\n",
    ) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator=line_end)
            writer.writerow(columns)
            writer.writerows([{**_DEFAULTS, **row}[column] for column in columns] for row in rows)
        return path

    return write
