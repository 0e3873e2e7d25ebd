"""What the training in two phases does."""

from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, check_ids
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.models.deepfm import DeepFm
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings
from llm_ctr_pipeline.params import (
    EvaluationParams,
    TrainingParams,
    TwoPhaseStagesParams,
)
from llm_ctr_pipeline.pipelines.train.nodes import create_llm_ctr
from llm_ctr_pipeline.pipelines.train.path import EncodedDataset, TrainingPath, check_encoded
from llm_ctr_pipeline.training.checkpoint import Checkpoint


def train_two_phase(
    baseline: Checkpoint,
    x1_train: EncodedFile,
    x1_valid: EncodedFile,
    x1_summary: DatasetSummary,
    x2_train: EncodedFile,
    x2_valid: EncodedFile,
    x2_summary: DatasetSummary,
    train: EncodedFile,
    valid: EncodedFile,
    summary: DatasetSummary,
    vocabulary: ir.Table,
    feature_map: FeatureMap,
    state_folder: Path,
    evaluation: EvaluationParams,
    stages: TwoPhaseStagesParams,
    model: LlmCtrSettings,
    llm: LlmSettings,
    training: TrainingParams,
) -> tuple[Checkpoint, Checkpoint, dict[str, Any]]:
    """Train on x1, x2 and then the log itself; return the first stage's and the last's model."""
    datasets = {
        "x1": EncodedDataset(x1_train, x1_valid, x1_summary),
        "x2": EncodedDataset(x2_train, x2_valid, x2_summary),
        summary.dataset: EncodedDataset(train, valid, summary),
    }
    for dataset in datasets.values():
        check_encoded(feature_map, dataset.summary)
    network, tokenizer = create_llm_ctr(feature_map, model, llm, training)
    from_baseline = next(iter(stages.root.values())).start == "deepfm"
    if from_baseline:
        deepfm = baseline.build()
        if not isinstance(deepfm, DeepFm):
            raise SettingsError("the baseline's checkpoint holds no DeepFM: train deepfm again")
        check_ids(feature_map, baseline.feature_map.fingerprint, None)
        network.take_encoder(deepfm)
    path = TrainingPath(
        name=evaluation.path,
        model=network,
        tokenizer=tokenizer,
        feature_map=feature_map,
        vocabulary=vocabulary.to_pyarrow(),
        datasets=datasets,
        settings=(model, llm),
        origin=baseline.training if from_baseline else None,
    )
    checkpoints, results = path.train(stages, training, state_folder)
    first, *_, last = checkpoints.values()
    return first, last, results
