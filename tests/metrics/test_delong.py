import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from llm_ctr_pipeline.metrics.checks import InvalidPredictionsError, SingleClassError
from llm_ctr_pipeline.metrics.delong import (
    auc_interval,
    difference_of,
    holm,
    paired_auc_difference,
    paired_logloss_difference,
    place_rows,
)

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Models = tuple[BoolArray, FloatArray, FloatArray]


def _two_models(rng: np.random.Generator, rows: int, decimals: int = 16) -> Models:
    """Draw two correlated models of one log: normal scores, model A shifted by 1, B by 0.7."""
    labels = rng.random(rows) < 0.3
    shared = rng.normal(size=rows)
    a = norm.cdf(0.8 * shared + 0.6 * rng.normal(size=rows) + 1.0 * labels)
    b = norm.cdf(0.8 * shared + 0.6 * rng.normal(size=rows) + 0.7 * labels)
    return labels, a.round(decimals), b.round(decimals)


def _pairwise(labels: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """DeLong's V10 and V01 from their definition, over every pair of a click and a non-click."""
    clicks, others = scores[labels][:, None], scores[~labels][None, :]
    kernel = (clicks > others) + 0.5 * (clicks == others)
    return kernel.mean(axis=1), kernel.mean(axis=0)


def _covariance(labels: BoolArray, a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    a10, a01 = _pairwise(labels, a)
    b10, b01 = _pairwise(labels, b)
    covariance = np.cov(a10, b10) / a10.size + np.cov(a01, b01) / a01.size
    return np.asarray(covariance)


@pytest.mark.parametrize("decimals", [16, 2, 1])
def test_one_model_equals_the_pairwise_definition(decimals: int) -> None:
    labels, a, _ = _two_models(np.random.default_rng(1), 400, decimals)
    interval = auc_interval(labels, a)
    variance = _covariance(labels, a, a)[0, 0]
    assert interval.auc == pytest.approx(roc_auc_score(labels, a), abs=1e-12)
    assert interval.standard_error == pytest.approx(np.sqrt(variance), rel=1e-9)
    logit = np.log(interval.auc / (1 - interval.auc))
    reach = 1.959964 * np.sqrt(variance) / (interval.auc * (1 - interval.auc))
    assert interval.low == pytest.approx(1 / (1 + np.exp(reach - logit)), abs=1e-6)
    assert interval.high == pytest.approx(1 / (1 + np.exp(-reach - logit)), abs=1e-6)


@pytest.mark.parametrize("decimals", [16, 2, 1])
def test_two_models_equal_the_pairwise_definition(decimals: int) -> None:
    labels, a, b = _two_models(np.random.default_rng(2), 400, decimals)
    found = paired_auc_difference(labels, a, b)
    covariance = _covariance(labels, a, b)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = roc_auc_score(labels, a) - roc_auc_score(labels, b)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert found.auc_a - found.auc_b == pytest.approx(found.difference, abs=1e-12)
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.z == pytest.approx(difference / error, rel=1e-9)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(difference / error)), rel=1e-9)
    assert found.low == pytest.approx(difference - 1.959964 * error, abs=1e-7)
    assert found.high == pytest.approx(difference + 1.959964 * error, abs=1e-7)


def test_standard_errors_equal_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    labels, a, b = _two_models(rng, 1500)
    aucs = []
    for _ in range(400):
        rows = rng.integers(labels.size, size=labels.size)
        found = paired_auc_difference(labels[rows], a[rows], b[rows])
        aucs.append((found.auc_a, found.difference))
    spread = np.std(aucs, axis=0, ddof=1)
    # 400 replicates know a standard deviation to 3.5%
    assert auc_interval(labels, a).standard_error == pytest.approx(spread[0], rel=0.12)
    assert paired_auc_difference(labels, a, b).standard_error == pytest.approx(spread[1], rel=0.12)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    truth_a, truth_b = norm.cdf(1.0 / np.sqrt(2)), norm.cdf(0.7 / np.sqrt(2))
    covered = []
    for _ in range(600):
        labels, a, b = _two_models(rng, 200)
        interval = auc_interval(labels, a)
        pair = paired_auc_difference(labels, a, b)
        covered.append(
            (
                interval.low < truth_a < interval.high,
                pair.low < truth_a - truth_b < pair.high,
            )
        )
    # 600 trials at 95%: the standard error is 0.9%
    assert np.mean(covered, axis=0) == pytest.approx([0.95, 0.95], abs=0.025)


def test_equal_models_are_told_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(400):
        labels = rng.random(200) < 0.3
        a, b = norm.cdf(rng.normal(size=(2, 200)) + labels)
        p_values.append(paired_auc_difference(labels, a, b).p_value)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.033)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_swapping_the_models_turns_the_sign() -> None:
    labels, a, b = _two_models(np.random.default_rng(6), 300)
    one, other = paired_auc_difference(labels, a, b), paired_auc_difference(labels, b, a)
    assert (other.difference, other.low, other.high) == (-one.difference, -one.high, -one.low)
    assert (other.z, other.p_value) == (-one.z, one.p_value)


def test_the_same_ranking_twice_is_no_difference() -> None:
    labels, a, _ = _two_models(np.random.default_rng(7), 300)
    found = paired_auc_difference(labels, a, a / 2)
    assert (found.difference, found.low, found.high, found.z, found.p_value) == (0, 0, 0, 0, 1)


def test_a_higher_level_is_a_wider_interval() -> None:
    labels, a, b = _two_models(np.random.default_rng(8), 300)
    assert auc_interval(labels, a, 0.99).low < auc_interval(labels, a, 0.9).low
    wide, narrow = (paired_auc_difference(labels, a, b, level) for level in (0.99, 0.9))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("clicks_above", [True, False])
def test_perfect_separation_keeps_an_interval(clicks_above: bool) -> None:
    labels = np.arange(100) < 30
    probabilities = np.where(labels == clicks_above, 0.8, 0.1)
    interval = auc_interval(labels, probabilities)
    bound = 0.025 ** (1 / 30)
    ends = (bound, 1.0) if clicks_above else (0.0, 1 - bound)
    assert interval.auc == float(clicks_above)
    assert (interval.low, interval.high) == pytest.approx(ends)


def test_one_row_of_a_class_says_nothing() -> None:
    interval = auc_interval([1, 0, 0, 0], [0.5, 0.1, 0.2, 0.9])
    assert interval.auc == pytest.approx(2 / 3)
    assert (interval.low, interval.high, interval.standard_error) == (0.0, 1.0, 0.0)


def test_a_constant_model_is_a_coin_for_sure() -> None:
    interval = auc_interval([1, 0, 1, 0, 0, 1, 1], [0.17] * 7)
    assert (interval.auc, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_the_interval_stays_within_0_and_1() -> None:
    labels = np.array([False] * 20 + [True] * 20)
    probabilities = np.linspace(0, 1, 40)
    probabilities[[19, 20]] = probabilities[[20, 19]]
    interval = auc_interval(labels, probabilities)
    assert 0.9 < interval.low < interval.auc < interval.high < 1


def test_float16_ties_among_many_rows() -> None:
    rng = np.random.default_rng(9)
    labels, a, b = _two_models(rng, 200_000)
    halves = a.astype(np.float16), b.astype(np.float16)
    found = paired_auc_difference(labels, *halves)
    assert found.auc_a == pytest.approx(roc_auc_score(labels, halves[0]), abs=1e-12)
    assert found.auc_b == pytest.approx(roc_auc_score(labels, halves[1]), abs=1e-12)
    assert found.p_value < 1e-12


def test_results_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        auc_interval([1, 0], [0.5, 0.1]).auc = 0.0  # type: ignore[misc]


def test_errors() -> None:
    with pytest.raises(SingleClassError, match="x4 test: all 2 rows have label 1"):
        auc_interval([1, 1], [0.1, 0.2], split="x4 test")
    with pytest.raises(SingleClassError, match="x4 test, model A: all 2 rows have label 0"):
        paired_auc_difference([0, 0], [0.1, 0.2], [0.1, 0.2], split="x4 test")
    with pytest.raises(InvalidPredictionsError, match="x4 test, model B: 2 labels but 1 prob"):
        paired_auc_difference([0, 1], [0.1, 0.2], [0.1], split="x4 test")
    with pytest.raises(ValueError, match="1 clicks and 2 non-clicks, but the paired test needs"):
        paired_auc_difference([0, 1, 0], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"AUCs 1 and 0\.5 differ by the same amount"):
        paired_auc_difference([0, 1, 0, 1], [0.1, 0.9, 0.1, 0.9], [0.5] * 4)
    with pytest.raises(ValueError, match="between 0 and 1, not at 95"):
        auc_interval([0, 1], [0.1, 0.2], level=95)
    with pytest.raises(InvalidPredictionsError, match="x4 test, model B: 1 of 2 probabilities"):
        paired_logloss_difference([0, 1], [0.1, 0.2], [0.1, np.nan], split="x4 test")
    with pytest.raises(ValueError, match="x4 test: one row shows no spread"):
        paired_logloss_difference([1], [0.1], [0.2], split="x4 test")


def test_the_log_losss_difference_equals_scikit_learns_and_the_bootstrap() -> None:
    rng = np.random.default_rng(10)
    labels, a, b = _two_models(rng, 1500)
    found = paired_logloss_difference(labels, a, b)
    assert found.difference == pytest.approx(log_loss(labels, a) - log_loss(labels, b), abs=1e-12)
    differences = []
    for _ in range(400):
        rows = rng.integers(labels.size, size=labels.size)
        differences.append(log_loss(labels[rows], a[rows]) - log_loss(labels[rows], b[rows]))
    # 400 replicates know a standard deviation to 3.5%
    assert found.standard_error == pytest.approx(np.std(differences, ddof=1), rel=0.12)
    assert found.low == pytest.approx(found.difference - 1.959964 * found.standard_error)
    assert found.high == pytest.approx(found.difference + 1.959964 * found.standard_error)


def test_a_log_loss_of_sure_errors_is_finite() -> None:
    found = paired_logloss_difference([1, 0], [0.0, 0.5], [0.5, 0.5])
    expected = log_loss([1, 0], [0.0, 0.5]) - np.log(2)
    assert found.difference == pytest.approx(expected)
    same = paired_logloss_difference([1, 0], [0.0, 1.0], [0.0, 1.0])
    assert (same.difference, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        # worked by hand: .005·4, .01·3, .03·2, and .04·1 raised to the one before
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        # statsmodels 0.15.0, multipletests(p, method="holm")
        (
            [0.001, 0.012, 0.03, 0.03, 0.2, 0.6, 0.0004],
            [0.006, 0.06, 0.12, 0.12, 0.4, 0.6, 0.0028],
        ),
        ([0.7, 0.8], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holms_correction(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


def test_several_equal_models_are_told_apart_as_seldom_as_one() -> None:
    rng = np.random.default_rng(12)
    families = []
    for _ in range(400):
        labels = rng.random(200) < 0.3
        baseline, *others = (
            place_rows(labels, norm.cdf(scores)) for scores in rng.normal(size=(4, 200)) + labels
        )
        p_values = [difference_of(other, baseline).p_value for other in others]
        families.append((min(p_values) < 0.05, min(holm(p_values)) < 0.05))
    uncorrected, corrected = np.mean(families, axis=0)
    # 400 families at 5%: the standard error is 1.1%
    assert uncorrected > 0.08
    assert corrected < 0.08
