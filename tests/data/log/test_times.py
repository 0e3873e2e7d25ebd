import datetime
from collections.abc import Callable
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.log.schema import FieldSource, LogSchema, TimeColumn
from llm_ctr_pipeline.data.log.times import FORMATS
from llm_ctr_pipeline.data.raw.checks import RawFile
from tests.data.logs import changed

WriteRaw = Callable[..., Path]
OpenRaw = Callable[[Path], RawFile]
Normalise = Callable[[ir.Table, LogSchema], ir.Table]
Values = Callable[..., dict[str, list[str]]]


@pytest.mark.parametrize("day", range(21, 31))
def test_time_fields(
    open_x4: OpenRaw, write_raw: WriteRaw, x4: LogSchema, normalise: Normalise, day: int
) -> None:
    path = write_raw([{"hour": f"1410{day}{hour:02d}"} for hour in (0, 9, 23)])
    table = normalise(open_x4(path).table, x4)
    rows = table.order_by("row").to_pyarrow().to_pylist()
    from_sunday = datetime.date(2014, 10, day).isoweekday() % 7
    assert [row["hour"] for row in rows] == ["0", "9", "23"]
    assert {row["weekday"] for row in rows} == {str(from_sunday)}
    assert {row["weekend"] for row in rows} == {str(int(from_sunday in (0, 6)))}


def test_21_october_2014_is_a_tuesday(
    open_x4: OpenRaw, write_raw: WriteRaw, x4: LogSchema, normalise: Normalise
) -> None:
    path = write_raw([{"hour": "14102100"}])
    table = normalise(open_x4(path).table, x4)
    assert table.weekday.to_pyarrow().to_pylist() == ["2"]


MOMENTS = ["2014-10-21 00:00:00", "2016-02-29 23:59:59", "2000-01-01 09:05:00"]


@pytest.mark.parametrize("format_", ["YYYY-MM-DD HH:MM:SS", "unix_seconds"])
def test_the_parts_of_a_time(values: Values, x4: LogSchema, format_: str) -> None:
    moments = [datetime.datetime.fromisoformat(f"{moment}+00:00") for moment in MOMENTS]
    given = MOMENTS if format_ != "unix_seconds" else [str(int(m.timestamp())) for m in moments]
    kinds = ("hour", "day", "weekday", "weekend")
    schema = changed(
        x4,
        label="label",
        ignored=(),
        times=(TimeColumn(column="at", format=format_),),
        fields=tuple(FieldSource(name=kind, kind=kind, column="at") for kind in kinds),
    )
    found = values(schema, at=given)
    assert found["hour"] == [str(moment.hour) for moment in moments]
    assert found["day"] == [str(moment.day) for moment in moments]
    assert found["weekday"] == [str(moment.isoweekday() % 7) for moment in moments]
    assert found["weekend"] == [str(int(moment.isoweekday() >= 6)) for moment in moments]


# A time of each format, and what is none: each is off in one respect.
NO_TIMES = {
    "YYMMDDHH": (
        "16022923",
        ["15022900", "16023000", "16130100", "16010124", "1601010", "16010100\n"],
    ),
    "YYYY-MM-DD HH:MM:SS": (
        "2016-02-29 23:59:59",
        [
            *("2015-02-29 00:00:00", "2016-04-31 00:00:00", "1999-12-31 00:00:00"),
            *("2016-01-01 24:00:00", "2016-01-01 00:60:00", "2016-01-01 00:00:60"),
            *("2016/01/01 00:00:00", "2016-01-01T00:00:00", "2016-01-01", "2016-01-01 00:00:00\n"),
        ],
    ),
    "unix_seconds": ("99999999999", ["", "-1", "1.5", "1e9", "100000000000", "1\n"]),
}


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_no_time_is_bad(connection: Backend, format_: str) -> None:
    good, bad = NO_TIMES[format_]
    table = ibis.memtable({"time": [good, *bad]})
    found = connection.to_pyarrow(FORMATS[format_].is_bad(table["time"])).to_pylist()
    assert found == [False, *(True for _ in bad)]


def test_seconds_sort_as_numbers_and_other_times_as_text(connection: Backend) -> None:
    given = {"unix_seconds": ["9", "10", "100"], "YYMMDDHH": ["09123123", "10010100", "10010101"]}
    for format_, times in given.items():
        table = ibis.memtable({"time": times[::-1]})
        key = FORMATS[format_].sort_key(table["time"])
        assert connection.to_pyarrow(table.order_by(key))["time"].to_pylist() == times
