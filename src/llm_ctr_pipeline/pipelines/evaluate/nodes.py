"""What the evaluation does, step by step."""

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import check_ids
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.log.schema import HOUR
from llm_ctr_pipeline.metrics.classification import classification_metrics
from llm_ctr_pipeline.metrics.grouped_auc import grouped_auc
from llm_ctr_pipeline.metrics.slices import UNKNOWN, Slices, measure_slices, named
from llm_ctr_pipeline.models.settings import LlmSettings, ServingPrecision
from llm_ctr_pipeline.params import EvaluationParams
from llm_ctr_pipeline.pipelines.lazy_types import Checkpoint
from llm_ctr_pipeline.reporting.evaluation import Evaluation, now, share_of_best
from llm_ctr_pipeline.reporting.results import digest_of_predictions
from llm_ctr_pipeline.training.settings import TrainingSettings

if TYPE_CHECKING:
    from llm_ctr_pipeline.data.input.batches import EncodedSplit
    from llm_ctr_pipeline.models.fixed_prompt import FixedPromptCtr
    from llm_ctr_pipeline.training.checkpoint import CtrModel


def predict(
    checkpoint: Checkpoint,
    rows: EncodedFile,
    summary: DatasetSummary,
    evaluation: EvaluationParams,
    llm: LlmSettings,
    training: TrainingSettings,
) -> pd.DataFrame:
    """Score the rows with the checkpoint's model, in their order; with their groups, if asked."""
    import torch

    from llm_ctr_pipeline.training.score import score_split

    known = checkpoint.feature_map
    check_ids(known, summary.fingerprint, summary.extends)
    group = evaluation.group_position(known.names)
    split = _read(rows, checkpoint, summary, evaluation)
    if evaluation.serving_precision is None:
        probability = score_split(model_of(checkpoint, llm, training), split, training)
    else:
        served = served_model(checkpoint, evaluation.serving_precision, training.device)
        # What `Scorer` computes: no mixed precision, nothing compiled.
        plain = training.model_copy(update={"precision": "32-true", "compile": "off"})
        probability = score_split(served, split, plain)
    table = pd.DataFrame({"label": split.labels_N.to(torch.int8), "probability": probability})
    if group is not None:
        table["group"] = split.ids_NF[:, group].numpy()
    return table


def _read(
    rows: EncodedFile,
    checkpoint: Checkpoint,
    summary: DatasetSummary,
    evaluation: EvaluationParams,
) -> "EncodedSplit":
    """Read a split with the ids that the checkpoint's model knows."""
    from llm_ctr_pipeline.data.input.batches import with_known_ids

    known = checkpoint.feature_map
    split = rows.read(known.names, summary.splits[evaluation.split])
    return with_known_ids(split, known.sizes)


def model_of(checkpoint: Checkpoint, llm: LlmSettings, training: TrainingSettings) -> "CtrModel":
    """Build a checkpoint's model, with the attention kernel for this machine."""
    from llm_ctr_pipeline.models.llm_ctr import LlmCtr
    from llm_ctr_pipeline.training.machine.devices import choose_kernel

    model = checkpoint.build()
    if isinstance(model, LlmCtr):
        model.llm.kernel = choose_kernel(llm.attention, training, model.llm.backbone.config)
    return model


def served_model(
    checkpoint: Checkpoint, precision: ServingPrecision, device: str
) -> "FixedPromptCtr":
    """Build a checkpoint's model as it is served.

    Raises:
        SettingsError: It has no language model, or the device no such precision.
    """
    from llm_ctr_pipeline.models.fixed_prompt import FixedPromptCtr
    from llm_ctr_pipeline.models.llm_ctr import LlmCtr
    from llm_ctr_pipeline.training.machine.devices import resolve_device

    model = checkpoint.build()
    if not isinstance(model, LlmCtr):
        raise SettingsError(
            f"evaluation.serving_precision is {precision}, and {checkpoint.training.path} has no "
            "language model: it is served as it was trained, so leave the setting out"
        )
    return FixedPromptCtr(model.to(resolve_device(device)), precision)


def measure(
    predictions: pd.DataFrame,
    checkpoint: Checkpoint,
    summary: DatasetSummary,
    evaluation: EvaluationParams,
) -> tuple[Evaluation, dict[str, Any]]:
    """Compute the metrics over the whole split: the report, and its numbers for MLflow."""
    from llm_ctr_pipeline.training.checkpoint import WEIGHTS

    name = f"{evaluation.dataset} {evaluation.split}"
    metrics = classification_metrics(predictions["label"], predictions["probability"], name)
    grouped = (
        None
        if evaluation.group_by is None
        else grouped_auc(
            predictions["label"], predictions["probability"], predictions["group"], name
        )
    )
    best_possible = (summary.best_auc or {}).get(evaluation.split)
    report = Evaluation(
        **evaluation.model_dump(),
        **metrics.model_dump(),
        loss=metrics.logloss,
        best_possible_auc=best_possible,
        share_of_best=share_of_best(metrics.auc, best_possible),
        gauc=grouped and grouped.value,
        gauc_rows=grouped and grouped.rows,
        source=summary.source,
        data_fingerprint=summary.splits[evaluation.split].raw_fingerprint,
        feature_map_fingerprint=checkpoint.feature_map.fingerprint,
        checkpoint=checkpoint.files.get(WEIGHTS, ""),
        predictions=digest_of_predictions(predictions),
        trained=checkpoint.training,
        timestamp=now(),
    )
    step = checkpoint.training.best.step  # of the weights that were tested
    tracked = {name: {"value": value, "step": step} for name, value in report.figures.items()}
    return report, tracked


def slice_rows(
    predictions: pd.DataFrame,
    checkpoint: Checkpoint,
    rows: EncodedFile,
    summary: DatasetSummary,
    evaluation: EvaluationParams,
) -> Slices:
    """Compute the AUC within the values of each field, and name the values."""
    fields = [field.name for field in summary.log.fields if field.kind == HOUR]
    hour = next(iter(fields), None)
    slices = measure_slices(
        predictions["label"],
        predictions["probability"],
        _read(rows, checkpoint, summary, evaluation).ids_NF.numpy(),
        checkpoint.feature_map.names,
        hour,
        f"{evaluation.dataset} {evaluation.split}",
    )
    wanted = {(one.field, one.id) for one in slices} - {(one.field, UNKNOWN) for one in slices}
    vocabulary = checkpoint.vocabulary.select(["field", "id", "value"])
    listed = pc.is_in(vocabulary["id"], pa.array(sorted({each for _, each in wanted}), pa.int64()))
    values = {
        (entry["field"], entry["id"]): entry["value"]
        for entry in vocabulary.filter(listed).to_pylist()
        if (entry["field"], entry["id"]) in wanted
    }
    return Slices(hour=hour, slices=named(slices, values))
