"""How sure an AUC is, and whether one model's differs from another's on the same rows.

DeLong, DeLong & Clarke-Pearson 1988 ("Comparing the areas under two or more correlated receiver
operating characteristic curves"), in the O(N log N) form of Sun & Xu 2014 ("Fast implementation
of DeLong's algorithm"): midranks in place of every pair of a click and a non-click. Of
several models each is ranked once: `place_rows`, then `interval_of` and `difference_of`.

Shapes: N rows of a split, of which P are clicks and Q are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr, ndtri, stdtr, stdtrit

from llm_ctr_pipeline.metrics.checks import (
    FloatArray,
    TooFewRowsError,
    check_both_classes,
    checked_predictions,
)

LEVEL = 0.95  # of all intervals
QUANTILE = float(ndtri((1 + LEVEL) / 2))  # standard errors to either side
FEWEST_ROWS = 2  # of either class: the spread of one number cannot be estimated


@dataclass(frozen=True)
class Estimate:
    """A number known from a sample: of rows, or of rows and of seeds.

    Attributes:
        value: The number.
        low: Lower end of its 95% interval.
        high: Upper end of its 95% interval.
        standard_error: Its standard error; 0 where the sample shows no spread.
        degrees: Degrees of freedom of that error; infinite where the sample is of rows alone.
    """

    value: float
    low: float
    high: float
    standard_error: float
    degrees: float = math.inf

    @property
    def z(self) -> float:
        """How many standard errors it lies from 0; 0 if it is 0 without any spread."""
        return self.value / self.standard_error if self.standard_error else 0.0

    @property
    def p_value(self) -> float:
        """The two-sided test's, of the true number being 0: the normal one, or Student's."""
        tail = -abs(self.z)
        return float(2 * (stdtr(self.degrees, tail) if self.degrees < math.inf else ndtr(tail)))


def quantile(degrees: float) -> float:
    """How many standard errors an interval reaches to either side."""
    return QUANTILE if degrees == math.inf else float(stdtrit(degrees, (1 + LEVEL) / 2))


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
    def variance(self) -> float:
        """The mean's variance (equation 5 of the 1988 paper); 0 below two rows a class."""
        clicks, others = self.below.size, self.above.size
        if min(clicks, others) < FEWEST_ROWS:
            return 0.0
        return float(
            self.below.var(ddof=1) / others**2 / clicks
            + self.above.var(ddof=1) / clicks**2 / others
        )

    @property
    def standard_error(self) -> float:
        """The mean's standard error."""
        return math.sqrt(self.variance)

    @classmethod
    def averaged(cls, several: Sequence["Placements"]) -> "Placements":
        """The means of several models' placements of the same rows; their mean is the mean AUC."""
        if len(several) == 1:
            return several[0]
        below = np.mean([one.below for one in several], axis=0)
        return cls(below, np.mean([one.above for one in several], axis=0))


def place_rows(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, split: str = "the split"
) -> Placements:
    """Place every row among those of the other class (Sun & Xu 2014, equations 12 to 14).

    Args:
        labels: [N], 0 or 1, both present.
        probabilities: [N], predicted click probabilities.
        split: What error messages call these rows.

    Returns:
        What `interval_of` and `difference_of` need of a model.

    Raises:
        InvalidPredictionsError: See `checked_predictions`.
        SingleClassError: Every row has the same label.
    """
    from scipy.stats import rankdata  # a second to import

    labels_N, probabilities_N = checked_predictions(labels, probabilities, split)
    check_both_classes(labels_N, split)
    # A row's midrank among all rows, less that among its own class, counts the other class below.
    rank_N = rankdata(probabilities_N)
    below_P = rank_N[labels_N] - rankdata(probabilities_N[labels_N])
    below_Q = rank_N[~labels_N] - rankdata(probabilities_N[~labels_N])
    return Placements(below=below_P, above=below_P.size - below_Q)


def interval_of(placements: Placements) -> Estimate:
    """Compute the AUC and its confidence interval by DeLong's method.

    The interval is symmetric on the logit scale, so that it never leaves [0, 1]. Where DeLong's
    variance says nothing, the interval is:

    - AUC exactly 1 (or 0): the variance is 0, yet a few rows prove little. k = min(P, Q) disjoint
      pairs, independent and all in the same order, have the exact (Clopper-Pearson) bound
      ((1 − level) / 2)^(1/k); the interval is [bound, 1] (or [0, 1 − bound]), if anything wide.
    - one click or one non-click alone, otherwise: [0, 1].
    - every probability the same: [0.5, 0.5], for any sample would give 0.5.

    Returns:
        The AUC, ties counted half, with interval and standard error.
    """
    auc, error = placements.mean, placements.standard_error
    fewest = min(placements.below.size, placements.above.size)
    if auc in (0.0, 1.0):
        bound = float(((1 - LEVEL) / 2) ** (1 / fewest))
        low, high = (bound, 1.0) if auc == 1.0 else (0.0, 1 - bound)
    elif fewest < FEWEST_ROWS:
        low, high = 0.0, 1.0
    else:
        # The delta method: d logit(a) / da = 1 / (a(1 − a)).
        reach = QUANTILE * error / (auc * (1 - auc))
        low, high = float(expit(logit(auc) - reach)), float(expit(logit(auc) + reach))
    # The way through the logit and back may cost a last digit.
    return Estimate(auc, min(low, auc), max(high, auc), error)


def difference_of(a: Placements, b: Placements, *, split: str = "the split") -> Estimate:
    """Compare two models' AUCs on the same rows by DeLong's paired test.

    Two models err on the same rows, so the difference is far surer than either AUC: intervals
    that overlap say nothing about it. The interval is the normal one, cut at −1 and 1.

    Args:
        a: Model A's, made by `place_rows`.
        b: Model B's, of the same labels in the same order.
        split: What error messages call these rows.

    Returns:
        The AUC of model A less that of model B.

    Raises:
        TooFewRowsError: Fewer than two rows of a class, or a difference without any spread (a
            perfect ranking against a constant one), which no test can judge.
    """
    clicks, others = a.below.size, a.above.size
    if min(clicks, others) < FEWEST_ROWS:
        raise TooFewRowsError(
            f"{split}: {clicks:,} clicks and {others:,} non-clicks, but the paired test needs at "
            f"least {FEWEST_ROWS} of each: compare the models on more rows"
        )
    # The components of a difference carry the covariance of the two with them.
    paired = Placements(a.below - b.below, a.above - b.above)
    difference, error = paired.mean, paired.standard_error
    if error == 0 and difference != 0:
        raise TooFewRowsError(
            f"{split}: the AUCs {a.mean:g} and {b.mean:g} differ by the same amount on every row, "
            "so the difference has no standard error: compare the models on more rows"
        )
    reach = QUANTILE * error
    return Estimate(difference, max(-1.0, difference - reach), min(1.0, difference + reach), error)
