import datetime
import json
from collections.abc import Callable

import pytest

from llm_ctr_pipeline.reporting.evaluation import Evaluation, now, share_of_best
from llm_ctr_pipeline.reporting.results import ScoredModel


def test_a_report_keeps_its_keys_in_their_order(
    make_scored: Callable[..., list[ScoredModel]],
) -> None:
    report = make_scored("single_phase")[0].report.evaluation
    assert [*report.to_json()] == [
        *("path", "model", "dataset", "split", "loss", "auc", "auc_low", "auc_high", "logloss"),
        *("accuracy", "expected_calibration_error", "calibration_ratio", "click_rate", "rows"),
        *("best_possible_auc", "share_of_best", "group_by", "gauc", "gauc_rows"),
        *("source", "data_fingerprint"),
        *("feature_map_fingerprint", "checkpoint", "predictions", "trained", "timestamp"),
        "serving_precision",
    ]
    assert Evaluation.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert report.title == "single_phase on x4 test"


def test_the_share_of_the_best_auc_is_counted_from_a_coins() -> None:
    assert share_of_best(0.65, 0.8) == pytest.approx(0.5)
    assert share_of_best(0.65, None) is None


def test_times_have_a_zone() -> None:
    assert datetime.datetime.fromisoformat(now()).tzinfo is not None
