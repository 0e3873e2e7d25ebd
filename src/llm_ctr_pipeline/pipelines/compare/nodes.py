"""What the comparison does, step by step."""

import datetime
import logging
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from llm_ctr_pipeline.metrics.comparison import ScoredModel, compare_models
from llm_ctr_pipeline.params import CompareParams
from llm_ctr_pipeline.pipelines.compare.results import find_models
from llm_ctr_pipeline.reporting.comparison_figures import (
    auc_against_time,
    calibration_comparison,
    roc_comparison,
)
from llm_ctr_pipeline.reporting.comparison_table import markdown_of

logger = logging.getLogger(__name__)

TRACKED = ("auc", "logloss")
TRACKED_DIFFERENCES = (
    *("auc", "auc_low", "auc_high", "p_value", "p_value_holm"),
    *("logloss", "logloss_low", "logloss_high"),
)


def compare(
    outputs: Path, reports: Path, settings: CompareParams
) -> tuple[list[ScoredModel], dict[str, Any]]:
    """Read the models' results and compare them on the rows that all were tested on."""
    found = find_models(outputs, reports, settings)
    for path, command in found.missing.items():
        logger.warning("No results of %s: run `%s`", path, command)
    models = found.score(settings)
    timestamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    comparison = {
        **compare_models(models, found.baseline),
        "missing": found.missing,
        "timestamp": timestamp,
    }
    return models, comparison


def track(comparison: dict[str, Any]) -> dict[str, Any]:
    """Name each model's numbers and its differences to the baseline for MLflow."""
    tracked = {}
    for model in comparison["models"]:
        numbers = {key: model[key] for key in TRACKED}
        for key in TRACKED_DIFFERENCES if model["difference"] else ():
            numbers[f"difference_{key}"] = model["difference"][key]
        for key, value in numbers.items():
            tracked[f"{key}/{model['name']}"] = {"value": value, "step": 0}
    return tracked


def write_table(comparison: dict[str, Any]) -> str:
    """Write the comparison as Markdown."""
    return markdown_of(comparison)


def draw_roc(models: list[ScoredModel], comparison: dict[str, Any]) -> go.Figure:
    """Draw the ROC curves of all models and their distance to the baseline's."""
    return roc_comparison(models, comparison)


def draw_calibration(models: list[ScoredModel], comparison: dict[str, Any]) -> go.Figure:
    """Draw observed against predicted click rates of all models."""
    return calibration_comparison(models, comparison)


def draw_auc_against_time(comparison: dict[str, Any]) -> go.Figure:
    """Draw what each model reached against the time that its training took."""
    return auc_against_time(comparison)
