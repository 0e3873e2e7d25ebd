import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.results import (
    NotComparableError,
    PathFiles,
    ScoredModel,
    read_predictions,
    read_report,
)
from llm_ctr_pipeline.training.history import TrainingResults

TRAINING, EVALUATION = "training_results.json", "evaluation_x4_test.json"


@pytest.fixture
def model(make_scored: Callable[..., list[ScoredModel]]) -> ScoredModel:
    return make_scored("single_phase")[0]


@pytest.fixture
def files(tmp_path: Path) -> PathFiles:
    return PathFiles(tmp_path, tmp_path)


def write(files: PathFiles, name: str, content: dict[str, Any]) -> None:
    (files.reports / name).write_text(json.dumps(content))


def test_reports_and_predictions_are_read(model: ScoredModel, files: PathFiles) -> None:
    report = model.report
    assert not files.has(TRAINING)
    write(files, TRAINING, report.training.to_json())
    write(files, EVALUATION, report.evaluation.to_json())
    assert read_report(files, "a", TrainingResults, TRAINING) == report.training
    assert read_report(files, "a", Evaluation, EVALUATION) == report.evaluation
    with pytest.raises(NotComparableError, match="single_phase has a report but no x4_test_pred"):
        read_predictions(files, report)
    columns = {"label": model.labels_N, "probability": model.probabilities_N}
    pd.DataFrame(columns).to_parquet(files.outputs / "x4_test_predictions.parquet")
    read = read_predictions(files, report)
    assert (read.labels_N == model.labels_N).all()
    assert (read.probabilities_N == model.probabilities_N).all()
    assert read.probabilities_N.dtype == model.probabilities_N.dtype


@pytest.mark.parametrize("key", ["rows_per_second", "parameters", "trained_parameters"])
def test_the_results_of_an_older_version_are_refused(
    model: ScoredModel, files: PathFiles, key: str
) -> None:
    content = model.report.training.to_json()
    del content[key]
    write(files, TRAINING, content)
    with pytest.raises(
        NotComparableError, match=f"single_phase was trained with an older version .*no {key}; "
    ):
        read_report(files, "single_phase", TrainingResults, TRAINING)


def test_what_is_missing_of_a_stage_or_a_test_is_named(
    model: ScoredModel, files: PathFiles
) -> None:
    content = model.report.training.to_json()
    del content["stages"][0]["trained_on"]
    write(files, TRAINING, content)
    with pytest.raises(NotComparableError, match="has no trained_on; train it again"):
        read_report(files, "single_phase", TrainingResults, TRAINING)
    write(files, EVALUATION, {**model.report.evaluation.to_json(), "metric": 1})
    with pytest.raises(NotComparableError, match=r"was tested with .* other content .*; evaluate"):
        read_report(files, "single_phase", Evaluation, EVALUATION)
