"""Rows as users hold them, as a raw file's cells."""

import decimal
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from llm_ctr_pipeline.serving.cells import RowError, as_cells

SAME = [
    [{"a": "x", "n": "1.5", "more": []}, {"a": "", "n": ""}],
    [{"n": 1.5, "a": "x"}, {"n": None, "a": None}],
    pd.DataFrame({"a": ["x", None], "n": [1.5, np.nan]}),
    pd.DataFrame({"a": pd.Categorical(["x", ""]), "n": ["1.5", ""]}),
    pd.DataFrame({"a": pd.array(["x", pd.NA], dtype="string"), "n": ["1.5", pd.NA]}),
    pa.table({"a": pa.array(["x", None]).dictionary_encode(), "n": ["1.5", None]}),
    json.loads('[{"a": "x", "n": 1.5}, {"a": null, "n": null}]'),
]


@pytest.mark.parametrize("rows", SAME)
def test_rows_of_any_kind_are_the_same_cells(rows: Any) -> None:
    cells = as_cells(rows, ["a", "n"], {"n"})
    assert cells.to_pydict() == {"a": ["x", ""], "n": ["1.5", ""]}


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1005}, {"a": "00012"}, {"a": None}],
        pd.DataFrame({"a": [1005, "00012", np.nan]}),
        pd.DataFrame({"a": [np.int64(1005), "00012", pd.NA]}),
    ],
)
def test_whole_numbers_and_text_may_stand_in_one_column(rows: Any) -> None:
    assert as_cells(rows, ["a"], ()).to_pydict() == {"a": ["1005", "00012", ""]}


@pytest.mark.parametrize("numbers", [np.array([7, -3]), pd.array([7, -3], dtype="Int64")])
def test_whole_numbers_are_written_as_their_digits(numbers: Any) -> None:
    assert as_cells(pd.DataFrame({"a": numbers}), ["a"], ()).to_pydict() == {"a": ["7", "-3"]}


def test_numbers_are_written_as_a_float_reads_them_again() -> None:
    numbers = [0.1 + 0.2, 1e-7, 1e22, -0.0, 5.0]
    (cells,) = as_cells(pd.DataFrame({"n": numbers}), ["n"], {"n"}).columns
    assert [float(cell) for cell in cells.to_pylist()] == numbers


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"a": "x"}, {"b": "x"}], "row 1 has no column 'a'"),
        ([{"a": "x"}, "x"], "row 1 is 'x', not an object of columns"),
        (pd.DataFrame({"b": ["x"]}), "column 'a' is not among the rows' columns"),
        (pd.DataFrame([["x", "y"]], columns=["a", "a"]), "column 'a' is twice among"),
        (pd.DataFrame({"a": [1005, np.nan]}), "column 'a', row 0: 1005.0 is a number with"),
        ([{"a": True}], "column 'a', row 0: True is neither text nor a number"),
        ([{"a": ["x"]}], r"column 'a', row 0: \['x'\] is neither text nor a number"),
        ([{"a": b"x"}], "column 'a', row 0: b'x' is neither"),
        ([{"a": "x"}, {"a": decimal.Decimal(1)}], "column 'a', row 1: Decimal"),
        (pd.DataFrame({"a": pd.to_datetime(["2014-10-21"])}), "column 'a', row 0: .* is neither"),
    ],
)
def test_what_no_cell_can_hold_is_refused_by_its_place(rows: Any, said: str) -> None:
    with pytest.raises(RowError, match=said):
        as_cells(rows, ["a"], ())
