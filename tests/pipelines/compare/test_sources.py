"""Which models are found, and what the refusals of a comparison say of those that are not."""

import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from llm_ctr_pipeline.params import CompareParams
from llm_ctr_pipeline.pipelines.compare.sources import find_models
from llm_ctr_pipeline.reporting.results import NotComparableError, pipeline_of
from llm_ctr_pipeline.training.settings import PATHS
from tests.pipelines.compared import DEFAULTS


@pytest.mark.parametrize(
    ("made", "settings", "message"),
    [
        ((), {}, "for single_phase run `kedro run --pipeline=train`"),
        (("single_phase",), {}, "for deepfm run `kedro run --pipeline=train_deepfm`"),
        (
            ("single_phase", "two_phase"),
            {},
            "one of them deepfm, and some are missing: for deepfm run `kedro run "
            "--pipeline=train_deepfm`",
        ),
        (
            ("deepfm", "single_phase"),
            {"paths": "deepfm single_phase two_phase"},
            "are missing: for two_phase run `kedro run --pipeline=train_two_phase`",
        ),
        (
            ("deepfm", "single_phase"),
            {"split": "valid"},
            "for deepfm run `kedro run --pipeline=evaluate --params "
            "evaluation.path=deepfm,evaluation.dataset=x4,evaluation.split=valid`",
        ),
        (
            ("deepfm", "single_phase"),
            {"dataset": "x1"},
            "for deepfm run `kedro run --pipeline=evaluate --params "
            "evaluation.path=deepfm,evaluation.dataset=x1,evaluation.split=test`",
        ),
        (
            (),
            {"dataset": "x2"},
            "for single_phase run `kedro run --pipeline=train && kedro run --pipeline=evaluate "
            "--params evaluation.path=single_phase,evaluation.dataset=x2,evaluation.split=test`",
        ),
        (
            (),
            {"split": "valid"},
            "for deepfm run `kedro run --pipeline=train_deepfm && kedro run --pipeline=evaluate",
        ),
        (
            ("deepfm", "single_phase"),
            {"paths": "deepfm single_phase/int8"},
            "for single_phase/int8 run `kedro run --pipeline=evaluate --params evaluation.path="
            "single_phase,evaluation.dataset=x4,evaluation.split=test,"
            "evaluation.serving_precision=int8`",
        ),
        (
            ("deepfm",),
            {"paths": "deepfm single_phase/bf16"},
            "for single_phase/bf16 run `kedro run --pipeline=train && kedro run --pipeline=eval",
        ),
        (
            ("deepfm", "single_phase", "two_phase"),
            {"paths": "single_phase two_phase"},
            "compare.baseline is deepfm, which is none of those compared: choose one of "
            "single_phase, two_phase",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    results: Callable[..., Path], made: tuple[str, ...], settings: dict[str, Any], message: str
) -> None:
    data = results(*made) / "data"
    chosen = CompareParams(**DEFAULTS | settings)
    with pytest.raises(NotComparableError, match=re.escape(message)):
        find_models(data / "07_model_output", data / "08_reporting", chosen)


def test_missing_predictions_are_missing_results(results: Callable[..., Path]) -> None:
    data = results("deepfm", "single_phase") / "data"
    shutil.rmtree(data / "07_model_output/single_phase")
    with pytest.raises(
        NotComparableError,
        match=r"for single_phase run `kedro run --pipeline=evaluate --params evaluation\.path=sing",
    ):
        find_models(data / "07_model_output", data / "08_reporting", CompareParams(**DEFAULTS))


def test_other_seeds_are_those_of_what_training_tests(results: Callable[..., Path]) -> None:
    data = results("deepfm", "single_phase") / "data"
    for file in [*data.rglob("*x4_test*")]:
        shutil.copy(file, file.with_name(file.name.replace("test", "valid")))
    chosen = CompareParams(**DEFAULTS | {"split": "valid", "seeds": 2})
    with pytest.raises(NotComparableError, match="of the log's test split, not of x4 valid"):
        find_models(data / "07_model_output", data / "08_reporting", chosen)


def test_the_training_pipelines_of_the_paths_are_known() -> None:
    for path in PATHS:
        package = import_module(f"llm_ctr_pipeline.pipelines.{pipeline_of(path)}")
        assert {node.namespace for node in package.create_pipeline().nodes} == {path}
