"""Raw files of rows to score."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.serving import raw_files
from llm_ctr_pipeline.serving.raw_files import open_rows, read_rows
from tests.data.logs import changed, log_of

LOG = log_of("a", "b")
LABEL = LOG.label
WITHOUT_HEADER = changed(LOG, columns=(LABEL, "a", "b"))


def read(folder: Path, schema: LogSchema, *texts: str, refuse_bad: bool = True) -> list[list[str]]:
    """The cells of a and b in files of these contents."""
    for number, text in enumerate(texts):
        (folder / f"{number}.csv").write_text(text)
    found = []
    for csv in open_rows(folder, schema, ["a", "b"]):
        for rows, whole in read_rows(csv, ["a", "b"], refuse_bad):
            cells = iter(zip(*(rows[name].to_pylist() for name in ("a", "b")), strict=True))
            found += [[*next(cells)] if is_whole else [] for is_whole in whole]
    return found


def test_columns_may_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    texts = ("b,a\n1,2\n", f"more,a,{LABEL},b\n-,3,1,4\n-,5,?,6\n")
    assert read(tmp_path, LOG, *texts) == [["2", "1"], ["3", "4"], ["5", "6"]]


def test_files_without_a_header_line_have_all_columns_or_all_but_the_label(tmp_path: Path) -> None:
    found = read(tmp_path, WITHOUT_HEADER, "0,1,2\n1,3,4\n", "5,6\n")
    assert found == [["1", "2"], ["3", "4"], ["5", "6"]]
    with pytest.raises(RawLogError, match="4 cells between ',', but the x4 log has the columns"):
        read(tmp_path, WITHOUT_HEADER, "1,2,3,4\n")


def test_a_quoted_cell_may_hold_a_line_break(tmp_path: Path) -> None:
    assert read(tmp_path, LOG, 'a,b\n"1\n2","3,""4"""\n') == [["1\n2", '3,"4"']]


@pytest.mark.parametrize("header", [True, False])
def test_rows_with_too_few_or_too_many_cells(tmp_path: Path, header: bool) -> None:
    schema, begin = (LOG, "\n\na,b\n"[2:]) if header else (WITHOUT_HEADER, "")
    text = begin + "1,2\n3\n\n4,5,6,7\n8,9\n10\n"
    with pytest.raises(RawLogError, match=r"0\.csv, row 2 \(line \d\): too few cells, 1 for 2"):
        read(tmp_path, schema, text)
    assert read(tmp_path, schema, text, refuse_bad=False) == [["1", "2"], [], [], ["8", "9"], []]


def test_a_file_of_bad_rows_alone(tmp_path: Path) -> None:
    assert read(tmp_path, LOG, "a,b\n1\n2\n", refuse_bad=False) == [[], []]


def test_a_quote_that_is_never_closed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RawLogError, match="never closed"):
        read(tmp_path, LOG, 'a,b\n1,"2\n', refuse_bad=False)


def test_a_folder_must_hold_a_file(tmp_path: Path) -> None:
    with pytest.raises(RawLogError, match=r"holds no \.csv or \.parquet file"):
        open_rows(tmp_path, LOG, ["a"])
    with pytest.raises(RawLogError, match="not found"):
        open_rows(tmp_path / "none.csv", LOG, ["a"])


def test_parquet_holds_the_cells_that_csv_would(tmp_path: Path) -> None:
    """Of any length, though it is read in parts."""
    rows = raw_files._PARQUET_ROWS + 3
    text = pa.array(["x", None, "007"] * rows)[:rows]
    table = pa.table({"more": [0.5] * rows, "b": text, "a": pa.array(range(rows), pa.int32())})
    pq.write_table(table, tmp_path / "0.parquet")
    (file,) = open_rows(tmp_path, WITHOUT_HEADER, ["a", "b"])
    blocks = [*read_rows(file, ["a", "b"], refuse_bad=True)]
    assert [block.num_rows for block, _ in blocks] == [raw_files._PARQUET_ROWS, 3]
    assert all(whole.all() for _, whole in blocks)
    found = pa.concat_tables([block for block, _ in blocks])
    assert found["a"].to_pylist() == [str(number) for number in range(rows)]
    assert found["b"].to_pylist() == (["x", "", "007"] * rows)[:rows]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"a": ["1"]}), r"0\.parquet has no column b"),
        (pa.table([["1"], ["2"], ["3"]], ["a", "b", "b"]), "has the column b twice"),
        (pa.table({"a": [1005.0], "b": ["1"]}), "column 'a' is of type double, which does not say"),
        (pa.table({"a": [True], "b": ["1"]}), "column 'a' is of type bool"),
    ],
)
def test_parquet_files_that_are_not_of_the_log_are_refused(
    tmp_path: Path, table: pa.Table, said: str
) -> None:
    pq.write_table(table, tmp_path / "0.parquet")
    with pytest.raises(RawLogError, match=said):
        open_rows(tmp_path, LOG, ["a", "b"])


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(RawLogError, match=r"0\.parquet cannot be read as Parquet: "):
        open_rows(tmp_path, LOG, ["a", "b"])
    file = tmp_path / "1.parquet"
    pq.write_table(pa.table({"a": ["1", "2"] * 999, "b": ["3", "4"] * 999}), file)
    content = bytearray(file.read_bytes())
    content[4:40] = bytes(36)
    file.write_bytes(content)
    (rows,) = open_rows(file, LOG, ["a", "b"])
    with pytest.raises(RawLogError, match=r"1\.parquet cannot be read as Parquet: "):
        [*read_rows(rows, ["a", "b"], refuse_bad=True)]


def test_a_column_that_holds_numbers_may_have_fractions(tmp_path: Path) -> None:
    log = changed(LOG, fields=[{"name": "a", "kind": "numeric", "edges": [1.5]}, "b"])
    pq.write_table(pa.table({"a": [0.25, None], "b": ["x", "y"]}), tmp_path / "0.parquet")
    assert read(tmp_path, log) == [["0.25", "x"], ["", "y"]]
