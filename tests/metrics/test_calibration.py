import numpy as np
import numpy.typing as npt
import pytest

from llm_ctr_pipeline.metrics.calibration import (
    BINS,
    calibration_table,
    expected_calibration_error,
)
from llm_ctr_pipeline.metrics.checks import InvalidPredictionsError

FloatArray = npt.NDArray[np.float64]


def _log(rows: int, seed: int = 3) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(1.2, 5, size=rows)
    return rng.random(rows) < probabilities, probabilities


def _error_by_hand(labels: npt.NDArray[np.bool_], probabilities: FloatArray) -> float:
    """Give each group of equal probabilities, whole, to the bin that holds the group's middle."""
    members: dict[int, list[int]] = {}
    below = 0
    for value in sorted(set(probabilities.tolist())):
        rows = np.flatnonzero(probabilities == value).tolist()
        middle = below + len(rows) / 2
        members.setdefault(int(middle * BINS / len(labels)), []).extend(rows)
        below += len(rows)
    gaps = [abs(sum(probabilities[rows]) - sum(labels[rows])) for rows in members.values()]
    return float(sum(gaps) / len(labels))


def test_without_ties_bins_are_equal_slices_of_the_sorted_rows() -> None:
    labels, probabilities = _log(1500)
    order = np.argsort(probabilities)
    slices = np.array_split(order, 15)
    expected = np.mean([abs(probabilities[s].mean() - labels[s].mean()) for s in slices])
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected)
    table = calibration_table(labels, probabilities)
    assert table["rows"].tolist() == [100] * 15
    assert table["clicks"].tolist() == [labels[s].sum() for s in slices]
    assert table["lowest_predicted"].tolist() == [probabilities[s].min() for s in slices]
    assert table["highest_predicted"].tolist() == [probabilities[s].max() for s in slices]


@pytest.mark.parametrize(("rows", "decimals"), [(997, 16), (997, 1), (500, 2)])
def test_equals_the_computation_by_hand(rows: int, decimals: int) -> None:
    labels, probabilities = _log(rows)
    probabilities = probabilities.round(decimals)
    expected = _error_by_hand(labels, probabilities)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected)


def test_ties_share_a_bin_whatever_the_order() -> None:
    labels, probabilities = _log(2000)
    probabilities = probabilities.round(1)
    table = calibration_table(labels, probabilities)
    assert (table["lowest_predicted"].iloc[1:].to_numpy() > table["highest_predicted"][:-1]).all()
    assert table["rows"].sum() == 2000
    assert len(table) < 15
    order = np.random.default_rng(0).permutation(2000)
    again = calibration_table(labels[order], probabilities[order])
    np.testing.assert_allclose(again.to_numpy(), table.to_numpy(), rtol=1e-12)


def test_one_probability_for_all_is_one_bin() -> None:
    table = calibration_table([0, 0, 0, 1], [0.4] * 4)
    assert table["rows"].tolist() == [4]
    assert expected_calibration_error([0, 0, 0, 1], [0.4] * 4) == pytest.approx(0.15)


def test_fewer_rows_than_bins() -> None:
    table = calibration_table([0, 1, 0], [0.1, 0.2, 0.3])
    assert table["rows"].tolist() == [1, 1, 1]


def test_wilson_interval() -> None:
    # worked by hand: 0 of 10 gives z² / (n + z²) with z = 1.96, 5 of 10 is symmetric about a half
    table = calibration_table([0] * 10 + [0, 1] * 5, [0.1] * 10 + [0.5] * 10)
    assert table["observed_low"][0] == 0
    assert table["observed_high"][0] == pytest.approx(3.8415 / 13.8415, abs=1e-4)
    assert table["observed_low"][1] + table["observed_high"][1] == pytest.approx(1)


def test_a_calibrated_model_scores_what_noise_alone_gives() -> None:
    labels, probabilities = _log(60_000)
    rate = probabilities.mean()
    noise = np.sqrt(2 / np.pi * rate * (1 - rate) * 15 / 60_000)
    assert 0.4 * noise < expected_calibration_error(labels, probabilities) < 1.6 * noise
    assert expected_calibration_error(labels, np.sqrt(probabilities)) > 0.1


def test_errors() -> None:
    with pytest.raises(InvalidPredictionsError, match="x4 test: there are no rows"):
        expected_calibration_error([], [], split="x4 test")
