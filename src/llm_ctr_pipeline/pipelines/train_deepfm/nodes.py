"""What the training of the baseline does."""

from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.models.deepfm import DeepFm
from llm_ctr_pipeline.models.settings import (
    DeepFmNetworkSettings,
    DeepFmSettings,
    LlmCtrSettings,
)
from llm_ctr_pipeline.params import DeepFmStagesParams, TrainingParams
from llm_ctr_pipeline.pipelines.train.path import (
    EncodedDataset,
    TrainingPath,
    check_preprocessed,
)
from llm_ctr_pipeline.training.checkpoint import Checkpoint


def train_deepfm(
    train: EncodedFile,
    valid: EncodedFile,
    vocabulary: ir.Table,
    feature_map: FeatureMap,
    raw_log: RawLog,
    summary: DatasetSummary,
    state_folder: Path,
    stages: DeepFmStagesParams,
    model: LlmCtrSettings,
    network: DeepFmNetworkSettings,
    training: TrainingParams,
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train DeepFM; keep the weights of the best validation."""
    check_preprocessed(feature_map, raw_log, summary)
    settings = DeepFmSettings.join(model, network)
    path = TrainingPath(
        name="deepfm",
        model=DeepFm.create(settings, feature_map.sizes, training.seed),
        tokenizer=None,
        feature_map=feature_map,
        vocabulary=vocabulary.to_pyarrow(),
        datasets={feature_map.dataset: EncodedDataset(train, valid, summary)},
        settings=(model, network),
    )
    checkpoints, results = path.train(stages, training, state_folder)
    return list(checkpoints.values())[-1], results
