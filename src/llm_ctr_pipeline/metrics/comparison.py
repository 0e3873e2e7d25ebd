"""How several models' predictions of the same rows differ from those of one of them.

Shapes: N rows of a split.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.metrics.checks import FloatArray
from llm_ctr_pipeline.metrics.delong import QUANTILE, Estimate, Placements, difference_of
from llm_ctr_pipeline.metrics.seeds import OverSeeds, with_seeds


class Difference(Frozen):
    """A model's numbers less the baseline's on the same rows, with intervals of 95%.

    The errors are those by the rows, and by the seeds as well where a model was trained with
    several.

    Attributes:
        auc: Above 0, the model ranks the rows better.
        auc_low: Lower end of its interval.
        auc_high: Upper end of its interval.
        z: How many standard errors the AUCs' difference is.
        degrees_of_freedom: Of that error; None where it is by the rows alone, which are many.
        p_value: DeLong's, two-sided, of no difference in AUC; with seeds Student's of both errors.
        p_value_holm: The same, corrected for the number of models.
        logloss: In nats a row; below 0, the model's probabilities are better.
        logloss_low: Lower end of its interval.
        logloss_high: Upper end of its interval.
    """

    auc: float
    auc_low: float
    auc_high: float
    z: float
    degrees_of_freedom: float | None
    p_value: float
    p_value_holm: float
    logloss: float
    logloss_low: float
    logloss_high: float


@dataclass(frozen=True)
class MeasuredModel:
    """What a model's trainings, one or several with different seeds, reached on the same rows.

    Attributes:
        placements: Its ranking of the rows; the mean over the trainings.
        losses_N: float64 [N], the log loss of each row; the mean over the trainings.
        aucs: The trainings' AUCs.
        loglosses: Their log losses.
    """

    placements: Placements
    losses_N: FloatArray
    aucs: OverSeeds
    loglosses: OverSeeds


def measure_model(
    labels: npt.ArrayLike,
    probabilities: Sequence[npt.ArrayLike],
    placements: Sequence[Placements],
) -> MeasuredModel:
    """Put together what comparing a model takes.

    Args:
        labels: [N], 0 or 1.
        probabilities: Of each training [N], predicted click probabilities, as
            `checked_predictions` lets them pass.
        placements: Of each training its ranking, made of these by `place_rows`.
    """
    mean = Placements.averaged(placements)
    variances = [one.variance for one in placements]
    aucs = OverSeeds(
        tuple(one.mean for one in placements), float(np.mean(variances)), mean.variance
    )
    losses = [row_losses(labels, one) for one in probabilities]
    losses_N = losses[0] if len(losses) == 1 else np.mean(losses, axis=0)
    loglosses = OverSeeds(
        tuple(float(one_N.mean()) for one_N in losses),
        float(np.mean([_variance_of_mean(one_N) for one_N in losses])),
        _variance_of_mean(losses_N),
    )
    return MeasuredModel(mean, losses_N, aucs, loglosses)


def differences_to_first(models: Sequence[MeasuredModel], names: Sequence[str]) -> list[Difference]:
    """Compare models with the first of them.

    Args:
        models: All measured on the same rows, at least two of each class.
        names: What error messages call the models' rows.

    Returns:
        One difference for each of the other models, in their order.

    Raises:
        TooFewRowsError: See `difference_of` and `with_seeds`.
    """
    first, *others = models
    aucs = [
        with_seeds(
            difference_of(other.placements, first.placements, split=name),
            other.aucs,
            first.aucs,
            most=1.0,
            split=name,
        )
        for other, name in zip(others, names[1:], strict=True)
    ]
    loglosses = [
        with_seeds(
            logloss_difference(other.losses_N, first.losses_N),
            other.loglosses,
            first.loglosses,
            split=name,
        )
        for other, name in zip(others, names[1:], strict=True)
    ]
    corrected = holm([auc.p_value for auc in aucs])
    return [
        Difference(
            auc=auc.value,
            auc_low=auc.low,
            auc_high=auc.high,
            z=auc.z,
            degrees_of_freedom=auc.degrees if auc.degrees < math.inf else None,
            p_value=auc.p_value,
            p_value_holm=p_value_holm,
            logloss=logloss.value,
            logloss_low=logloss.low,
            logloss_high=logloss.high,
        )
        for auc, p_value_holm, logloss in zip(aucs, corrected, loglosses, strict=True)
    ]


def logloss_difference(a: FloatArray, b: FloatArray) -> Estimate:
    """Compare two models' log losses on the same rows.

    The log loss is a mean over rows, so the difference is the mean of the rows' differences, and
    their spread gives its standard error: with many rows the normal interval needs no bootstrap.

    Args:
        a: float64 [N], model A's losses, made by `row_losses`, of at least two rows.
        b: [N], model B's, in the same order of rows.

    Returns:
        The log loss of model A less that of model B, in nats a row.
    """
    difference_N = a - b
    difference = float(difference_N.mean())
    error = math.sqrt(_variance_of_mean(difference_N))
    reach = QUANTILE * error
    return Estimate(difference, difference - reach, difference + reach, error)


def row_losses(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> FloatArray:
    """Each row's log loss, clipped by the float64 epsilon as scikit-learn's `log_loss` does.

    Args:
        labels: [N], 0 or 1.
        probabilities: [N], predicted click probabilities.

    Returns:
        float64 [N], in nats.
    """
    probabilities_N = np.asarray(probabilities, dtype=np.float64)
    given_N = np.where(np.asarray(labels) == 1, probabilities_N, 1 - probabilities_N)
    epsilon = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(given_N, epsilon, 1 - epsilon)))


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


def _variance_of_mean(values_N: FloatArray) -> float:
    return float(values_N.var(ddof=1) / values_N.size)
