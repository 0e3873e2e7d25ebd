"""Checkpoints as MLflow models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.serving.scorer import Scorer
from llm_ctr_pipeline.tracking.logged_model import find_logged, log_checkpoint, weights_of
from llm_ctr_pipeline.training.checkpoint import save_checkpoint
from tests.records import summary_of
from tests.training.test_checkpoint import make_checkpoint

ROWS = [{"a": "1e5", "b": "x", "c": 7}, {"a": None, "b": "y", "c": "x"}]


@pytest.fixture
def folder(make_model: Callable[..., LlmCtr], tmp_path: Path) -> Path:
    folder = tmp_path / "single_phase" / "best_model"
    save_checkpoint(folder, make_checkpoint(make_model().eval()))
    return folder


@pytest.fixture
def model_id(store: Path, folder: Path) -> str:
    with mlflow.start_run() as run:
        mlflow.log_param("training.lr", 0.1)
        return log_checkpoint(folder, summary_of("x4"), run.info.run_id)


@pytest.fixture
def loaded(model_id: str) -> PyFuncModel:
    return mlflow.pyfunc.load_model(f"models:/{model_id}")


def test_a_logged_model_scores_as_the_checkpoint_does(loaded: PyFuncModel, folder: Path) -> None:
    scores = loaded.predict(pd.DataFrame(ROWS))
    np.testing.assert_array_equal(scores, Scorer.load(folder).predict(ROWS))


def test_a_model_says_what_it_is(model_id: str, folder: Path) -> None:
    (run,) = mlflow.search_runs(output_format="list")
    logged = mlflow.get_logged_model(model_id)
    assert (logged.name, logged.source_run_id) == ("single_phase", run.info.run_id)
    assert logged.params == {"training.lr": "0.1"}
    assert logged.tags["dataset"] == "x4"
    found = find_logged(weights_of(folder))
    assert found is not None
    assert found.model_id == model_id
    assert find_logged("another") is None


def test_a_model_holds_code_and_weights_and_no_pickle(model_id: str) -> None:
    place = Path(mlflow.artifacts.download_artifacts(f"models:/{model_id}"))
    names = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert "artifacts/best_model/model.safetensors" in names
    assert "code/llm_ctr_pipeline/serving/scorer.py" in names
    assert not [name for name in names if name.endswith((".pkl", ".pt", ".bin"))]
    requirements = (place / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in requirements)
    example = json.loads((place / "serving_input_example.json").read_text())
    assert example["dataframe_split"]["columns"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"a": "1", "b": "x"}], "c"),
        ([{"a": 1.5, "b": "x", "c": "x"}], "column 'a', row 0: 1.5 is a number with a fraction"),
    ],
)
def test_a_row_that_cannot_be_scored_is_the_callers_fault(
    loaded: PyFuncModel, rows: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(MlflowException, match=said) as raised:
        loaded.predict(pd.DataFrame(rows))
    assert raised.value.get_http_status_code() == 400
