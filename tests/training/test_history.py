import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.training.history import TrainingResults


@pytest.fixture
def model(make_scored: Callable[..., list[ScoredModel]]) -> ScoredModel:
    return make_scored("deepfm")[0]


def test_results_keep_their_keys_in_their_order(model: ScoredModel) -> None:
    results = model.report.training
    content: dict[str, Any] = json.loads(json.dumps(results.to_json()))
    assert [*content] == [
        *("path", "dataset", "source", "seed", "stopped_early", "best", "seconds"),
        *("rows_per_second", "parameters", "trained_parameters", "stages", "epochs"),
    ]
    assert [*content["stages"][0]] == [
        *("stage", "dataset", "trained_on", "components", "trained_parameters"),
        *("stopped_early", "best", "seconds"),
    ]
    assert [*content["epochs"][0]] == ["stage", "dataset", *content["best"], "best"]
    assert TrainingResults.from_json(content) == results
    with pytest.raises(ValidationError, match="at least 1 item"):
        TrainingResults.from_json({**content, "epochs": []})


def test_a_checkpoint_is_known_to_be_of_its_training(model: ScoredModel) -> None:
    results, trained = model.report.training, model.report.evaluation.trained
    assert results.is_of(trained)
    best = trained.best.model_copy(update={"valid_auc": 0.71})
    for change in ({"seed": 1}, {"best": best}, {"path": "two_phase"}, {"dataset": "x1"}):
        assert not results.is_of(trained.model_copy(update=change))
