"""How sure an AUC is, and whether one model's AUC differs from another's on the same rows.

DeLong, DeLong & Clarke-Pearson 1988 ("Comparing the areas under two or more correlated receiver
operating characteristic curves"), in the O(N log N) form of Sun & Xu 2014 ("Fast implementation
of DeLong's algorithm"): midranks in place of every pair of a click and a non-click.

Shapes: N rows of a split, of which P are clicks and Q are not.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from llm_ctr_pipeline.metrics.checks import (
    BoolArray,
    FloatArray,
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
class _Placements:
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

    def minus(self, other: "_Placements") -> "_Placements":
        """The components of a difference, which carry the covariance of the two with them."""
        return _Placements(self.below - other.below, self.above - other.above)


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
    quantile = _normal_quantile(level)
    labels_N, probabilities_N = checked_predictions(labels, probabilities, split)
    check_both_classes(labels_N, split)
    placements = _placements(labels_N, probabilities_N)
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
        ValueError: Fewer than two rows of a class, ``level`` outside (0, 1), or a difference
            without any spread (a perfect ranking against a constant one), which no test can judge.
    """
    quantile = _normal_quantile(level)
    labels_N, probabilities_a_N = checked_predictions(labels, probabilities_a, f"{split}, model A")
    _, probabilities_b_N = checked_predictions(labels, probabilities_b, f"{split}, model B")
    check_both_classes(labels_N, split)
    _check_enough_rows(labels_N, split)
    a = _placements(labels_N, probabilities_a_N)
    b = _placements(labels_N, probabilities_b_N)
    paired = a.minus(b)
    difference, error = paired.mean, paired.standard_error
    if error == 0 and difference != 0:
        raise ValueError(
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


def _placements(labels_N: BoolArray, probabilities_N: FloatArray) -> _Placements:
    """Place every row among those of the other class (Sun & Xu 2014, equations 12 to 14)."""
    # a row's midrank among all rows, less that among its own class, counts the other class below
    rank_N = rankdata(probabilities_N)
    below_P = rank_N[labels_N] - rankdata(probabilities_N[labels_N])
    below_Q = rank_N[~labels_N] - rankdata(probabilities_N[~labels_N])
    return _Placements(below=below_P, above=below_P.size - below_Q)


def _check_enough_rows(labels_N: BoolArray, split: str) -> None:
    clicks = int(labels_N.sum())
    others = labels_N.size - clicks
    if min(clicks, others) < _FEWEST_ROWS:
        raise ValueError(
            f"{split}: {clicks:,} clicks and {others:,} non-clicks, but the paired test needs at "
            f"least {_FEWEST_ROWS} of each: compare the models on more rows"
        )


def _normal_quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"the confidence level must lie between 0 and 1, not at {level}: try 0.95")
    return float(ndtri((1 + level) / 2))
