import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.normalise import normalise
from llm_ctr_pipeline.data.raw_csv import RawFile
from llm_ctr_pipeline.data.schema import LogSchema

WriteRaw = Callable[..., Path]
OpenRaw = Callable[[Path], RawFile]


def test_the_unified_schema(open_x4: OpenRaw, write_raw: WriteRaw, x4: LogSchema) -> None:
    raw = open_x4(write_raw([{"click": "1", "site_id": "1e5"}]))
    table = normalise(raw.table, raw.schema)
    fields = table.columns[2:]
    assert table.columns[:2] == ("row", "label")
    assert fields == x4.names
    assert len(fields) == 24
    assert fields[0] == "C1"
    assert fields[-3:] == ("hour", "weekday", "weekend")
    assert table.schema()["row"].is_int64()
    assert table.schema()["label"].is_int8()
    assert all(table.schema()[field].is_string() for field in fields)
    assert table.site_id.to_pyarrow().to_pylist() == ["1e5"]


@pytest.mark.parametrize("day", range(21, 31))
def test_time_fields(open_x4: OpenRaw, write_raw: WriteRaw, x4: LogSchema, day: int) -> None:
    path = write_raw([{"hour": f"1410{day}{hour:02d}"} for hour in (0, 9, 23)])
    table = normalise(open_x4(path).table, x4)
    rows = table.order_by("row").to_pyarrow().to_pylist()
    from_sunday = datetime.date(2014, 10, day).isoweekday() % 7
    assert [row["hour"] for row in rows] == ["0", "9", "23"]
    assert {row["weekday"] for row in rows} == {str(from_sunday)}
    assert {row["weekend"] for row in rows} == {str(int(from_sunday in (0, 6)))}


def test_21_october_2014_is_a_tuesday(open_x4: OpenRaw, write_raw: WriteRaw, x4: LogSchema) -> None:
    path = write_raw([{"hour": "14102100"}])
    table = normalise(open_x4(path).table, x4)
    assert table.weekday.to_pyarrow().to_pylist() == ["2"]
