"""What the comparison does, step by step."""

import logging
from pathlib import Path
from typing import Any

from llm_ctr_pipeline.params import CompareParams
from llm_ctr_pipeline.pipelines.compare.sources import find_models
from llm_ctr_pipeline.reporting.comparison import Comparison, compare_models
from llm_ctr_pipeline.reporting.results import ScoredModel, scored

logger = logging.getLogger(__name__)


def compare(
    outputs: Path, reports: Path, settings: CompareParams
) -> tuple[list[ScoredModel], Comparison]:
    """Read the models' results and compare them on the rows that all were tested on."""
    found, missing = find_models(outputs, reports, settings)
    for path, command in missing.items():
        logger.warning("No results of %s: run `%s`", path, command)
    models = [scored(report, read_predictions()) for report, read_predictions in found]
    return models, compare_models(models, settings.baseline, missing)


def track(comparison: Comparison) -> dict[str, Any]:
    """Name each model's numbers and its differences to the baseline for MLflow."""
    tracked = {}
    for model in comparison.models:
        numbers = {"auc": model.auc, "logloss": model.logloss}
        if model.auc_seed_std is not None:
            spread = model.model_dump(include={"auc_seed_std", "logloss_seed_std"})
            numbers |= spread | {"seeds": len(model.seeds)}
        if model.gauc is not None:
            numbers["gauc"] = model.gauc
        if model.difference:
            differences = model.difference.model_dump(exclude={"z"}, exclude_none=True)
            numbers |= {f"difference_{key}": value for key, value in differences.items()}
        for key, value in numbers.items():
            tracked[f"{key}/{model.name}"] = {"value": value, "step": 0}
    return tracked
