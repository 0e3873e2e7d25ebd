"""Calibration: does a predicted click probability of 0.2 mean two clicks in ten rows?

Shapes: N rows of a split, K bins in use.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from llm_ctr_pipeline.metrics.checks import FloatArray, checked_predictions
from llm_ctr_pipeline.metrics.delong import LEVEL

BINS = 15  # to aim at


def calibration_table(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, split: str = "the split"
) -> pd.DataFrame:
    """Compare predicted and observed click rates in bins of equally many rows.

    Click probabilities crowd near the click rate, so bins of equal width would put nearly every
    row into two or three of them; bins of equal mass (Nguyen & O'Connor 2015) do not. Rows with
    the same probability always share a bin, which makes the table independent of the order of
    the rows; with many ties some bins therefore grow, others stay empty and are left out.

    Args:
        labels: [N], 0 or 1.
        probabilities: [N], predicted click probabilities.
        split: What error messages call these rows.

    Returns:
        K <= `BINS` rows by ascending probability, with the columns `mean_predicted`,
        `observed_rate`, `rows`, `clicks`, `lowest_predicted`, `highest_predicted`, and
        `observed_low` and `observed_high`, the observed rate's 95% interval (Wilson 1927). Rates
        lie in [0, 1].

    Raises:
        InvalidPredictionsError: See `checked_predictions`.
    """
    from scipy.stats import rankdata  # a second to import

    labels_N, probabilities_N = checked_predictions(labels, probabilities, split)
    # Equal probabilities have equal midranks, so no tie is ever cut in two.
    quantile_N = (rankdata(probabilities_N) - 0.5) / probabilities_N.size
    rows = pd.DataFrame(
        {
            "bin": (quantile_N * BINS).astype(np.int64),
            "label": labels_N.astype(np.int64),
            "probability": probabilities_N,
        }
    )
    table = (
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
    table["observed_low"], table["observed_high"] = rate_intervals(table["clicks"], table["rows"])
    return table


def rate_intervals(clicks: npt.ArrayLike, rows: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Compute the 95% intervals of observed click rates (Wilson 1927).

    Args:
        clicks: [K], of each group of rows.
        rows: [K], at least one.

    Returns:
        Lower and upper ends, float64 [K], in [0, 1].
    """
    from scipy.stats import binomtest  # a second to import

    groups = zip(np.asarray(clicks), np.asarray(rows), strict=True)
    intervals = [binomtest(int(k), int(n)).proportion_ci(LEVEL, method="wilson") for k, n in groups]
    return np.array([each.low for each in intervals]), np.array([each.high for each in intervals])


def expected_calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, split: str = "the split"
) -> float:
    """Average the distance between predicted and observed click rate over equal-mass bins.

    ECE = Σ_k rows_k / N · |mean predicted_k − observed rate_k| (Naeini et al. 2015, there with
    bins of equal width). Noise alone makes it positive: a perfectly calibrated model with the
    click rate c scores about sqrt(2 / π · c(1 − c) · bins / N). Compare it on the same rows.

    Returns:
        The error, a probability in [0, 1], of what `calibration_table` makes of the arguments.
    """
    table = calibration_table(labels, probabilities, split=split)
    gap_K = (table["mean_predicted"] - table["observed_rate"]).abs()
    return float(np.average(gap_K, weights=table["rows"]))
