"""Raw logs that are refused, and unusual ones that go through: all that docs/bad_input.md names."""

import bz2
import csv
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llm_ctr_pipeline.cli import refusal_in
from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import SPLITS
from tests.pipelines.preprocessing import (
    GENERATED,
    PROJECT,
    make_raw,
    raw_rows,
    read_json,
    read_split,
    run_preprocess,
)


def edit(split: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Return what changes the lines of one split's file."""

    def apply(raw: Path) -> None:
        path = raw / f"{split}.csv"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return apply


def set_cell(line: str, column: int, value: str) -> str:
    cells = line.split(",")
    return ",".join([*cells[:column], value, *cells[column + 1 :]])


def edit_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return what changes the bytes of the training split's file."""

    def apply(raw: Path) -> None:
        path = raw / "train.csv"
        path.write_bytes(change(path.read_bytes()))

    return apply


def in_row(row: int, column: int, value: str, split: str = "train") -> Callable[[Path], None]:
    """Return what sets one cell; the first data row is 1."""
    return edit(
        split, lambda lines: [*lines[:row], set_cell(lines[row], column, value), *lines[row + 1 :]]
    )


def reordered(text: str) -> str:
    header, *rows = text.splitlines(keepends=True)
    return "".join([header, *reversed(rows)])


# What is refused, by its name in docs/bad_input.md.
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a missing folder": (
        lambda raw: raw.rename(raw.with_name("elsewhere")),
        r"raw folder .*my_log not found: set raw_dir",
    ),
    "a missing file": (lambda raw: (raw / "valid.csv").unlink(), r"valid\.csv not found"),
    "an empty file": (edit("test", lambda _: []), r"test\.csv is empty \(0 bytes\)"),
    "a header and no rows": (
        edit("test", lambda lines: lines[:1]),
        r"test\.csv has a header but no rows",
    ),
    "a missing column": (
        edit("valid", lambda lines: [line.split(",", 1)[1] for line in lines]),
        r"valid\.csv, line 1: missing column 'id'",
    ),
    "an extra column": (
        edit("valid", lambda lines: ["extra," + line for line in lines]),
        r"valid\.csv, line 1: unexpected column 'extra'",
    ),
    "a repeated column": (
        edit("valid", lambda lines: ["id," + lines[0], *("1," + line for line in lines[1:])]),
        r"valid\.csv, line 1: repeated column 'id'",
    ),
    "no header": (edit("train", lambda lines: lines[1:]), r"train\.csv, line 1: .*missing column"),
    "another delimiter": (
        edit("train", lambda lines: [line.replace(",", ";") for line in lines]),
        r"train\.csv, line 1: missing column",
    ),
    "a row with too few cells": (
        edit("train", lambda lines: [*lines[:5], "1,0\n", *lines[5:]]),
        r"train\.csv, row 5 \(line 6\): too few cells, 2 for 24 columns",
    ),
    "a row with too many cells": (
        edit("train", lambda lines: [*lines[:5], "x," + lines[5], *lines[6:]]),
        r"train\.csv, row 5 \(line 6\): too many cells, 25 for 24 columns",
    ),
    "a file cut off within a row": (
        edit_bytes(lambda content: content[:-30]),
        r"train\.csv, row 60 \(line 61\): too few cells",
    ),
    "text after a closing quote": (
        in_row(5, 5, '"a"b'),
        r"train\.csv, line 6: text stands behind a closing quote",
    ),
    "a quote that is never closed": (
        in_row(5, 5, '"ab'),
        r"train\.csv, line 6: a quote opens here and is never closed",
    ),
    "a row longer than two million characters": (
        in_row(5, 5, "x" * 2_000_001),
        r"train\.csv, line 6: a cell of more than 2,000,000 characters begins here",
    ),
    "an encoding other than UTF-8": (
        edit_bytes(lambda content: content.replace(b"a", b"\xe4")),
        r"train\.csv, line 1: byte 0xe4 is not UTF-8 text",
    ),
    "one byte that is not UTF-8": (
        edit_bytes(lambda content: content[:-2] + b"\xe9\n"),
        r"train\.csv, line 61: byte 0xe9 is not UTF-8 text",
    ),
    "UTF-16": (
        edit_bytes(lambda content: content.decode().encode("utf-16")),
        r"train\.csv, line 1: byte 0xff is not UTF-8 text",
    ),
    "a zip instead of a CSV": (
        edit_bytes(lambda _: b"PK\x03\x04\x14\x00\x00\x00\x08\x00 \x9c\xff"),
        r"train\.csv is a zip file, not CSV: unpack it",
    ),
    "a gzip file instead of a CSV": (
        edit_bytes(gzip.compress),
        r"train\.csv is a gzip file, not CSV: unpack it",
    ),
    "a label other than 0 or 1": (
        in_row(3, 1, "2", "test"),
        r"test\.csv, column 'click', row 3 \(line 4\): '2' is not 0 or 1",
    ),
    "one label in all rows": (
        edit("test", lambda lines: [lines[0], *(set_cell(line, 1, "0") for line in lines[1:])]),
        r"test\.csv: all 30 rows of the test split have the label 0",
    ),
    "a time that does not exist": (
        in_row(3, 2, "14103024", "test"),
        r"test\.csv, column 'hour', row 3 \(line 4\): '14103024' is not YYMMDDHH",
    ),
    "two splits with the same content": (
        lambda raw: (raw / "test.csv").write_bytes((raw / "valid.csv").read_bytes()) and None,
        r"test\.csv and .*valid\.csv hold the same rows",
    ),
    "two splits with the same rows in another order": (
        lambda raw: (
            (raw / "test.csv").write_text(reordered((raw / "valid.csv").read_text())) and None
        ),
        r"test\.csv and .*valid\.csv hold the same rows",
    ),
    "a bzip2 file instead of a CSV": (
        edit_bytes(bz2.compress),
        r"train\.csv is a bzip2 file, not CSV: unpack it",
    ),
    "a Parquet file instead of a CSV": (
        edit_bytes(lambda _: b"PAR1\x15\x04\x15\x10\x15\x14L"),
        r"train\.csv is a Parquet file, not CSV: write its rows as CSV",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_raw_log_is_refused_and_nothing_vouches_for_it(tmp_path: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    raw = make_raw(tmp_path)
    spoil(raw)
    with pytest.raises(Exception, match=message) as caught:
        run_preprocess(tmp_path / "project", raw, GENERATED)
    assert isinstance(refusal_in(caught.value), RawLogError)
    # Rows whose values were refused may stay as they were read; nothing was made of them.
    written = [*(tmp_path / "project").rglob("*")]
    assert all(path.is_dir() or "raw_rows" in path.parts for path in written)


ODD_IDS = ["1e5", "00012", "12345678901234567890", "0x10", "-0", "NULL", "nan", "", " a ", "a\0b"]


def odd_log(raw: Path) -> None:
    """Make a log of what is unusual and right: odd ids, quotes, line ends, few or rare values."""
    for split in SPLITS:
        path = raw / f"{split}.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for position, row in enumerate(rows):
            row["site_id"] = ODD_IDS[position % len(ODD_IDS)]
            row["app_id"] = 'a,"b"\nc'
            row["C1"] = "1005"
            row["C21"] = "last"
            row["C20"] = f"{split} {position}"
        with path.open("w", newline="") as file:
            unix, dos = (
                csv.DictWriter(file, rows[0], lineterminator=end) for end in ("\n", "\r\n")
            )
            unix.writeheader()
            for position, row in enumerate(rows):
                (dos if position % 3 else unix).writerow(row)


# What goes through, by its name in docs/bad_input.md: a field, and its values with ids in order.
ACCEPTED: dict[str, tuple[str, list[str]]] = {
    "ids that look like numbers": ("site_id", sorted(ODD_IDS, key=str.encode)),
    "empty cells and the words NULL and nan": ("site_id", sorted(ODD_IDS, key=str.encode)),
    "NUL characters": ("site_id", sorted(ODD_IDS, key=str.encode)),
    "delimiters, quotes and line breaks in quotes": ("app_id", ['a,"b"\nc']),
    "line ends of two kinds": ("C21", ["last"]),
    "a field with a single value": ("C1", ["1005"]),
    "a field whose values are all rarer than min_count": ("C20", []),
}


BLANK = b"\n\n"


# Other forms of the same rows, by their name in docs/bad_input.md.
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    r"lines that all end in `\r\n`": lambda content: content.replace(b"\n", b"\r\n"),
    "no line end after the last row": lambda content: content[:-1],
    "blank lines": lambda content: content.replace(b"\n", BLANK, 9) + BLANK,
    "quotes around any cell, the header's too": lambda content: b"".join(
        b'"' + line.replace(b",", b'","') + b'"\n' for line in content.splitlines()
    ),
    "columns in another order": lambda content: b"".join(
        b",".join(line.split(b",")[::-1]) + b"\n" for line in content.splitlines()
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_rows_in_another_form_are_the_same(tmp_path: Path, form: str) -> None:
    raw = make_raw(tmp_path)
    expected = run_preprocess(tmp_path / "plain", raw)
    for split in SPLITS:
        path = raw / f"{split}.csv"
        content = path.read_bytes()
        path.write_bytes(FORMS[form](content))
        assert path.read_bytes() != content
    found = run_preprocess(tmp_path / "other", raw)
    for split in SPLITS:
        assert read_split(found, split) == read_split(expected, split)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    odd_log(make_raw(folder))
    return run_preprocess(folder / "project", folder / "my_log")


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_unusual_and_right_goes_through(odd: Path, name: str) -> None:
    field, values = ACCEPTED[name]
    vocabulary = pq.read_table(odd / "04_feature" / "x4" / "vocabulary.parquet").to_pylist()
    id_of = {row["value"]: row["id"] for row in vocabulary if row["field"] == field}
    assert list(id_of) == values
    raw = raw_rows(odd.parents[1] / "my_log", "test")
    encoded = read_split(odd, "test")[field].to_pylist()
    assert encoded == [id_of.get(row[field], 0) for row in raw]
    summary = read_json(odd / "05_model_input" / "x4" / "summary.json")["splits"]["test"]
    assert summary["unknown_share_by_field"][field] == (0.0 if values else 1.0)


def copy_rows(raw: Path) -> None:
    """Put train's rows into test's file; the label of one makes it another split."""
    header, first, *rows = (raw / "train.csv").read_text().splitlines(keepends=True)
    other = set_cell(first, 1, str(1 - int(first.split(",")[1])))
    (raw / "test.csv").write_text("".join([header, other, *rows]))


# What is worth a warning, by its name in docs/bad_input.md.
WARNED: dict[str, tuple[Callable[[Path], None], str]] = {
    "values never seen in train": (
        edit(
            "test",
            lambda lines: [
                lines[0],
                *(set_cell(line, 3, f"{line.split(',')[3]} ") for line in lines[1:]),
            ],
        ),
        "C1 of test: 100 % of the values are unknown, such as '100[0-9] '; train writes it '100",
    ),
    "rows of train in valid or test": (copy_rows, "98.3 % of the rows of test stand in train too"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_spoils_a_measurement_is_told(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, message = WARNED[case]
    raw = make_raw(tmp_path)
    change(raw)
    run_preprocess(tmp_path / "project", raw, GENERATED)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line for line in told if re.match(message, line)]


def test_the_page_on_bad_input_has_a_row_for_each() -> None:
    page, _ = (PROJECT / "docs" / "bad_input.md").read_text().split("## Archives and disks")
    lines = page.splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    named = [row for row in rows if row != "input"]
    assert sorted(named) == sorted([*FAULTS, *ACCEPTED, *FORMS, *WARNED])
