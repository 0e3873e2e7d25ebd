import json

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from sklearn.metrics import log_loss, roc_auc_score

from llm_ctr_pipeline.metrics.calibration import expected_calibration_error
from llm_ctr_pipeline.metrics.checks import InvalidPredictionsError, SingleClassError
from llm_ctr_pipeline.metrics.classification import classification_metrics
from llm_ctr_pipeline.metrics.delong import interval_of, place_rows


def _log(rows: int, decimals: int = 16) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    rng = np.random.default_rng(7)
    probabilities = rng.beta(1.2, 5, size=rows)
    labels = (rng.random(rows) < probabilities).astype(np.int8)
    return labels, probabilities.round(decimals)


@pytest.mark.parametrize("decimals", [16, 1])
def test_equals_the_libraries(decimals: int) -> None:
    labels, probabilities = _log(5000, decimals)
    metrics = classification_metrics(labels, probabilities)
    interval = interval_of(place_rows(labels, probabilities))
    assert metrics.auc == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)
    assert (metrics.auc_low, metrics.auc_high) == (interval.low, interval.high)
    assert metrics.auc_low < metrics.auc < metrics.auc_high
    assert metrics.logloss == pytest.approx(log_loss(labels, probabilities), abs=1e-12)
    assert metrics.expected_calibration_error == expected_calibration_error(labels, probabilities)
    assert metrics.calibration_ratio == pytest.approx(probabilities.sum() / labels.sum())
    assert metrics.click_rate == pytest.approx(labels.mean())
    assert metrics.rows == 5000


def test_log_loss_by_hand() -> None:
    metrics = classification_metrics([1, 0], [0.8, 0.4])
    assert metrics.logloss == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)


def test_sure_and_wrong_costs_much_but_not_infinitely_much() -> None:
    metrics = classification_metrics([1, 0], np.array([0.0, 1.0], dtype=np.float32))
    assert 30 < metrics.logloss < 40
    assert (metrics.auc, metrics.auc_low, metrics.accuracy) == (0.0, 0.0, 0.0)


def test_accuracy_is_percent_and_half_is_no_click() -> None:
    assert classification_metrics([1, 0, 0, 1], [0.6, 0.5, 0.5, 0.4]).accuracy == 75.0


def test_the_calibration_ratio_is_predicted_over_observed() -> None:
    metrics = classification_metrics([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.9])
    assert metrics.calibration_ratio == pytest.approx(1.2)


def test_the_order_of_the_rows_does_not_matter() -> None:
    labels, probabilities = _log(999, decimals=2)
    shuffled = np.random.default_rng(0).permutation(999)
    metrics = classification_metrics(labels, probabilities).to_json()
    again = classification_metrics(labels[shuffled], probabilities[shuffled]).to_json()
    assert again == pytest.approx(metrics, rel=1e-12)


def test_goes_into_json_and_cannot_be_changed() -> None:
    metrics = classification_metrics(*_log(100))
    assert json.loads(json.dumps(metrics.to_json(), allow_nan=False))["rows"] == 100
    with pytest.raises(ValidationError):
        metrics.auc = 1.0  # type: ignore[misc]


def test_errors_name_the_split() -> None:
    with pytest.raises(SingleClassError, match=r"x4 test: all 3 rows have label 0 \(no click\)"):
        classification_metrics([0, 0, 0], [0.1, 0.2, 0.3], "x4 test")
    with pytest.raises(InvalidPredictionsError, match="x4 test: 1 of 2 probabilities are NaN"):
        classification_metrics([0, 1], [0.1, np.nan], "x4 test")
