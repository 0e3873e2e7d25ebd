"""What the evaluation does, step by step."""

import datetime
from dataclasses import asdict
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import check_ids
from llm_ctr_pipeline.data.input.batches import with_known_ids
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile, check_counted
from llm_ctr_pipeline.metrics.classification import classification_metrics
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.params import EvaluationParams, LlmParams
from llm_ctr_pipeline.reporting.test_figures import calibration_figure, roc_figure
from llm_ctr_pipeline.training.checkpoint import Checkpoint
from llm_ctr_pipeline.training.machine.devices import choose_kernel
from llm_ctr_pipeline.training.score import score_split
from llm_ctr_pipeline.training.settings import TrainingSettings

CHANCE_AUC = 0.5


def predict(
    checkpoint: Checkpoint,
    rows: EncodedFile,
    summary: DatasetSummary,
    evaluation: EvaluationParams,
    llm: LlmParams,
    training: TrainingSettings,
) -> pd.DataFrame:
    """Score the rows with the checkpoint's model, in their order."""
    known = checkpoint.feature_map
    check_ids(known, summary.fingerprint, summary.extends)
    split = rows.read(known.names)
    check_counted(split, known.names, summary.splits[evaluation.split])
    split = with_known_ids(split, known.sizes)
    model = checkpoint.build()
    if isinstance(model, LlmCtr):
        model.llm.kernel = choose_kernel(llm.attention, training)
    probability = score_split(model, split, training)
    return pd.DataFrame({"label": split.labels_N.to(torch.int8), "probability": probability})


def measure(
    predictions: pd.DataFrame,
    checkpoint: Checkpoint,
    summary: DatasetSummary,
    evaluation: EvaluationParams,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the metrics over the whole split: the report, and the figures for MLflow.

    The loss, cross-entropy over the two answers, is the log loss of the click probability.
    """
    name = f"{evaluation.dataset} {evaluation.split}"
    metrics = asdict(classification_metrics(predictions["label"], predictions["probability"], name))
    best_possible = (summary.best_auc or {}).get(evaluation.split)
    if best_possible is not None:
        closed = (metrics["auc"] - CHANCE_AUC) / (best_possible - CHANCE_AUC)
    report = {
        **evaluation.model_dump(),
        "loss": metrics["logloss"],
        **metrics,
        "best_possible_auc": best_possible,
        "share_of_best": None if best_possible is None else closed,
        "source": summary.source,
        "data_fingerprint": summary.splits[evaluation.split].raw_fingerprint,
        "feature_map_fingerprint": checkpoint.feature_map.fingerprint,
        "trained": checkpoint.training.to_json(),
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    tracked = {
        f"{evaluation.split}_{key}": {"value": value, "step": 0}
        for key, value in report.items()
        if isinstance(value, float)
    }
    return report, tracked


def draw_roc(predictions: pd.DataFrame, report: dict[str, Any]) -> go.Figure:
    """Draw the ROC curve, with the best AUC any model could reach where it is known."""
    return roc_figure(
        predictions["label"],
        predictions["probability"],
        title=f"ROC, {_title(report)}",
        best_possible_auc=report["best_possible_auc"],
    )


def draw_calibration(predictions: pd.DataFrame, report: dict[str, Any]) -> go.Figure:
    """Draw observed against predicted click rates."""
    return calibration_figure(
        predictions["label"], predictions["probability"], title=f"Calibration, {_title(report)}"
    )


def _title(report: dict[str, Any]) -> str:
    return f"{report['path']} on {report['dataset']} {report['split']}"
