"""What training does on each path."""

from pathlib import Path

import ibis.expr.types as ir
import mlflow
import plotly.graph_objects as go
from transformers import PreTrainedTokenizerBase

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, check_ids
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.models.deepfm import DeepFm
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import (
    DeepFmNetworkSettings,
    DeepFmSettings,
    LlmCtrSettings,
    LlmSettings,
)
from llm_ctr_pipeline.params import EvaluationParams
from llm_ctr_pipeline.reporting.learning_curve import learning_curve_figure
from llm_ctr_pipeline.training.checkpoint import Checkpoint
from llm_ctr_pipeline.training.history import TrainingResults, ValidationRecord
from llm_ctr_pipeline.training.machine.devices import choose_kernel
from llm_ctr_pipeline.training.paths import (
    EncodedDataset,
    TrainingPath,
    check_encoded,
    check_preprocessed,
)
from llm_ctr_pipeline.training.settings import (
    DeepFmStages,
    Stages,
    TrainingSettings,
    TwoPhaseStages,
)
from llm_ctr_pipeline.training.stages import StageRun


def train_single_phase(
    train: EncodedFile,
    valid: EncodedFile,
    vocabulary: ir.Table,
    feature_map: FeatureMap,
    raw_log: RawLog,
    summary: DatasetSummary,
    state_folder: Path,
    stages: Stages,
    training: TrainingSettings,
    model: LlmCtrSettings,
    llm: LlmSettings,
) -> tuple[Checkpoint, TrainingResults]:
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
    checkpoints, results = path.train(stages, training, state_folder, log_validation)
    return checkpoints[-1], results


def train_deepfm(
    train: EncodedFile,
    valid: EncodedFile,
    vocabulary: ir.Table,
    feature_map: FeatureMap,
    raw_log: RawLog,
    summary: DatasetSummary,
    state_folder: Path,
    stages: DeepFmStages,
    training: TrainingSettings,
    model: LlmCtrSettings,
    network: DeepFmNetworkSettings,
) -> tuple[Checkpoint, TrainingResults]:
    """Train the baseline, DeepFM; keep the weights of the best validation."""
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
    checkpoints, results = path.train(stages, training, state_folder, log_validation)
    return checkpoints[-1], results


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
    stages: TwoPhaseStages,
    training: TrainingSettings,
    model: LlmCtrSettings,
    llm: LlmSettings,
    evaluation: EvaluationParams,
) -> tuple[Checkpoint, Checkpoint, TrainingResults]:
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
    checkpoints, results = path.train(stages, training, state_folder, log_validation)
    return checkpoints[0], checkpoints[-1], results


def create_llm_ctr(
    feature_map: FeatureMap, model: LlmCtrSettings, llm: LlmSettings, training: TrainingSettings
) -> tuple[LlmCtr, PreTrainedTokenizerBase]:
    """Make the model to train, and its language model's tokenizer."""
    network, tokenizer = LlmCtr.create(model, feature_map.sizes, llm, training.seed)
    network.llm.kernel = choose_kernel(llm.attention, training)
    return network, tokenizer


def log_validation(run: StageRun, record: ValidationRecord) -> None:
    """Log a validation's figures to MLflow while training goes on, if a run is active.

    The last stage's figures have the same names in every path, so that runs can be compared; those
    of stages before it carry stage and dataset.
    """
    if mlflow.active_run() is None:
        return
    prefix = "" if run.last else f"{run.stage}/{run.dataset}/"
    figures = {
        f"{prefix}{key}": value
        for key, value in record.to_json().items()
        if isinstance(value, float)
    }
    mlflow.log_metrics(figures, step=record.step)


def draw_learning_curve(results: TrainingResults) -> go.Figure:
    """Draw losses and validation AUC over the epochs of all stages."""
    return learning_curve_figure(results)
