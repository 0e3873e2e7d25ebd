"""How far two models differ, each trained with several seeds and tested on the same rows.

Obuchowski & Rockette 1995 ("Hypothesis testing of diagnostic accuracy for multiple readers and
multiple tests", with a model's trainings as a test's readers and rows as cases), in the form of
Hillis 2014 ("A marginal-mean ANOVA approach for analyzing multireader multicase radiological
imaging data") for readers that each read one test alone. Both are stated here for a mean over rows
as well, such as the log loss: docs/decisions/0055-several-seeds.md derives it.
"""

import math
from dataclasses import dataclass

import numpy as np

from llm_ctr_pipeline.metrics.checks import TooFewRowsError
from llm_ctr_pipeline.metrics.delong import Estimate, quantile


@dataclass(frozen=True)
class OverSeeds:
    """One number of a model's S trainings with different seeds, on the same rows.

    Attributes:
        values: Each training's, S of them.
        variance: By the rows, of a single training's number; the mean over the trainings.
        variance_of_mean: By the rows, of the mean over the trainings.
    """

    values: tuple[float, ...]
    variance: float
    variance_of_mean: float

    @property
    def std(self) -> float | None:
        """The standard deviation over the trainings; None for a single one, which shows none."""
        return float(np.std(self.values, ddof=1)) if self.freedom else None

    @property
    def freedom(self) -> int:
        """The degrees of freedom of what the seeds show: S - 1."""
        return len(self.values) - 1

    @property
    def by_seeds(self) -> float:
        """The variance of the mean by the seeds, s² / S; 0 for a single one, which shows none.

        It is that of trainings on these rows, so it holds what a row does to one training alone.
        """
        return float(np.var(self.values, ddof=1)) / len(self.values) if self.freedom else 0.0

    @property
    def counted_twice(self) -> float:
        """What `variance_of_mean` and `by_seeds` both hold: what rows do to one training alone.

        What rows do to all trainings is the covariance C of two of them. Of S trainings with the
        variance V each the mean has the variance C + (V - C) / S, of which this is (V - C) / S.
        """
        return (self.variance - self.variance_of_mean) / self.freedom if self.freedom else 0.0


def with_seeds(
    rows: Estimate, a: OverSeeds, b: OverSeeds, *, most: float = math.inf, split: str
) -> Estimate:
    """Add what other seeds would change to the difference of two models' means over seeds.

    The variance is that of the rows common to all trainings, as their covariances estimate it, and
    that of either model's mean by its seeds. A model with a single training is taken as it is.

    Args:
        rows: The mean of A less that of B, with the standard error by the rows.
        a: Model A's trainings.
        b: Model B's.
        most: The difference cannot lie beyond -most and most.
        split: What error messages call the rows.

    Returns:
        The same difference with its error by both, Student's t in place of the normal
        distribution, and Welch's and Satterthwaite's degrees of freedom (the rows', as many as
        there are, count as infinite). `rows` itself where both have a single training.

    Raises:
        TooFewRowsError: A difference without any spread.
    """
    if not (a.freedom or b.freedom):
        return rows
    common = max(0.0, rows.standard_error**2 - a.counted_twice - b.counted_twice)
    variance = common + a.by_seeds + b.by_seeds
    if variance == 0 and rows.value != 0:
        raise TooFewRowsError(
            f"{split}: neither seeds nor rows say how sure a difference of {rows.value:g} is: "
            "compare the models on more rows"
        )
    uncertain = sum(one.by_seeds**2 / one.freedom for one in (a, b) if one.freedom)
    degrees = variance**2 / uncertain if uncertain else math.inf
    error = math.sqrt(variance)
    reach = quantile(degrees) * error
    low, high = max(-most, rows.value - reach), min(most, rows.value + reach)
    return Estimate(rows.value, low, high, error, degrees)
