"""What the training of the baseline does."""

from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.models.deepfm import DeepFm, DeepFmConfig
from llm_ctr_pipeline.params import DeepFmParams, DeepFmStagesParams, ModelParams, TrainingParams
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
    model: ModelParams,
    network: DeepFmParams,
    training: TrainingParams,
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train DeepFM; keep the weights of the best validation."""
    check_preprocessed(feature_map, raw_log, summary)
    config = DeepFmConfig(
        **model.model_dump(include={"embedding_dim", "embedding_init_std", "gen_gamma"}),
        **network.model_dump(),
    )
    path = TrainingPath(
        name="deepfm",
        model=DeepFm.create(config, feature_map.sizes, training.seed),
        tokenizer=None,
        feature_map=feature_map,
        vocabulary=vocabulary.to_pyarrow(),
        datasets={feature_map.dataset: EncodedDataset(train, valid, summary)},
        settings=(model, network),
    )
    checkpoints, results = path.train(stages, training, state_folder)
    return list(checkpoints.values())[-1], results
