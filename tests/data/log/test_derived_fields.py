import math
from collections.abc import Callable
from pathlib import Path

import ibis.expr.types as ir

from llm_ctr_pipeline.data.log.schema import CodeColumn, FieldSource, LogSchema
from llm_ctr_pipeline.data.raw.checks import RawFile
from tests.data.logs import changed

WriteRaw = Callable[..., Path]
OpenRaw = Callable[[Path], RawFile]
Normalise = Callable[[ir.Table, LogSchema], ir.Table]
Values = Callable[..., dict[str, list[str]]]


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
