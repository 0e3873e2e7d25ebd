import datetime
import math
from collections.abc import Callable
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.log.schema import (
    ROW,
    CodeColumn,
    FieldSource,
    LogSchema,
    TimeColumn,
)
from llm_ctr_pipeline.data.raw.checks import RawFile
from tests.data.logs import changed

WriteRaw = Callable[..., Path]
OpenRaw = Callable[[Path], RawFile]
Normalise = Callable[[ir.Table, LogSchema], ir.Table]
Values = Callable[..., dict[str, list[str]]]


@pytest.fixture
def values(connection: Backend, normalise: Normalise) -> Values:
    """A log's fields, by name, of rows given by column."""

    def make(schema: LogSchema, **columns: list[str]) -> dict[str, list[str]]:
        rows = len(next(iter(columns.values())))
        raw = {ROW: [*range(rows)], "label": ["0"] * rows, **columns}
        table = connection.create_table("raw", ibis.memtable(raw), overwrite=True)
        found = normalise(table, schema).order_by("row").to_pyarrow().to_pydict()
        return {name: found[name] for name in schema.names}

    return make


def test_the_unified_schema(
    open_x4: OpenRaw, write_raw: WriteRaw, x4: LogSchema, normalise: Normalise
) -> None:
    raw = open_x4(write_raw([{"click": "1", "site_id": "1e5"}]))
    table = normalise(raw.table, raw.schema)
    assert len(x4.names) == 24
    assert x4.names[0] == "C1"
    assert x4.names[-3:] == ("hour", "weekday", "weekend")
    assert all(table.schema()[field].is_string() for field in x4.names)
    assert table.site_id.to_pyarrow().to_pylist() == ["1e5"]


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


def described(x4: LogSchema, **changes: object) -> LogSchema:
    """A log of some columns, the rest as in x4."""
    return changed(x4, label="label", ignored=(), times=(), **changes)


def test_numbers_go_to_the_criteo_buckets(values: Values, x4: LogSchema) -> None:
    given = ["", "-2", "-0.5", "0", "1", "2", "2.5", "3", "4", "5", "1000", "00012", "1000000"]
    given += ["1e-05", "-2.5e0", "1E+20", "9" * 200 + "e99"]
    schema = described(x4, fields=(FieldSource(name="I1", kind="numeric", column="I1"),))
    buckets = values(schema, I1=given)["I1"]
    expected = [
        ""
        if not cell
        else str(math.floor(math.log(float(cell)) ** 2))
        if float(cell) > 2
        else str(int(float(cell)))
        for cell in given
    ]
    assert buckets == expected
    assert expected[:10] == ["", "-2", "0", "0", "1", "2", "0", "1", "1", "2"]


def test_the_lowest_numbers_share_a_bucket(values: Values, x4: LogSchema) -> None:
    schema = described(x4, fields=(FieldSource(name="I1", kind="numeric", column="I1"),))
    buckets = values(schema, I1=["-1e50", "-1e19", "-9e17"])["I1"]
    assert buckets[0] == buckets[1] != buckets[2]


def test_numbers_go_to_the_stated_buckets(values: Values, x4: LogSchema) -> None:
    schema = described(
        x4,
        fields=(FieldSource(name="age", kind="numeric", column="age", edges=(18.0, 25.0, 65.0)),),
    )
    given = ["17.9", "18", "24", "25", "64", "65", "", "-3"]
    assert values(schema, age=given)["age"] == ["0", "1", "1", "2", "2", "3", "", "0"]


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


def test_codes_and_fields_that_the_log_lacks(values: Values, x4: LogSchema) -> None:
    schema = changed(
        x4,
        label="label",
        ignored=(),
        times=(),
        codes=(CodeColumn(column="wday", part="weekday", offset=645_188, first=0, last=6),),
        fields=(
            FieldSource(name="weekday", kind="weekday", column="wday"),
            FieldSource(name="weekend", kind="weekend", column="wday"),
            FieldSource(name="C21", kind="absent", column=None),
        ),
    )
    assert values(schema, wday=["645188", "645190", "645194"]) == {
        "weekday": ["0", "2", "6"],
        "weekend": ["1", "0", "1"],
        "C21": [None, None, None],
    }
