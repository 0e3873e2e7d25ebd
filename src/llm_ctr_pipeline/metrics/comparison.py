"""How several models' predictions of the same rows differ from those of one of them.

Shapes: N rows of a split, M models.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.metrics.checks import FloatArray
from llm_ctr_pipeline.metrics.delong import QUANTILE, Estimate, Placements, difference_of


class Difference(Frozen):
    """A model's numbers less the baseline's on the same rows, with intervals of 95%.

    Attributes:
        auc: Above 0, the model ranks the rows better.
        auc_low: Lower end of its interval.
        auc_high: Upper end of its interval.
        z: How many standard errors the AUCs' difference is.
        p_value: DeLong's, two-sided, of no difference in AUC.
        p_value_holm: The same, corrected for the number of models.
        logloss: In nats a row; below 0, the model's probabilities are better.
        logloss_low: Lower end of its interval.
        logloss_high: Upper end of its interval.
    """

    auc: float
    auc_low: float
    auc_high: float
    z: float
    p_value: float
    p_value_holm: float
    logloss: float
    logloss_low: float
    logloss_high: float


def differences_to_first(
    labels_N: npt.ArrayLike,
    probabilities_MN: Sequence[npt.ArrayLike],
    placements_M: Sequence[Placements],
    names_M: Sequence[str],
) -> list[Difference]:
    """Compare models with the first of them.

    Args:
        labels_N: [N], 0 or 1, at least two rows of each.
        probabilities_MN: M times [N], predicted click probabilities.
        placements_M: The models' rankings, made of these by `place_rows`.
        names_M: What error messages call the models' rows.

    Returns:
        M - 1 differences, in the order of the other models.

    Raises:
        TooFewRowsError: See `difference_of`.
    """
    (first_N, *others_N), (first, *others) = probabilities_MN, placements_M
    aucs = [
        difference_of(other, first, split=name)
        for other, name in zip(others, names_M[1:], strict=True)
    ]
    corrected = holm([auc.p_value for auc in aucs])
    loglosses = [logloss_difference(labels_N, other_N, first_N) for other_N in others_N]
    return [
        Difference(
            auc=auc.value,
            auc_low=auc.low,
            auc_high=auc.high,
            z=auc.z,
            p_value=auc.p_value,
            p_value_holm=p_value_holm,
            logloss=logloss.value,
            logloss_low=logloss.low,
            logloss_high=logloss.high,
        )
        for auc, p_value_holm, logloss in zip(aucs, corrected, loglosses, strict=True)
    ]


def logloss_difference(labels: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> Estimate:
    """Compare two models' log losses on the same rows.

    The log loss is a mean over rows, so the difference is the mean of the rows' differences, and
    their spread gives its standard error: with many rows the normal interval needs no bootstrap.

    Args:
        labels: [N], 0 or 1, at least two rows.
        a: [N], model A's predicted click probabilities, as `checked_predictions` lets them pass,
            clipped by the float64 epsilon as scikit-learn's `log_loss` does.
        b: [N], model B's, in the same order of rows.

    Returns:
        The log loss of model A less that of model B, in nats a row.
    """
    difference_N = _row_losses(labels, a) - _row_losses(labels, b)
    difference = float(difference_N.mean())
    error = float(difference_N.std(ddof=1) / np.sqrt(difference_N.size))
    reach = QUANTILE * error
    return Estimate(difference, difference - reach, difference + reach, error)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979, "A simple sequentially rejective procedure").

    Calling each difference real whose corrected value is below 0.05 calls any that is not real so
    in at most 5 of 100 such families, however the tests depend on each other.

    Args:
        p_values: One for each test, in [0, 1].

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


def _row_losses(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> FloatArray:
    probabilities_N = np.asarray(probabilities, dtype=np.float64)
    given_N = np.where(np.asarray(labels) == 1, probabilities_N, 1 - probabilities_N)
    epsilon = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(given_N, epsilon, 1 - epsilon)))
