import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llm_ctr_pipeline.data.storage.record_text import to_text
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.results import (
    NotComparableError,
    ScoredModel,
    find_path,
    report_of,
    scored,
)
from llm_ctr_pipeline.training.history import TrainingResults

TRAINING, EVALUATION = "training_results.json", "evaluation_x4_test.json"
PREDICTIONS = "x4_test_predictions.parquet"


@pytest.fixture
def model(make_scored: Callable[..., list[ScoredModel]]) -> ScoredModel:
    return make_scored("single_phase")[0]


@pytest.fixture
def folder(model: ScoredModel, tmp_path: Path) -> Path:
    """The results of a path."""
    path = tmp_path / "single_phase"
    path.mkdir()
    (path / TRAINING).write_text(to_text(model.report.training))
    (path / EVALUATION).write_text(to_text(model.report.evaluation))
    columns = {"label": model.labels_N, "probability": model.probabilities_N}
    pd.DataFrame(columns).to_parquet(path / PREDICTIONS)
    return path


def written(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def test_the_results_of_a_path_are_found_and_read(model: ScoredModel, folder: Path) -> None:
    found = find_path(folder, folder, "x4", "test")
    assert found is not None
    report, read_predictions = found
    assert report == model.report
    read = scored(report, read_predictions())
    assert (read.labels_N == model.labels_N).all()
    assert (read.probabilities_N == model.probabilities_N).all()
    assert read.probabilities_N.dtype == model.probabilities_N.dtype


@pytest.mark.parametrize("name", [TRAINING, EVALUATION, PREDICTIONS])
def test_results_that_are_not_complete_are_none(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert find_path(folder, folder, "x4", "test") is None


def test_a_report_without_predictions_is_refused(model: ScoredModel) -> None:
    with pytest.raises(NotComparableError, match="single_phase has a report but no x4_test_pred"):
        scored(model.report, None)


@pytest.mark.parametrize("key", ["rows_per_second", "parameters", "trained_parameters"])
def test_the_results_of_an_older_version_are_refused(model: ScoredModel, key: str) -> None:
    content = model.report.training.to_json()
    del content[key]
    with pytest.raises(
        NotComparableError,
        match=rf"single_phase: its training_results\.json is not as .* \(it lacks {key}\): train",
    ):
        report_of(written(content), TrainingResults, TRAINING, "single_phase")


def test_what_is_missing_of_a_stage_or_unknown_in_a_test_is_named(model: ScoredModel) -> None:
    content = model.report.training.to_json()
    del content["stages"][0]["trained_on"]
    with pytest.raises(NotComparableError, match=r"\(it lacks stages\.0\.trained_on\): train"):
        report_of(written(content), TrainingResults, TRAINING, "single_phase")
    content = {**model.report.evaluation.to_json(), "metric": 1}
    with pytest.raises(NotComparableError, match=r"\(it has metric besides\): evaluate it again"):
        report_of(written(content), Evaluation, EVALUATION, "single_phase")


@pytest.mark.parametrize("fault", ["other", "cut off", "without a column"])
def test_predictions_that_are_not_the_reports_are_refused(
    model: ScoredModel, folder: Path, fault: str
) -> None:
    file = folder / PREDICTIONS
    table = pd.read_parquet(file)
    if fault == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "other":
        table.assign(probability=table["probability"].to_numpy()[::-1]).to_parquet(file)
    else:
        table[["label"]].to_parquet(file)
    with pytest.raises(NotComparableError, match=r"its x4_test_pred.*parquet is .*: test it again"):
        scored(model.report, file.read_bytes())
