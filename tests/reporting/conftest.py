"""What the tests of figures share."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import pytest

from llm_ctr_pipeline.metrics.classification import classification_metrics
from llm_ctr_pipeline.reporting.auc_against_time import auc_against_time
from llm_ctr_pipeline.reporting.calibration_figures import calibration_comparison
from llm_ctr_pipeline.reporting.comparison import compare_models
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.reporting.roc_figures import roc_comparison
from tests.records import retrained


@pytest.fixture
def log() -> Callable[[int], tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]]:
    """Draw clicks, and probabilities that know them but for some noise."""

    def draw(rows: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
        rng = np.random.default_rng(11)
        truth = rng.beta(1.2, 5, size=rows)
        noisy = np.clip(truth + 0.1 * rng.normal(size=rows), 0.001, 0.999)
        return (rng.random(rows) < truth).astype(np.int8), noisy

    return draw


@pytest.fixture
def tested(
    make_scored: Callable[..., list[ScoredModel]],
) -> Callable[..., tuple[pd.DataFrame, Evaluation]]:
    """Give predictions as the evaluate pipeline keeps them, with their report."""

    def make(
        labels: npt.ArrayLike, probabilities: npt.ArrayLike, best: float | None = None
    ) -> tuple[pd.DataFrame, Evaluation]:
        (model,) = make_scored("single_phase", best_possible=best)
        metrics = classification_metrics(labels, probabilities).model_dump()
        report = model.report.evaluation.model_copy(update=metrics)
        return pd.DataFrame({"label": labels, "probability": probabilities}), report

    return make


@pytest.fixture
def strict_json() -> Callable[[go.Figure], str]:
    """Write a figure as any viewer could read it: no NaN, no binary arrays."""

    def write(figure: go.Figure) -> str:
        text = str(figure.to_json())
        json.dumps(json.loads(text), allow_nan=False)
        assert "bdata" not in text
        return text

    return write


@pytest.fixture
def comparison_figures() -> Callable[..., tuple[go.Figure, ...]]:
    """Draw all figures of a comparison: ROC, calibration, AUC against time."""

    def draw(models: list[ScoredModel], baseline: str = "deepfm") -> tuple[go.Figure, ...]:
        comparison: Any = compare_models(models, baseline)
        return (
            roc_comparison(models, comparison),
            calibration_comparison(models, comparison),
            auc_against_time(comparison),
        )

    return draw


@pytest.fixture
def as_seeds() -> Callable[[list[ScoredModel]], list[ScoredModel]]:
    """Make trainings those of one model with the seeds 1, 2 and so on."""

    return lambda models: [
        retrained(model, f"{model.report.name} {seed}", seed=seed, settings="one")
        for seed, model in enumerate(models, start=1)
    ]
