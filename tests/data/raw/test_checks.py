import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import ROW, CodeColumn, FieldSource, LogSchema
from llm_ctr_pipeline.data.raw.checks import (
    RawFile,
    SplitCounts,
    check_raw_file,
    check_raw_files,
    read_raw_file,
)
from llm_ctr_pipeline.data.raw.csv_text import open_csv
from llm_ctr_pipeline.data.storage.engine import read_parquet
from tests.data.logs import changed

WriteRaw = Callable[..., Path]
OpenRaw = Callable[[Path], RawFile]
Normalise = Callable[[ir.Table, LogSchema], ir.Table]


def read_raw(connection: Backend, path: Path, schema: LogSchema) -> RawFile:
    csv = open_csv(path, schema)
    target = path.with_name(f"{path.stem}-{uuid4()}.parquet")
    fingerprint = read_raw_file(connection, csv, target)
    return RawFile(path, schema, read_parquet(connection, target), fingerprint)


def check(open_x4: OpenRaw, path: Path) -> SplitCounts:
    return check_raw_file(open_x4(path))


def refused(open_x4: OpenRaw, path: Path) -> str:
    with pytest.raises(RawLogError) as error:
        check(open_x4, path)
    return str(error.value)


def test_the_facts_of_a_good_file(open_x4: OpenRaw, write_raw: WriteRaw) -> None:
    path = write_raw([{"click": "1"}, {"click": "0", "C14": "a,b"}, {"click": "1"}])
    facts = check(open_x4, path)
    assert facts == SplitCounts(
        file="train.csv",
        rows=3,
        clicks=2,
        fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def test_a_header_without_rows_is_refused(open_x4: OpenRaw, write_raw: WriteRaw) -> None:
    assert "has a header but no rows" in refused(open_x4, write_raw([]))


@pytest.mark.parametrize("label", ["2", "", "1.0", "-1", "yes", " 1"])
def test_a_label_other_than_0_or_1_is_refused(
    open_x4: OpenRaw, write_raw: WriteRaw, label: str
) -> None:
    path = write_raw([{"click": "1"}, {"site_id": "a\nb"}, {"click": label}, {"click": label}])
    message = refused(open_x4, path)
    assert f"{path}, column 'click', row 3 (line 5): {label!r} is not 0 or 1" in message
    assert "2 such rows in all" in message


@pytest.mark.parametrize(
    "time",
    [
        *("", "1410210", "141021000", "14102a00", "1e102100", " 4102100", "14-10-21"),
        *("14102124", "14103200", "14001500", "14130100", "14093100", "14022900", "14100000"),
        "14102100\n",
    ],
)
def test_a_malformed_hour_is_refused(open_x4: OpenRaw, write_raw: WriteRaw, time: str) -> None:
    message = refused(open_x4, write_raw([{}, {"hour": time}, {}]))
    assert f"column 'hour', row 2 (line 3): {time!r} is not YYMMDDHH" in message


@pytest.mark.parametrize("time", ["14102100", "14123123", "16022912", "00022900", "14022800"])
def test_an_hour_that_exists_passes(open_x4: OpenRaw, write_raw: WriteRaw, time: str) -> None:
    assert check(open_x4, write_raw([{"hour": time}])).rows == 1


@pytest.mark.parametrize(
    ("tail", "problem"),
    [
        ("1,2\n", "too few cells, 2 for 24 columns"),
        (",".join(["0"] * 25) + "\n", "too many cells, 25 for 24 columns"),
        (",".join(["0"] * 24) + ",\n", "too many cells, 25 for 24 columns"),
        (",".join(["0"] * 23) + ",,\r\n", "too many cells, 25 for 24 columns"),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_a_row_of_the_wrong_width_is_refused(
    open_x4: OpenRaw, write_raw: WriteRaw, tail: str, problem: str, quoted: bool
) -> None:
    line_end = "\r\n" if tail.endswith("\r\n") else "\n"
    path = write_raw([{"C20": "a,b" if quoted else "a"}, {}], line_end=line_end)
    with path.open("a", newline="") as file:
        file.write(tail)
    assert f"{path}, row 3 (line 4): {problem}" in refused(open_x4, path)


@pytest.mark.parametrize("tail", [b'"open', b"\xff" + b",0" * 23 + b"\n"])
def test_text_that_is_no_csv_is_refused(open_x4: OpenRaw, write_raw: WriteRaw, tail: bytes) -> None:
    path = write_raw([{}])
    with path.open("ab") as file:
        file.write(tail)
    assert str(path) in refused(open_x4, path)


def test_a_quote_that_is_never_closed_in_a_long_file(open_x4: OpenRaw, write_raw: WriteRaw) -> None:
    path = write_raw([{}, {"C20": "x"}])
    lines = path.read_text().splitlines(keepends=True)
    opened = lines[2].replace("x", '"x')
    path.write_text("".join([*lines[:2], opened, *(lines[1] for _ in range(40_000))]))
    assert path.stat().st_size > 2_000_000
    assert f"{path}, line 3: a cell of more than 2,000,000 characters begins here" in refused(
        open_x4, path
    )


def test_a_fault_behind_a_long_cell_is_found(open_x4: OpenRaw, write_raw: WriteRaw) -> None:
    message = refused(open_x4, write_raw([{"C20": "x" * 1_000_000}, {"click": "y" * 500}]))
    assert "column 'click', row 2 (line 3): 'yyyy" in message
    assert "yyyy… (500 characters) is not 0 or 1" in message


def test_a_row_that_is_long_in_all_is_refused(open_x4: OpenRaw, write_raw: WriteRaw) -> None:
    long = dict.fromkeys(("C14", "C15", "C16"), "x" * 700_000)
    message = refused(open_x4, write_raw([{}, long]))
    assert "line 3: a row of more than 2,000,000 characters" in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(lambda lines: lines, id="identical"),
        pytest.param(lambda lines: [lines[0], *reversed(lines[1:])], id="another order"),
        pytest.param(lambda lines: [line.replace("\n", "\r\n") for line in lines], id="line ends"),
        pytest.param(lambda lines: [*lines[:-1], lines[-1].strip()], id="no last line end"),
    ],
)
def test_splits_of_the_same_rows_are_refused(
    open_x4: OpenRaw, write_raw: WriteRaw, lines: Callable[[list[str]], list[str]]
) -> None:
    # A row that comes twice in one split and once in the other is a difference.
    contents = {"train": "aabc", "valid": "abbc", "test": "aabc"}
    paths = {
        split: write_raw([{"C14": value} for value in values], name=f"{split}.csv")
        for split, values in contents.items()
    }
    test = paths["test"]
    test.write_bytes("".join(lines(test.read_text().splitlines(keepends=True))).encode())
    files = {split: open_x4(path) for split, path in paths.items()}
    with pytest.raises(RawLogError, match=r"test\.csv and .*train\.csv hold the same rows"):
        check_raw_files(files)
    check_raw_files({split: files[split] for split in ("train", "valid")})


HOUR_CODES = CodeColumn(column="hour", part="hour", offset=1000, first=0, last=23)


def open_coded(
    connection: Backend, tmp_path: Path, x4: LogSchema, codes: Sequence[object]
) -> RawFile:
    """Open a file of labels and hours as codes."""
    path = tmp_path / "train.csv"
    lines = [f"{row % 2},{code}\n" for row, code in enumerate(codes)]
    path.write_text("".join(["label,hour\n", *lines]))
    schema = changed(
        x4,
        label="label",
        ignored=(),
        times=(),
        codes=(HOUR_CODES,),
        fields=(FieldSource(name="hour", kind="hour", column="hour"),),
    )
    return read_raw(connection, path, schema)


@pytest.mark.parametrize("code", ["999", "1024", "0", "", "1005.0", "1e3", "x"])
def test_a_code_out_of_range_is_refused(
    connection: Backend, tmp_path: Path, x4: LogSchema, code: str
) -> None:
    file = open_coded(connection, tmp_path, x4, [1000, 1023, code])
    with pytest.raises(RawLogError) as error:
        check_raw_file(file)
    expected = "is not an integer from 1000 to 1023 (hour 0 to 23 plus 1000)"
    assert f"column 'hour', row 3 (line 4): {code!r} {expected}" in str(error.value)


def test_a_long_file_must_hold_every_code(
    connection: Backend, tmp_path: Path, x4: LogSchema
) -> None:
    all_but_one = [1001 + row % 23 for row in range(24_000)]
    few = open_coded(connection, tmp_path, x4, all_but_one[:23_999])
    assert check_raw_file(few).rows == 23_999
    file = open_coded(connection, tmp_path, x4, all_but_one)
    with pytest.raises(RawLogError) as error:
        check_raw_file(file)
    assert (
        "expected all 24 codes from 1000 to 1023 (hour 0 to 23) in 24000 rows, found 23 of them, "
        "from 1001 to 1023: is the offset 1000 right?"
    ) in str(error.value)
    assert check_raw_file(open_coded(connection, tmp_path, x4, [*all_but_one, 1000])).rows == 24_001


@pytest.mark.parametrize("cell", ["nan", "inf", "1,5", "0x1", "--1", "e5", "1e", "1e100", " 1"])
def test_what_is_no_number_is_refused(
    connection: Backend, tmp_path: Path, x4: LogSchema, cell: str
) -> None:
    path = tmp_path / "train.txt"
    path.write_text(f"0\t-1.5\n1\t\n0\t{cell}\n")
    schema = changed(
        x4,
        delimiter="\t",
        columns=("label", "I1"),
        label="label",
        ignored=(),
        times=(),
        fields=(FieldSource(name="I1", kind="numeric", column="I1"),),
    )
    with pytest.raises(RawLogError, match=r"row 3 \(line 3\): .* is not a number or empty"):
        check_raw_file(read_raw(connection, path, schema))


def test_the_first_line_without_a_header_must_have_every_column(
    connection: Backend, tmp_path: Path, x4: LogSchema
) -> None:
    schema = changed(
        x4,
        delimiter="\t",
        columns=("label", "a", "b"),
        label="label",
        ignored=(),
        times=(),
        fields=(
            FieldSource(name="a", kind="categorical", column="a"),
            FieldSource(name="b", kind="categorical", column="b"),
        ),
    )
    path = tmp_path / "train.txt"
    path.write_text("0\tx\t\n1\t00012\ty\n")
    file = read_raw(connection, path, schema)
    assert check_raw_file(file).rows == 2
    assert file.table.order_by(ROW).a.to_pyarrow().to_pylist() == ["x", "00012"]
    path.write_text("0,x,\n")
    with pytest.raises(RawLogError, match=r"1 cells between '\\t', but the x4 log has the 3"):
        read_raw(connection, path, schema)
    path.write_text("0\tx\t\n1\ty\n")
    with pytest.raises(RawLogError, match=r"row 2 \(line 2\): too few cells, 2 for 3 columns"):
        check_raw_file(read_raw(connection, path, schema))


def test_a_weekday_must_be_that_of_the_day(
    connection: Backend, tmp_path: Path, x4: LogSchema, normalise: Normalise
) -> None:
    day = CodeColumn(column="mday", part="day", offset=100, first=0, last=9, first_weekday=2)
    schema = changed(
        x4,
        label="label",
        ignored=(),
        times=(),
        codes=(day, CodeColumn(column="wday", part="weekday", offset=200, first=0, last=6)),
        fields=(FieldSource(name="weekday", kind="weekday", column="wday"),),
    )
    path = tmp_path / "train.csv"
    lines = [
        "label,mday,wday",
        *(f"{row % 2},{100 + row},{200 + (row + 2) % 7}" for row in range(10)),
    ]
    path.write_text("\n".join(lines) + "\n")
    assert check_raw_file(read_raw(connection, path, schema)).rows == 10
    # The same days with weekdays that count from Monday.
    shifted = [f"{row % 2},{100 + row},{200 + (row + 1) % 7}" for row in range(10)]
    path.write_text("\n".join([lines[0], *shifted]) + "\n")
    with pytest.raises(RawLogError) as error:
        check_raw_file(read_raw(connection, path, schema))
    assert (
        "column 'wday', row 1 (line 2): '201' is not the weekday of the day in column 'mday', of "
        "which code 100 is a weekday 2 (0 for Sunday); 10 such rows in all"
    ) in str(error.value)
    from_monday = CodeColumn(column="wday", part="weekday", offset=199, first=1, last=7)
    file = read_raw(connection, path, changed(schema, codes=(day, from_monday)))
    assert check_raw_file(file).rows == 10
    weekdays = normalise(file.table, file.schema).order_by("row").weekday.to_pyarrow().to_pylist()
    assert weekdays == [str((row + 2) % 7) for row in range(10)]
