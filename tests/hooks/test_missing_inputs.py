from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Run

from llm_ctr_pipeline.hooks.preflight import PreflightError


@pytest.mark.parametrize(
    ("pipeline", "delete", "message"),
    [
        (
            "train",
            "data/04_feature",
            r"x4 feature map not found at .*/data/04_feature/x4/feature_map\.json: "
            r"run `kedro run --env test --pipeline=preprocess` first",
        ),
        (
            "evaluate",
            "data/05_model_input/x4/test.parquet",
            r"evaluated rows not found at .*/test\.parquet: "
            r"run `kedro run --env test --pipeline=preprocess` first",
        ),
        (
            "evaluate",
            "data/06_models",
            r"evaluated model not found at .*/data/06_models/single_phase/best_model: "
            r"run `kedro run --env test --pipeline=train` first",
        ),
        (
            "train_distilled",
            "data/06_models",
            r"distilled teacher model not found at .*/data/06_models/single_phase/best_model: "
            r"run `kedro run --env test --pipeline=train` first",
        ),
    ],
)
def test_a_missing_input_names_the_command_that_makes_it(
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
    pipeline: str,
    delete: str,
    message: str,
) -> None:
    path = trained_project / delete
    path.rename(trained_project / "elsewhere")
    with pytest.raises(PreflightError, match=message) as caught:
        run_here(trained_project, pipeline)
    assert "\n" not in caught.value.format_message()
    assert len(mlflow_runs(trained_project)) == 1


def test_a_missing_model_of_another_path_names_the_pipeline_that_trains_it(
    trained_project: Path, run_here: Callable[..., None]
) -> None:
    said = r"deepfm best model not found at .*: run `kedro run --env test --pipeline=train_deepfm`"
    run_here(trained_project, "preprocess_all")
    with pytest.raises(PreflightError, match=said):
        run_here(trained_project, "train_two_phase")


def test_a_dataset_that_no_pipeline_makes_is_not_promised(
    trained_project: Path, run_here: Callable[..., None]
) -> None:
    with pytest.raises(
        PreflightError, match=r"x9 evaluated rows not found at .*/x9/test\.parquet: no pipeline"
    ):
        run_here(trained_project, "evaluate", params={"evaluation": {"dataset": "x9"}})


@pytest.mark.parametrize("pipeline", ["__default__", "preprocess", "preprocess_all"])
def test_a_published_log_that_is_not_there_names_the_command_that_fetches_it(
    project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
    pipeline: str,
) -> None:
    said = r"data/01_raw/avazu_x4 not found: fetch it by `make data`, or set raw_dir$"
    with pytest.raises(PreflightError, match=said):
        run_here(project, pipeline, env="avazu")
    assert mlflow_runs(project) == []
