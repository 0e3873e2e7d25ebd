"""The checks that every metric makes of labels and predictions before it computes anything.

Shapes: N rows of a split.
"""

import numpy as np
import numpy.typing as npt

from llm_ctr_pipeline.data.errors import RefusedError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


class SingleClassError(RefusedError, ValueError):
    """A split holds clicks alone or no clicks at all, so that no ranking can be judged."""


class TooFewRowsError(RefusedError, ValueError):
    """Rows too few to say how far two models differ."""


class InvalidPredictionsError(RefusedError, ValueError):
    """Labels or probabilities are not what a metric can be computed from."""


def checked_predictions(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, split: str
) -> tuple[BoolArray, FloatArray]:
    """Give labels and probabilities in one form, or say what is wrong with them.

    Args:
        labels: [N], 0 (no click) or 1 (click), any numeric or boolean dtype.
        probabilities: [N], predicted click probabilities in [0, 1], any float dtype.
        split: What error messages call these rows, for example `x4 test`.

    Returns:
        Labels as bool [N] and probabilities as float64 [N].

    Raises:
        InvalidPredictionsError: Not one-dimensional, different lengths, no rows, labels other
            than 0 and 1, probabilities that are NaN, infinite or outside [0, 1].
    """
    labels_N = np.asarray(labels)
    probabilities_N = np.asarray(probabilities, dtype=np.float64)
    _check_shapes(labels_N.shape, probabilities_N.shape, split)
    # `==` is false for NaN and for anything that is not a number, so both count as wrong labels
    is_click_N = np.asarray(labels_N == 1, dtype=np.bool_)
    _reject(
        ~(is_click_N | np.asarray(labels_N == 0, dtype=np.bool_)),
        labels_N,
        f"{split}: {{}} labels are neither 0 nor 1",
        "pass the click column, as it was read from the log",
    )
    _reject(
        ~np.isfinite(probabilities_N),
        probabilities_N,
        f"{split}: {{}} probabilities are NaN or infinite",
        "the model diverged; look at its loss curve and lower the learning rate",
    )
    _reject(
        (probabilities_N < 0) | (probabilities_N > 1),
        probabilities_N,
        f"{split}: {{}} probabilities lie outside [0, 1]",
        "pass probabilities, not logits",
    )
    return is_click_N, probabilities_N


def check_both_classes(labels_N: BoolArray, split: str) -> None:
    """Raise if every row carries the same label.

    Args:
        labels_N: bool [N], as `checked_predictions` returns it.
        split: What the error message calls these rows.

    Raises:
        SingleClassError: There is no click, or nothing but clicks.
    """
    clicks = int(labels_N.sum())
    if 0 < clicks < labels_N.size:
        return
    present, absent = ("1 (click)", "0 (no click)") if clicks else ("0 (no click)", "1 (click)")
    raise SingleClassError(
        f"{split}: all {labels_N.size:,} rows have label {present} and none has {absent}, but this "
        "metric compares the two classes: use more rows, or a split stratified by label"
    )


def _check_shapes(labels: tuple[int, ...], probabilities: tuple[int, ...], split: str) -> None:
    if len(labels) != 1 or len(probabilities) != 1:
        raise InvalidPredictionsError(
            f"{split}: labels have shape {labels} and probabilities {probabilities}, but both must "
            "be one-dimensional: pass one number a row"
        )
    if labels != probabilities:
        raise InvalidPredictionsError(
            f"{split}: {labels[0]:,} labels but {probabilities[0]:,} probabilities: pass the "
            "labels of the rows that were predicted, in the same order"
        )
    if labels[0] == 0:
        raise InvalidPredictionsError(
            f"{split}: there are no rows: check the path and the filters of what was read"
        )


def _reject(wrong_N: BoolArray, values_N: npt.NDArray[np.generic], what: str, cure: str) -> None:
    if wrong_N.any():
        first = int(wrong_N.argmax())
        counted = what.format(f"{int(wrong_N.sum()):,} of {wrong_N.size:,}")
        raise InvalidPredictionsError(
            f"{counted}, the first at row {first:,} (counted from 0): {values_N[first]}: {cure}"
        )
