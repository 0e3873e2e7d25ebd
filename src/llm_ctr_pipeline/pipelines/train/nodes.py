"""What training does on each path."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ibis.expr.types as ir
import mlflow

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.features.build_feature_map import read_vocabulary
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, check_ids
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.models.settings import (
    BaselineNetworkSettings,
    LlmCtrSettings,
    LlmSettings,
    TermsSettings,
)
from llm_ctr_pipeline.params import EvaluationParams
from llm_ctr_pipeline.pipelines.lazy_types import Checkpoint, Teacher
from llm_ctr_pipeline.tracking.continued import continue_run
from llm_ctr_pipeline.training.history import TrainingResults, ValidationRecord
from llm_ctr_pipeline.training.settings import (
    BaselineStages,
    Stages,
    TeacherSettings,
    TrainingSettings,
    TwoPhaseStages,
)

if TYPE_CHECKING:  # PyTorch comes with them, and with all that the functions below import
    from transformers import PreTrainedTokenizerBase

    from llm_ctr_pipeline.models.llm_ctr import LlmCtr
    from llm_ctr_pipeline.training.stages import OnStart, OnValidation, StageRun


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
    terms: TermsSettings,
    evaluation: EvaluationParams,
) -> tuple[Checkpoint, TrainingResults]:
    """Train all components together, end to end; keep the weights of the best validation."""
    from llm_ctr_pipeline.training.paths import EncodedDataset, TrainingPath, check_encoded

    check_encoded(feature_map, summary, raw_log)
    stages, network, tokenizer = create_llm_ctr(feature_map, stages, training, model, llm, terms)
    datasets = {summary.dataset: EncodedDataset(train, valid, summary)}
    name, values = evaluation.path, read_vocabulary(vocabulary, feature_map)
    settings = (model, llm, terms)
    path = TrainingPath(name, network, tokenizer, feature_map, values, datasets, settings)
    checkpoints, results = path.train(stages, training, state_folder, *told(state_folder))
    return checkpoints[-1], results


def train_baseline(
    train: EncodedFile,
    valid: EncodedFile,
    vocabulary: ir.Table,
    feature_map: FeatureMap,
    raw_log: RawLog,
    summary: DatasetSummary,
    state_folder: Path,
    stages: BaselineStages,
    training: TrainingSettings,
    model: LlmCtrSettings,
    network: BaselineNetworkSettings,
    evaluation: EvaluationParams,
    teacher: Teacher | None = None,
) -> tuple[Checkpoint, TrainingResults]:
    """Train a baseline, a model without a language model; keep the best validation's weights."""
    import torch

    from llm_ctr_pipeline.models.baselines.description import describe_baseline
    from llm_ctr_pipeline.training.machine.model_memory import check_memory, weights_of_baseline
    from llm_ctr_pipeline.training.paths import EncodedDataset, TrainingPath, check_encoded

    check_encoded(feature_map, summary, raw_log)
    description = describe_baseline(model, network.root, feature_map.sizes)
    check_memory(weights_of_baseline(description), stages, training)
    torch.manual_seed(training.seed)
    datasets = {summary.dataset: EncodedDataset(train, valid, summary)}
    values = read_vocabulary(vocabulary, feature_map)
    path = TrainingPath(
        evaluation.path,
        description.build(),
        None,
        feature_map,
        values,
        datasets,
        settings=(model, network) if teacher is None else (model, network, teacher.settings),
        teacher=teacher,
    )
    checkpoints, results = path.train(stages, training, state_folder, *told(state_folder))
    return checkpoints[-1], results


def train_distilled(
    teacher_model: Checkpoint,
    teacher: TeacherSettings,
    llm: LlmSettings,
    train: EncodedFile,
    valid: EncodedFile,
    vocabulary: ir.Table,
    feature_map: FeatureMap,
    raw_log: RawLog,
    summary: DatasetSummary,
    state_folder: Path,
    stages: BaselineStages,
    training: TrainingSettings,
    model: LlmCtrSettings,
    network: BaselineNetworkSettings,
    evaluation: EvaluationParams,
) -> tuple[Checkpoint, TrainingResults]:
    """Train a baseline on a trained model's log-odds beside the labels."""
    return train_baseline(
        train,
        valid,
        vocabulary,
        feature_map,
        raw_log,
        summary,
        state_folder,
        stages,
        training,
        model,
        network,
        evaluation,
        make_teacher(teacher_model, teacher, llm, training, feature_map),
    )


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
    from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
    from llm_ctr_pipeline.training.paths import EncodedDataset, TrainingPath, check_encoded

    datasets = {
        "x1": EncodedDataset(x1_train, x1_valid, x1_summary),
        "x2": EncodedDataset(x2_train, x2_valid, x2_summary),
        summary.dataset: EncodedDataset(train, valid, summary),
    }
    for dataset in datasets.values():
        check_encoded(feature_map, dataset.summary)
    trained, network, tokenizer = create_llm_ctr(feature_map, stages, training, model, llm)
    origin = None
    if next(iter(stages.root.values())).start == "deepfm":
        origin, deepfm = baseline.training, baseline.build()
        if not isinstance(deepfm, DeepFm):
            raise SettingsError("the baseline's checkpoint holds no DeepFM: train deepfm again")
        check_ids(feature_map, baseline.feature_map.fingerprint, None)
        network.take_encoder(deepfm)
    name, values = evaluation.path, read_vocabulary(vocabulary, feature_map)
    path = TrainingPath(
        name, network, tokenizer, feature_map, values, datasets, (model, llm), origin
    )
    checkpoints, results = path.train(trained, training, state_folder, *told(state_folder))
    return checkpoints[0], checkpoints[-1], results


def create_llm_ctr(
    feature_map: FeatureMap,
    stages: Stages,
    training: TrainingSettings,
    model: LlmCtrSettings,
    llm: LlmSettings,
    terms: TermsSettings | None = None,
) -> tuple[Stages, "LlmCtr", "PreTrainedTokenizerBase"]:
    """Make the model to train and its tokenizer; say which of its parts each stage trains."""
    from llm_ctr_pipeline.models.llm_ctr import LlmCtr
    from llm_ctr_pipeline.training.machine.devices import choose_kernel
    from llm_ctr_pipeline.training.machine.model_memory import check_memory, weights_of_llm_ctr

    weights = weights_of_llm_ctr(model, feature_map.sizes, llm, terms)
    if llm.freeze:
        stages = stages.without("llm", weights)
    check_memory(weights, stages, training)
    network, tokenizer = LlmCtr.create(model, feature_map.sizes, llm, training.seed, terms)
    network.llm.kernel = choose_kernel(llm.attention, training, network.llm.backbone.config)
    return stages, network, tokenizer


def make_teacher(
    checkpoint: Checkpoint,
    settings: TeacherSettings,
    llm: LlmSettings,
    training: TrainingSettings,
    feature_map: FeatureMap,
) -> Teacher:
    """Build a checkpoint's model to teach rows whose ids a feature map gave.

    Raises:
        FingerprintError: It was trained on ids of another one.
        SettingsError: It is another path's than the settings name.
    """
    from llm_ctr_pipeline.models.llm_ctr import LlmCtr
    from llm_ctr_pipeline.training.checkpoint import WEIGHTS
    from llm_ctr_pipeline.training.distillation.teacher import Teacher
    from llm_ctr_pipeline.training.machine.devices import choose_kernel

    path = checkpoint.training.path
    if path != settings.path:
        raise SettingsError(
            f"distilled.teacher.path is {settings.path}, and the checkpoint that was read is "
            f"{path}'s: name the teacher by `--params distilled.teacher.path={settings.path}`"
        )
    check_ids(checkpoint.feature_map, feature_map.fingerprint, None)
    model = checkpoint.build()
    if isinstance(model, LlmCtr):
        model.llm.kernel = choose_kernel(llm.attention, training, model.llm.backbone.config)
    return Teacher(model, settings, checkpoint.files[WEIGHTS], checkpoint.training)


def told(state_folder: Path) -> tuple["OnValidation", "OnStart"]:
    """What tells MLflow of a training whose states are kept in a folder."""
    return log_validation, partial(continue_run, state_folder)


def log_validation(run: "StageRun", record: ValidationRecord) -> None:
    """Log a validation's figures to MLflow while training goes on, if a run is active.

    The last stage's figures have the same names in every path, so that runs can be compared; those
    of stages before it carry stage and dataset. `best_valid_auc` is the kept weights' alone.
    """
    if mlflow.active_run() is None:
        return
    prefix = "" if run.last else f"{run.stage}/{run.dataset}/"
    measured = record.model_dump(exclude={"step", "improved"})
    figures = {prefix + _grouped(name): value for name, value in measured.items()}
    # MLflow shows metrics in the order in which they first came.
    best = {"best_valid_auc": record.valid_auc} if run.last and record.improved else {}
    mlflow.log_metrics(best | figures, record.step)


def _grouped(name: str) -> str:
    """A figure's name below what it is of: `valid/auc`, `train/lr`."""
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if group in {"train", "valid"} else f"train/{name}"
