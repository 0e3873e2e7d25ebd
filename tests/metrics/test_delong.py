import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from llm_ctr_pipeline.metrics.checks import InvalidPredictionsError, SingleClassError
from llm_ctr_pipeline.metrics.delong import Estimate, difference_of, interval_of, place_rows

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


def _auc(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Estimate:
    return interval_of(place_rows(labels, probabilities))


def _paired(labels: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> Estimate:
    return difference_of(place_rows(labels, a), place_rows(labels, b))


@pytest.mark.parametrize("decimals", [16, 2, 1])
def test_one_model_equals_the_pairwise_definition(decimals: int) -> None:
    labels, a, _ = _two_models(np.random.default_rng(1), 400, decimals)
    interval = _auc(labels, a)
    variance = _covariance(labels, a, a)[0, 0]
    assert interval.value == pytest.approx(roc_auc_score(labels, a), abs=1e-12)
    assert interval.standard_error == pytest.approx(np.sqrt(variance), rel=1e-9)
    logit = np.log(interval.value / (1 - interval.value))
    reach = 1.959964 * np.sqrt(variance) / (interval.value * (1 - interval.value))
    assert interval.low == pytest.approx(1 / (1 + np.exp(reach - logit)), abs=1e-6)
    assert interval.high == pytest.approx(1 / (1 + np.exp(-reach - logit)), abs=1e-6)


@pytest.mark.parametrize("decimals", [16, 2, 1])
def test_two_models_equal_the_pairwise_definition(decimals: int) -> None:
    labels, a, b = _two_models(np.random.default_rng(2), 400, decimals)
    found = _paired(labels, a, b)
    covariance = _covariance(labels, a, b)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = roc_auc_score(labels, a) - roc_auc_score(labels, b)
    assert found.value == pytest.approx(difference, abs=1e-12)
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
        found = _paired(labels[rows], a[rows], b[rows])
        aucs.append((roc_auc_score(labels[rows], a[rows]), found.value))
    spread = np.std(aucs, axis=0, ddof=1)
    # 400 replicates know a standard deviation to 3.5%
    assert _auc(labels, a).standard_error == pytest.approx(spread[0], rel=0.12)
    assert _paired(labels, a, b).standard_error == pytest.approx(spread[1], rel=0.12)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    truth_a, truth_b = norm.cdf(1.0 / np.sqrt(2)), norm.cdf(0.7 / np.sqrt(2))
    covered = []
    for _ in range(600):
        labels, a, b = _two_models(rng, 200)
        interval = _auc(labels, a)
        pair = _paired(labels, a, b)
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
        p_values.append(_paired(labels, a, b).p_value)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.033)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_swapping_the_models_turns_the_sign() -> None:
    labels, a, b = _two_models(np.random.default_rng(6), 300)
    one, other = _paired(labels, a, b), _paired(labels, b, a)
    assert (other.value, other.low, other.high) == (-one.value, -one.high, -one.low)
    assert (other.z, other.p_value) == (-one.z, one.p_value)


def test_the_same_ranking_twice_is_no_difference() -> None:
    labels, a, _ = _two_models(np.random.default_rng(7), 300)
    found = _paired(labels, a, a / 2)
    assert (found.value, found.low, found.high, found.z, found.p_value) == (0, 0, 0, 0, 1)


@pytest.mark.parametrize("clicks_above", [True, False])
def test_perfect_separation_keeps_an_interval(clicks_above: bool) -> None:
    labels = np.arange(100) < 30
    probabilities = np.where(labels == clicks_above, 0.8, 0.1)
    interval = _auc(labels, probabilities)
    bound = 0.025 ** (1 / 30)
    ends = (bound, 1.0) if clicks_above else (0.0, 1 - bound)
    assert interval.value == float(clicks_above)
    assert (interval.low, interval.high) == pytest.approx(ends)


def test_one_row_of_a_class_says_nothing() -> None:
    interval = _auc([1, 0, 0, 0], [0.5, 0.1, 0.2, 0.9])
    assert interval.value == pytest.approx(2 / 3)
    assert (interval.low, interval.high, interval.standard_error) == (0.0, 1.0, 0.0)


def test_a_constant_model_is_a_coin_for_sure() -> None:
    interval = _auc([1, 0, 1, 0, 0, 1, 1], [0.17] * 7)
    assert (interval.value, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_the_interval_stays_within_0_and_1() -> None:
    labels = np.array([False] * 20 + [True] * 20)
    probabilities = np.linspace(0, 1, 40)
    probabilities[[19, 20]] = probabilities[[20, 19]]
    interval = _auc(labels, probabilities)
    assert 0.9 < interval.low < interval.value < interval.high < 1


def test_float16_ties_among_many_rows() -> None:
    rng = np.random.default_rng(9)
    labels, a, b = _two_models(rng, 200_000)
    halves = a.astype(np.float16), b.astype(np.float16)
    found = _paired(labels, *halves)
    for half in halves:
        auc = _auc(labels, half).value
        assert auc == pytest.approx(roc_auc_score(labels, half), abs=1e-12)
    assert found.p_value < 1e-12


def test_results_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _auc([1, 0], [0.5, 0.1]).value = 0.0  # type: ignore[misc]


def test_errors() -> None:
    with pytest.raises(SingleClassError, match="x4 test: all 2 rows have label 1"):
        place_rows([1, 1], [0.1, 0.2], split="x4 test")
    with pytest.raises(SingleClassError, match="x4 test: all 2 rows have label 0"):
        place_rows([0, 0], [0.1, 0.2], split="x4 test")
    with pytest.raises(InvalidPredictionsError, match="x4 test: 2 labels but 1 prob"):
        place_rows([0, 1], [0.1], split="x4 test")
    with pytest.raises(ValueError, match="1 clicks and 2 non-clicks, but the paired test needs"):
        _paired([0, 1, 0], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"AUCs 1 and 0\.5 differ by the same amount"):
        _paired([0, 1, 0, 1], [0.1, 0.9, 0.1, 0.9], [0.5] * 4)
