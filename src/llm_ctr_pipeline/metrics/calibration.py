"""Calibration: does a predicted click probability of 0.2 mean two clicks in ten rows?

Shapes: N rows of a split, K bins in use.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest, rankdata

from llm_ctr_pipeline.metrics.checks import (
    BoolArray,
    FloatArray,
    SingleClassError,
    checked_predictions,
)

DEFAULT_BINS = 15


def calibration_table(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    bins: int = DEFAULT_BINS,
    level: float = 0.95,
    split: str = "the split",
) -> pd.DataFrame:
    """Compare predicted and observed click rates in bins of equally many rows.

    Click probabilities crowd near the click rate, so bins of equal width would put nearly every
    row into two or three of them; bins of equal mass (Nguyen & O'Connor 2015) do not. Rows with
    the same probability always share a bin, which makes the table independent of the order of
    the rows; with many ties some bins therefore grow, others stay empty and are left out.

    Args:
        labels: [N], 0 or 1.
        probabilities: [N], predicted click probabilities.
        bins: how many bins to aim at.
        level: confidence level of the interval around the observed rate.
        split: what error messages call these rows.

    Returns:
        K <= ``bins`` rows by ascending probability, with the columns ``mean_predicted``,
        ``observed_rate``, ``rows``, ``clicks``, ``observed_low`` and ``observed_high`` (Wilson
        1927), ``lowest_predicted`` and ``highest_predicted``. Rates lie in [0, 1].

    Raises:
        InvalidPredictionsError: See ``checked_predictions``.
        ValueError: ``bins`` is below 1 or ``level`` outside (0, 1).
    """
    labels_N, probabilities_N = checked_predictions(labels, probabilities, split)
    if bins < 1:
        raise ValueError(f"calibration needs at least 1 bin, not {bins}: {DEFAULT_BINS} is usual")
    if not 0 < level < 1:
        raise ValueError(f"the confidence level must lie between 0 and 1, not at {level}: try 0.95")
    table = _bin_rows(labels_N, probabilities_N, bins)
    intervals = [
        binomtest(int(clicks), int(rows)).proportion_ci(level, method="wilson")
        for clicks, rows in zip(table["clicks"], table["rows"], strict=True)
    ]
    table["observed_low"] = [float(interval.low) for interval in intervals]
    table["observed_high"] = [float(interval.high) for interval in intervals]
    return table[
        [
            "mean_predicted",
            "observed_rate",
            "rows",
            "clicks",
            "observed_low",
            "observed_high",
            "lowest_predicted",
            "highest_predicted",
        ]
    ]


def expected_calibration_error(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    bins: int = DEFAULT_BINS,
    split: str = "the split",
) -> float:
    """Average the distance between predicted and observed click rate over equal-mass bins.

    ECE = Σ_k rows_k / N · |mean predicted_k − observed rate_k| (Naeini et al. 2015, there with
    bins of equal width). Noise alone makes it positive: a perfectly calibrated model with the
    click rate c scores about sqrt(2 / π · c(1 − c) · bins / N). Compare it on the same rows.

    Args:
        labels: [N], 0 or 1.
        probabilities: [N], predicted click probabilities.
        bins: how many bins to aim at; see ``calibration_table``.
        split: what error messages call these rows.

    Returns:
        The error, a probability in [0, 1].

    Raises:
        InvalidPredictionsError: See ``checked_predictions``.
        ValueError: ``bins`` is below 1.
    """
    return error_of_table(calibration_table(labels, probabilities, bins=bins, split=split))


def error_of_table(table: pd.DataFrame) -> float:
    """Compute the expected calibration error from a table made by ``calibration_table``.

    Args:
        table: the bins.

    Returns:
        The error, a probability in [0, 1].
    """
    gap_K = (table["mean_predicted"] - table["observed_rate"]).abs().to_numpy()
    return float(np.average(gap_K, weights=table["rows"].to_numpy()))


def calibration_ratio(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, split: str = "the split"
) -> float:
    """Divide the predicted by the observed number of clicks; 1 is right, 1.1 is 10% too many.

    The normalised prediction average of He et al. 2014 ("Practical lessons from predicting
    clicks on ads at Facebook").

    Args:
        labels: [N], 0 or 1, at least one 1.
        probabilities: [N], predicted click probabilities.
        split: what error messages call these rows.

    Returns:
        The ratio, not negative.

    Raises:
        InvalidPredictionsError: See ``checked_predictions``.
        SingleClassError: There is no click to compare with.
    """
    labels_N, probabilities_N = checked_predictions(labels, probabilities, split)
    clicks = int(labels_N.sum())
    if clicks == 0:
        raise SingleClassError(
            f"{split}: none of the {labels_N.size:,} rows is a click (label 1), so there is no "
            "click rate to divide by: use more rows, or a split stratified by label"
        )
    return float(probabilities_N.sum() / clicks)


def _bin_rows(labels_N: BoolArray, probabilities_N: FloatArray, bins: int) -> pd.DataFrame:
    # equal probabilities have equal midranks, so no tie is ever cut in two
    quantile_N = (rankdata(probabilities_N) - 0.5) / probabilities_N.size
    rows = pd.DataFrame(
        {
            "bin": (quantile_N * bins).astype(np.int64),
            "label": labels_N.astype(np.int64),
            "probability": probabilities_N,
        }
    )
    return (
        rows.groupby("bin", sort=True)
        .agg(
            mean_predicted=("probability", "mean"),
            observed_rate=("label", "mean"),
            rows=("label", "size"),
            clicks=("label", "sum"),
            lowest_predicted=("probability", "min"),
            highest_predicted=("probability", "max"),
        )
        .reset_index(drop=True)
    )
