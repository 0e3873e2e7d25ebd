"""What the training does, step by step."""

from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import plotly.graph_objects as go
from transformers import PreTrainedTokenizerBase

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings
from llm_ctr_pipeline.params import StagesParams, TrainingParams
from llm_ctr_pipeline.pipelines.train.path import (
    EncodedDataset,
    TrainingPath,
    check_preprocessed,
)
from llm_ctr_pipeline.reporting.learning_curve import learning_curve_figure
from llm_ctr_pipeline.training.checkpoint import Checkpoint
from llm_ctr_pipeline.training.devices import choose_kernel
from llm_ctr_pipeline.training.history import TrainingResults


def train_single_phase(
    train: EncodedFile,
    valid: EncodedFile,
    vocabulary: ir.Table,
    feature_map: FeatureMap,
    raw_log: RawLog,
    summary: DatasetSummary,
    state_folder: Path,
    stages: StagesParams,
    model: LlmCtrSettings,
    llm: LlmSettings,
    training: TrainingParams,
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train all components together, end to end; keep the weights of the best validation."""
    check_preprocessed(feature_map, raw_log, summary)
    network, tokenizer = create_llm_ctr(feature_map, model, llm, training)
    path = TrainingPath(
        name="single_phase",
        model=network,
        tokenizer=tokenizer,
        feature_map=feature_map,
        vocabulary=vocabulary.to_pyarrow(),
        datasets={feature_map.dataset: EncodedDataset(train, valid, summary)},
        settings=(model, llm),
    )
    checkpoints, results = path.train(stages, training, state_folder)
    return list(checkpoints.values())[-1], results


def create_llm_ctr(
    feature_map: FeatureMap, model: LlmCtrSettings, llm: LlmSettings, training: TrainingParams
) -> tuple[LlmCtr, PreTrainedTokenizerBase]:
    """Make the model to train, and its language model's tokenizer."""
    network, tokenizer = LlmCtr.create(model, feature_map.sizes, llm, training.seed)
    network.llm.kernel = choose_kernel(llm.attention, training.device, training.precision)
    return network, tokenizer


def draw_learning_curve(results: dict[str, Any]) -> go.Figure:
    """Draw losses and validation AUC over the epochs of all stages."""
    return learning_curve_figure(TrainingResults.from_json(results))
