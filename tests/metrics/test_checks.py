import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from llm_ctr_pipeline.metrics.checks import (
    InvalidPredictionsError,
    SingleClassError,
    check_both_classes,
    checked_predictions,
)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64, np.float32])
def test_any_label_dtype_gives_the_same(dtype: type) -> None:
    labels, probabilities = checked_predictions(
        np.array([0, 1, 1], dtype=dtype), np.array([0.0, 0.5, 1.0], dtype=np.float32), "test"
    )
    assert labels.dtype == np.bool_
    assert labels.tolist() == [False, True, True]
    assert probabilities.dtype == np.float64
    assert probabilities.tolist() == [0.0, 0.5, 1.0]


def test_series_are_taken_by_position() -> None:
    labels, _ = checked_predictions(pd.Series([0, 1], index=[1, 0]), pd.Series([0.1, 0.2]), "test")
    assert labels.tolist() == [False, True]


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], "x4 test: there are no rows"),
        ([0, 1, 1], [0.1, 0.2], "x4 test: 3 labels but 2 probabilities"),
        ([0, 1], [[0.1], [0.2]], r"labels have shape \(2,\) and probabilities \(2, 1\)"),
        ([0, 2, 1, -1], [0.1] * 4, r"2 of 4 labels are neither 0 nor 1, the first at row 1 .*: 2"),
        ([0.0, np.nan], [0.1] * 2, "1 of 2 labels are neither 0 nor 1, the first at row 1 .*: nan"),
        ([0, 1, 0], [0.1, np.nan, np.inf], r"2 of 3 prob.* are NaN or infinite.* at row 1 .*: nan"),
        ([0, 1, 0], [0.1, 0.2, -np.inf], "1 of 3 probabilities are NaN or infinite.* row 2"),
        ([0, 1, 0], [1.5, 0.2, -0.1], r"2 of 3 probabilities lie outside \[0, 1\].* at row 0 "),
    ],
)
def test_what_is_wrong_is_said(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, message: str
) -> None:
    with pytest.raises(InvalidPredictionsError, match=message):
        checked_predictions(labels, probabilities, "x4 test")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (False, r"x4 valid: all 1,200 rows have label 0 \(no click\) and none has 1 \(click\)"),
        (True, r"x4 valid: all 1,200 rows have label 1 \(click\) and none has 0 \(no click\)"),
    ],
)
def test_one_class_is_named(label: bool, message: str) -> None:
    with pytest.raises(SingleClassError, match=message):
        check_both_classes(np.full(1200, label), "x4 valid")


def test_both_classes_pass() -> None:
    check_both_classes(np.array([False, True]), "x4 valid")
