import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.raw_check import RawSplitFacts, check_raw_file, check_raw_log
from llm_ctr_pipeline.data.raw_csv import open_raw_file
from llm_ctr_pipeline.data.schema import AVAZU_X4

WriteRaw = Callable[..., Path]


def check(connection: Backend, path: Path) -> RawSplitFacts:
    return check_raw_file(open_raw_file(connection, path, AVAZU_X4))


def refused(connection: Backend, path: Path) -> str:
    with pytest.raises(RawLogError) as error:
        check(connection, path)
    return str(error.value)


def test_the_facts_of_a_good_file(connection: Backend, write_raw: WriteRaw) -> None:
    path = write_raw([{"click": "1"}, {"click": "0", "C14": "a,b"}, {"click": "1"}])
    facts = check(connection, path)
    assert facts == RawSplitFacts("train.csv", 3, 2, hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_header_without_rows_is_refused(connection: Backend, write_raw: WriteRaw) -> None:
    assert "has a header but no rows" in refused(connection, write_raw([]))


@pytest.mark.parametrize("label", ["2", "", "1.0", "-1", "yes", " 1"])
def test_a_label_other_than_0_or_1_is_refused(
    connection: Backend, write_raw: WriteRaw, label: str
) -> None:
    path = write_raw([{"click": "1"}, {"site_id": "a\nb"}, {"click": label}, {"click": label}])
    message = refused(connection, path)
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
def test_a_malformed_hour_is_refused(connection: Backend, write_raw: WriteRaw, time: str) -> None:
    message = refused(connection, write_raw([{}, {"hour": time}, {}]))
    assert f"column 'hour', row 2 (line 3): {time!r} is not YYMMDDHH" in message


@pytest.mark.parametrize("time", ["14102100", "14123123", "16022912", "00022900", "14022800"])
def test_an_hour_that_exists_passes(connection: Backend, write_raw: WriteRaw, time: str) -> None:
    assert check(connection, write_raw([{"hour": time}])).rows == 1


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
    connection: Backend, write_raw: WriteRaw, tail: str, problem: str, quoted: bool
) -> None:
    line_end = "\r\n" if tail.endswith("\r\n") else "\n"
    path = write_raw([{"C20": "a,b" if quoted else "a"}, {}], line_end=line_end)
    with path.open("a", newline="") as file:
        file.write(tail)
    assert f"{path}, row 3 (line 4): {problem}" in refused(connection, path)


@pytest.mark.parametrize("tail", [b'"open', b"\xff" + b",0" * 23 + b"\n"])
def test_text_that_is_no_csv_is_refused(
    connection: Backend, write_raw: WriteRaw, tail: bytes
) -> None:
    path = write_raw([{}])
    with path.open("ab") as file:
        file.write(tail)
    assert str(path) in refused(connection, path)


def test_identical_splits_are_refused(connection: Backend, write_raw: WriteRaw) -> None:
    contents = {"train": "a", "valid": "b", "test": "a"}
    files = {
        split: open_raw_file(
            connection, write_raw([{"id": content}], name=f"{split}.csv"), AVAZU_X4
        )
        for split, content in contents.items()
    }
    with pytest.raises(RawLogError, match=r"test\.csv and .*train\.csv are identical"):
        check_raw_log(files)
