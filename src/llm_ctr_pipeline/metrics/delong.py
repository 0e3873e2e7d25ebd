"""How sure an AUC is, and whether one model differs from another on the same rows.

DeLong, DeLong & Clarke-Pearson 1988 ("Comparing the areas under two or more correlated receiver
operating characteristic curves"), in the O(N log N) form of Sun & Xu 2014 ("Fast implementation
of DeLong's algorithm"): midranks in place of every pair of a click and a non-click. Of
several models each is ranked once: ``place_rows``, then ``interval_of`` and ``difference_of``.

Shapes: N rows of a split, of which P are clicks and Q are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from llm_ctr_pipeline.metrics.checks import (
    BoolArray,
    FloatArray,
    TooFewRowsError,
    check_both_classes,
    checked_predictions,
)

_FEWEST_ROWS = 2  # of either class: the spread of one number cannot be estimated


@dataclass(frozen=True)
class AucInterval:
    """An AUC with its confidence interval.

    Attributes:
        auc: area under the ROC curve, ties counted half.
        low: lower end of the interval, in [0, ``auc``].
        high: upper end of the interval, in [``auc``, 1].
        level: confidence level, 0.95 for 95%.
        standard_error: DeLong's, of the AUC; 0 where the sample shows no spread.
    """

    auc: float
    low: float
    high: float
    level: float
    standard_error: float


@dataclass(frozen=True)
class AucDifference:
    """The AUC of model A less that of model B on the same rows.

    Attributes:
        auc_a: AUC of model A.
        auc_b: AUC of model B.
        difference: ``auc_a - auc_b``.
        low: lower end of the difference's interval.
        high: upper end of the difference's interval.
        level: confidence level, 0.95 for 95%.
        standard_error: DeLong's, of the difference.
        z: ``difference / standard_error``; 0 if both models rank the rows alike.
        p_value: two-sided, of no difference.
    """

    auc_a: float
    auc_b: float
    difference: float
    low: float
    high: float
    level: float
    standard_error: float
    z: float
    p_value: float


@dataclass(frozen=True)
class LoglossDifference:
    """The log loss of model A less that of model B on the same rows; below 0, A is better.

    Attributes:
        difference: mean over the rows, in nats a row.
        low: lower end of the difference's interval.
        high: upper end of the difference's interval.
        level: confidence level, 0.95 for 95%.
        standard_error: of the mean of the rows' differences.
    """

    difference: float
    low: float
    high: float
    level: float
    standard_error: float


@dataclass(frozen=True)
class Placements:
    """DeLong's structural components V10 and V01, not yet divided by Q and P.

    Whole and half numbers below 2**52 are exact in float64 and so are their sums: an AUC of 1 is
    exactly 1, and components that do not vary have a variance of exactly 0.

    Attributes:
        below: float64 [P], for each click the non-clicks ranked below it, ties half.
        above: float64 [Q], for each non-click the clicks ranked above it, ties half.
    """

    below: FloatArray
    above: FloatArray

    @property
    def mean(self) -> float:
        """The mean over all pairs: for a ranking its AUC."""
        return float(self.below.sum() / (self.below.size * self.above.size))

    @property
    def standard_error(self) -> float:
        """The mean's standard error (equation 5 of the 1988 paper); 0 below two rows a class."""
        clicks, others = self.below.size, self.above.size
        if min(clicks, others) < _FEWEST_ROWS:
            return 0.0
        variance = (
            self.below.var(ddof=1) / others**2 / clicks
            + self.above.var(ddof=1) / clicks**2 / others
        )
        return float(np.sqrt(variance))

    def minus(self, other: "Placements") -> "Placements":
        """The components of a difference, which carry the covariance of the two with them."""
        return Placements(self.below - other.below, self.above - other.above)


def auc_interval(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    level: float = 0.95,
    *,
    split: str = "the split",
) -> AucInterval:
    """Compute the AUC and its confidence interval by DeLong's method.

    The interval is symmetric on the logit scale, so that it never leaves [0, 1]. Where DeLong's
    variance says nothing, the interval is:

    - AUC exactly 1 (or 0): the variance is 0, yet a few rows prove little. k = min(P, Q) disjoint
      pairs, independent and all in the same order, have the exact (Clopper-Pearson) bound
      ((1 − level) / 2)^(1/k); the interval is [bound, 1] (or [0, 1 − bound]), if anything wide.
    - one click or one non-click alone, otherwise: [0, 1].
    - every probability the same: [0.5, 0.5], for any sample would give 0.5.

    Args:
        labels: [N], 0 or 1, both present.
        probabilities: [N], predicted click probabilities.
        level: confidence level.
        split: what error messages call these rows.

    Returns:
        AUC, interval and standard error.

    Raises:
        InvalidPredictionsError: See ``checked_predictions``.
        SingleClassError: Every row has the same label.
        ValueError: ``level`` is outside (0, 1).
    """
    return interval_of(place_rows(labels, probabilities, split=split), level)


def interval_of(placements: Placements, level: float = 0.95) -> AucInterval:
    """Compute what ``auc_interval`` does, from a ranking made before.

    Args:
        placements: a model's, made by ``place_rows``.
        level: confidence level.

    Returns:
        AUC, interval and standard error.

    Raises:
        ValueError: ``level`` is outside (0, 1).
    """
    quantile = _normal_quantile(level)
    auc, error = placements.mean, placements.standard_error
    fewest = min(placements.below.size, placements.above.size)
    if auc in (0.0, 1.0):
        bound = float(((1 - level) / 2) ** (1 / fewest))
        low, high = (bound, 1.0) if auc == 1.0 else (0.0, 1 - bound)
    elif fewest < _FEWEST_ROWS:
        low, high = 0.0, 1.0
    else:
        # the delta method: d logit(a) / da = 1 / (a(1 − a))
        reach = quantile * error / (auc * (1 - auc))
        low, high = float(expit(logit(auc) - reach)), float(expit(logit(auc) + reach))
    # the way through the logit and back may cost a last digit
    return AucInterval(auc, min(low, auc), max(high, auc), level, error)


def paired_auc_difference(
    labels: npt.ArrayLike,
    probabilities_a: npt.ArrayLike,
    probabilities_b: npt.ArrayLike,
    level: float = 0.95,
    *,
    split: str = "the split",
) -> AucDifference:
    """Compare two models' AUCs on the same rows by DeLong's paired test.

    Two models err on the same rows, so the difference is far surer than either AUC: intervals
    that overlap say nothing about it. The interval is the normal one, cut at −1 and 1.

    Args:
        labels: [N], 0 or 1, at least two rows of each.
        probabilities_a: [N], model A's predicted click probabilities.
        probabilities_b: [N], model B's, in the same order of rows.
        level: confidence level.
        split: what error messages call these rows.

    Returns:
        The difference with interval, z and two-sided p-value.

    Raises:
        InvalidPredictionsError: See ``checked_predictions``; the message says whose.
        SingleClassError: Every row has the same label.
        ValueError: ``level`` is outside (0, 1).
        TooFewRowsError: Fewer than two rows of a class, or a difference
            without any spread (a perfect ranking against a constant one), which no test can judge.
    """
    a = place_rows(labels, probabilities_a, split=f"{split}, model A")
    b = place_rows(labels, probabilities_b, split=f"{split}, model B")
    return difference_of(a, b, level, split=split)


def difference_of(
    a: Placements, b: Placements, level: float = 0.95, *, split: str = "the split"
) -> AucDifference:
    """Compute what ``paired_auc_difference`` does, from rankings made before.

    Args:
        a: model A's, made by ``place_rows``.
        b: model B's, of the same labels in the same order.
        level: confidence level.
        split: what error messages call these rows.

    Returns:
        The difference with interval, z and two-sided p-value.

    Raises:
        ValueError, TooFewRowsError: See ``paired_auc_difference``.
    """
    quantile = _normal_quantile(level)
    _check_enough_rows(a, split)
    paired = a.minus(b)
    difference, error = paired.mean, paired.standard_error
    if error == 0 and difference != 0:
        raise TooFewRowsError(
            f"{split}: the AUCs {a.mean:g} and {b.mean:g} differ by the same amount on every row, "
            "so the difference has no standard error: compare the models on more rows"
        )
    z = difference / error if error else 0.0
    return AucDifference(
        auc_a=a.mean,
        auc_b=b.mean,
        difference=difference,
        low=max(-1.0, difference - quantile * error),
        high=min(1.0, difference + quantile * error),
        level=level,
        standard_error=error,
        z=z,
        p_value=float(2 * ndtr(-abs(z))),
    )


def place_rows(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, split: str = "the split"
) -> Placements:
    """Place every row among those of the other class (Sun & Xu 2014, equations 12 to 14).

    Args:
        labels: [N], 0 or 1, both present.
        probabilities: [N], predicted click probabilities.
        split: what error messages call these rows.

    Returns:
        What ``interval_of`` and ``difference_of`` need of a model.

    Raises:
        InvalidPredictionsError: See ``checked_predictions``.
        SingleClassError: Every row has the same label.
    """
    labels_N, probabilities_N = checked_predictions(labels, probabilities, split)
    check_both_classes(labels_N, split)
    # a row's midrank among all rows, less that among its own class, counts the other class below
    rank_N = rankdata(probabilities_N)
    below_P = rank_N[labels_N] - rankdata(probabilities_N[labels_N])
    below_Q = rank_N[~labels_N] - rankdata(probabilities_N[~labels_N])
    return Placements(below=below_P, above=below_P.size - below_Q)


def paired_logloss_difference(
    labels: npt.ArrayLike,
    probabilities_a: npt.ArrayLike,
    probabilities_b: npt.ArrayLike,
    level: float = 0.95,
    *,
    split: str = "the split",
) -> LoglossDifference:
    """Compare two models' log losses on the same rows.

    The log loss is a mean over rows, so the difference is the mean of the rows' differences, and
    their spread gives its standard error: with many rows the normal interval needs no bootstrap.

    Args:
        labels: [N], 0 or 1, at least two rows.
        probabilities_a: [N], model A's predicted click probabilities, clipped by the float64
            epsilon as scikit-learn's ``log_loss`` does.
        probabilities_b: [N], model B's, in the same order of rows.
        level: confidence level.
        split: what error messages call these rows.

    Returns:
        The difference with its interval.

    Raises:
        InvalidPredictionsError: See ``checked_predictions``; the message says whose.
        TooFewRowsError: A single row.
        ValueError: ``level`` is outside (0, 1).
    """
    quantile = _normal_quantile(level)
    labels_N, a_N = checked_predictions(labels, probabilities_a, f"{split}, model A")
    _, b_N = checked_predictions(labels, probabilities_b, f"{split}, model B")
    if labels_N.size < _FEWEST_ROWS:
        raise TooFewRowsError(f"{split}: one row shows no spread: compare the models on more rows")
    difference_N = _row_losses(labels_N, a_N) - _row_losses(labels_N, b_N)
    difference = float(difference_N.mean())
    error = float(difference_N.std(ddof=1) / np.sqrt(difference_N.size))
    reach = quantile * error
    return LoglossDifference(difference, difference - reach, difference + reach, level, error)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979, "A simple sequentially rejective procedure").

    Calling each difference real whose corrected value is below 0.05 calls any that is not real so
    in at most 5 of 100 such families, however the tests depend on each other.

    Args:
        p_values: one for each test, in [0, 1].

    Returns:
        The corrected values, in the same order: the k-th smallest of m is multiplied by m - k + 1,
        at least the one before it, at most 1.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for tests_before, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, (len(p_values) - tests_before) * p_values[index])
        corrected[index] = min(1.0, largest)
    return corrected


def _row_losses(labels_N: BoolArray, probabilities_N: FloatArray) -> FloatArray:
    given_N = np.where(labels_N, probabilities_N, 1 - probabilities_N)
    epsilon = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(given_N, epsilon, 1 - epsilon)))


def _check_enough_rows(placements: Placements, split: str) -> None:
    clicks, others = placements.below.size, placements.above.size
    if min(clicks, others) < _FEWEST_ROWS:
        raise TooFewRowsError(
            f"{split}: {clicks:,} clicks and {others:,} non-clicks, but the paired test needs at "
            f"least {_FEWEST_ROWS} of each: compare the models on more rows"
        )


def _normal_quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"the confidence level must lie between 0 and 1, not at {level}: try 0.95")
    return float(ndtri((1 + level) / 2))
