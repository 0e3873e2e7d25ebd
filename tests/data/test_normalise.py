import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.normalise import normalise
from llm_ctr_pipeline.data.raw_csv import open_raw_file
from llm_ctr_pipeline.data.schema import AVAZU_X4

WriteRaw = Callable[..., Path]


def test_the_unified_schema(connection: Backend, write_raw: WriteRaw) -> None:
    raw = open_raw_file(connection, write_raw([{"click": "1", "site_id": "1e5"}]), AVAZU_X4)
    table = normalise(raw.table, raw.schema)
    fields = table.columns[2:]
    assert table.columns[:2] == ("row", "label")
    assert fields == AVAZU_X4.fields
    assert len(fields) == 24
    assert fields[0] == "C1"
    assert fields[-3:] == ("hour", "weekday", "weekend")
    assert table.schema()["row"].is_int64()
    assert table.schema()["label"].is_int8()
    assert all(table.schema()[field].is_string() for field in fields)
    assert table.site_id.to_pyarrow().to_pylist() == ["1e5"]


@pytest.mark.parametrize("day", range(21, 31))
def test_time_fields(connection: Backend, write_raw: WriteRaw, day: int) -> None:
    path = write_raw([{"hour": f"1410{day}{hour:02d}"} for hour in (0, 9, 23)])
    table = normalise(open_raw_file(connection, path, AVAZU_X4).table, AVAZU_X4)
    rows = table.order_by("row").to_pyarrow().to_pylist()
    from_sunday = datetime.date(2014, 10, day).isoweekday() % 7
    assert [row["hour"] for row in rows] == ["0", "9", "23"]
    assert {row["weekday"] for row in rows} == {str(from_sunday)}
    assert {row["weekend"] for row in rows} == {str(int(from_sunday in (0, 6)))}


def test_21_october_2014_is_a_tuesday(connection: Backend, write_raw: WriteRaw) -> None:
    path = write_raw([{"hour": "14102100"}])
    table = normalise(open_raw_file(connection, path, AVAZU_X4).table, AVAZU_X4)
    assert table.weekday.to_pyarrow().to_pylist() == ["2"]
