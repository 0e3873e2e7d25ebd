import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm, t

from llm_ctr_pipeline.metrics.checks import TooFewRowsError
from llm_ctr_pipeline.metrics.comparison import (
    Difference,
    MeasuredModel,
    differences_to_first,
    measure_model,
)
from llm_ctr_pipeline.metrics.delong import Estimate, Placements, difference_of, place_rows
from llm_ctr_pipeline.metrics.seeds import OverSeeds, with_seeds

FloatArray = npt.NDArray[np.float64]

A = OverSeeds((0.78, 0.80, 0.82), variance=5e-4, variance_of_mean=4e-4)
B = OverSeeds((0.76, 0.78), variance=6e-4, variance_of_mean=5.5e-4)
ONE = OverSeeds((0.77,), variance=6e-4, variance_of_mean=6e-4)
ROWS = Estimate(0.03, 0.0, 0.06, standard_error=math.sqrt(3e-4))


def drawn(
    rng: np.random.Generator, labels: npt.NDArray[np.bool_], shared_N: FloatArray, seeds: int
) -> list[FloatArray]:
    """Draw a model's trainings: a ranking of its own, each as sure as chance has it, and noise."""
    own_N = 0.3 * rng.normal(size=labels.size)
    return [
        norm.cdf(
            shared_N
            + own_N
            + 0.3 * rng.normal(size=labels.size)
            + (1 + 0.2 * rng.normal()) * labels
            - 1.0
        )
        for _ in range(seeds)
    ]


def measured(labels: npt.NDArray[np.bool_], trainings: list[FloatArray]) -> MeasuredModel:
    return measure_model(labels, trainings, [place_rows(labels, one) for one in trainings])


def compared(
    rng: np.random.Generator, seeds: tuple[int, int], rows: int = 200
) -> tuple[MeasuredModel, MeasuredModel, Difference]:
    """Two models trained alike, and how the second differs from the first."""
    labels = np.arange(rows) < 0.3 * rows
    shared_N = rng.normal(size=rows)
    first, other = (measured(labels, drawn(rng, labels, shared_N, each)) for each in seeds)
    (difference,) = differences_to_first([first, other], ["first", "other"])
    return first, other, difference


def test_a_case_by_hand() -> None:
    assert (A.std, A.freedom, ONE.std) == (pytest.approx(0.02), 2, None)
    assert A.by_seeds == pytest.approx(4e-4 / 3)
    assert B.by_seeds == pytest.approx(1e-4)
    assert (A.counted_twice, B.counted_twice) == (pytest.approx(5e-5), pytest.approx(5e-5))
    found = with_seeds(ROWS, A, B, split="x4 test")
    variance = (3e-4 - 5e-5 - 5e-5) + 4e-4 / 3 + 1e-4
    assert found.value == 0.03
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.degrees == pytest.approx(variance**2 / ((4e-4 / 3) ** 2 / 2 + 1e-4**2 / 1))
    assert found.degrees == pytest.approx(9.9412, abs=1e-4)
    reach = t.ppf(0.975, found.degrees) * found.standard_error
    assert (found.low, found.high) == (pytest.approx(0.03 - reach), pytest.approx(0.03 + reach))
    assert found.p_value == pytest.approx(2 * t.sf(found.z, found.degrees))


def test_a_single_training_is_taken_as_it_is() -> None:
    assert with_seeds(ROWS, ONE, ONE, split="x4 test") is ROWS
    found = with_seeds(ROWS, A, ONE, split="x4 test")
    assert found.standard_error == pytest.approx(math.sqrt(3e-4 - 5e-5 + 4e-4 / 3))
    assert found.degrees == pytest.approx(found.standard_error**4 / ((4e-4 / 3) ** 2 / 2))


def test_an_interval_ends_where_no_difference_can_be() -> None:
    found = with_seeds(ROWS, OverSeeds((0.1, 0.9), 0.0, 0.0), ONE, most=1.0, split="x4 test")
    assert (found.low, found.high) == (-1.0, 1.0)


def test_seeds_that_change_nothing_leave_the_rows_error() -> None:
    same = OverSeeds((0.8, 0.8), 4e-4, 4e-4)
    found = with_seeds(ROWS, same, ONE, split="x4 test")
    assert (found.standard_error, found.degrees) == (ROWS.standard_error, math.inf)
    assert found.p_value == ROWS.p_value
    nothing = Estimate(0.03, 0.03, 0.03, 0.0)
    with pytest.raises(TooFewRowsError, match="x4 test: neither seeds nor rows say how sure"):
        with_seeds(nothing, same, ONE, split="x4 test")


def test_two_trainings_of_four_rows_by_hand() -> None:
    labels = np.array([True, True, False, False])
    model = measured(labels, [np.array(p) for p in ([0.9, 0.4, 0.5, 0.1], [0.9, 0.8, 0.5, 0.1])])
    assert model.aucs.values == (0.75, 1.0)
    assert model.placements.below.tolist() == [2.0, 1.5]
    assert model.placements.above.tolist() == [1.5, 2.0]
    # (0.125 / 4 / 2) twice; of the trainings (0.5 / 4 / 2) twice, and 0
    assert (model.aucs.variance_of_mean, model.aucs.variance) == (0.03125, 0.0625)
    losses = -np.log([0.9, 0.4, 0.5, 0.9]), -np.log([0.9, 0.8, 0.5, 0.9])
    assert model.loglosses.values == pytest.approx([one.mean() for one in losses])
    assert model.losses_N == pytest.approx(sum(losses) / 2)


def test_the_errors_are_those_of_all_pairs_of_trainings() -> None:
    """Obuchowski's and Rockette's: the rows' share is the covariance of different trainings."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) < 90
    shared_N = rng.normal(size=300)
    trainings = [drawn(rng, labels, shared_N, seeds) for seeds in (2, 3)]
    placed = [[place_rows(labels, one) for one in model] for model in trainings]

    def covariance(a: Placements, b: Placements) -> float:
        parts = ((a.below, b.below, 210), (a.above, b.above, 90))
        return sum(np.cov(x, y)[0, 1] / other**2 / x.size for x, y, other in parts)

    def mean_of_pairs(first: list[Placements], second: list[Placements]) -> float:
        return float(np.mean([covariance(a, b) for a in first for b in second if a is not b]))

    first, other = placed
    common = mean_of_pairs(first, first) + mean_of_pairs(other, other)
    common -= 2 * mean_of_pairs(first, other)
    by_seeds = sum(np.var([p.mean for p in model], ddof=1) / len(model) for model in placed)
    models = [measured(labels, model) for model in trainings]
    rows = difference_of(models[1].placements, models[0].placements)
    found = with_seeds(rows, models[1].aucs, models[0].aucs, split="x4 test")
    assert found.standard_error == pytest.approx(math.sqrt(common + by_seeds))


@pytest.mark.parametrize("seeds", [(2, 2), (3, 4)])
def test_intervals_cover_no_difference_as_often_as_they_say(seeds: tuple[int, int]) -> None:
    """And squared errors are right on average: what rows do to one training counts once."""
    rng = np.random.default_rng(1)
    covered, by_rows, values, variances = [], [], [], []
    for _ in range(400):
        first, other, found = compared(rng, seeds)
        covered.append(
            (
                found.auc_low < 0 < found.auc_high,
                found.logloss_low < 0 < found.logloss_high,
                found.p_value > 0.05,
            )
        )
        rows = difference_of(other.placements, first.placements)
        by_rows.append(rows.low < 0 < rows.high)
        values.append(found.auc)
        variances.append((found.auc / found.z) ** 2)
    # 400 trials at 95%: the standard error is 1.1%; they know a variance to 7%
    assert np.mean(covered, axis=0) == pytest.approx([0.95, 0.95, 0.95], abs=0.033)
    assert np.mean(by_rows) < 0.85
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.2)
