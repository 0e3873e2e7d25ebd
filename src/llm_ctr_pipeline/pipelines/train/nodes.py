"""What the training does, step by step."""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import mlflow
import plotly.graph_objects as go

from llm_ctr_pipeline import __version__
from llm_ctr_pipeline.data.batches import read_split
from llm_ctr_pipeline.data.feature_map import FeatureMap
from llm_ctr_pipeline.metrics.plots import learning_curve_figure
from llm_ctr_pipeline.models.llm_ctr import LlmCtr, LlmCtrConfig
from llm_ctr_pipeline.models.loading import LlmSource
from llm_ctr_pipeline.params import LlmParams, ModelParams, TrainingParams
from llm_ctr_pipeline.training.checkpoint import Checkpoint
from llm_ctr_pipeline.training.devices import choose_kernel, limit_cpu_threads
from llm_ctr_pipeline.training.fit import FitResult, FitSettings, ResumePoint, fit
from llm_ctr_pipeline.training.history import ValidationRecord

logger = logging.getLogger(__name__)

# What may differ between an interrupted run and the one that goes on with it.
NOT_IN_RESUME_KEY = {"device", "cpu_threads", "eval_batch_size", "resume"}


def train_single_phase(
    train: ir.Table,
    valid: ir.Table,
    vocabulary: ir.Table,
    feature_map: dict[str, Any],
    raw_log: dict[str, Any],
    summary: dict[str, Any],
    state_folder: Path,
    model: ModelParams,
    llm: LlmParams,
    training: TrainingParams,
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train all components together, end to end; keep the weights of the best validation."""
    mapped = FeatureMap.from_dict(feature_map)
    limit_cpu_threads(training.cpu_threads)
    check_preprocessed(mapped, raw_log, summary)
    source = LlmSource(llm.pretrained, llm.architecture.model_dump() if llm.architecture else None)
    config = LlmCtrConfig(**model.model_dump())
    network, tokenizer = LlmCtr.create(config, mapped.sizes, source, training.seed)
    network.llm.kernel = choose_kernel(llm.attention, training.device, training.precision)
    result = fit(
        network,
        read_split(train, mapped.names),
        read_split(valid, mapped.names),
        FitSettings(**training.model_dump(exclude={"resume", "cpu_threads"})),
        on_validation=log_validation,
        resume=resume_point(state_folder, summary, training, model, llm),
    )
    results = training_results("single_phase", result, training, summary)
    checkpoint = Checkpoint(
        model=network.describe(),
        weights=result.best_weights,
        feature_map=mapped,
        vocabulary=vocabulary.to_pyarrow(),
        tokenizer=tokenizer,
        training={key: results[key] for key in ("path", "seed", "best", "source")},
    )
    return checkpoint, results


def check_preprocessed(
    feature_map: FeatureMap, raw_log: dict[str, Any], summary: dict[str, Any]
) -> None:
    """Refuse what an interrupted preprocessing left, and a split that misses a class.

    The summary is written last, so it vouches for encoded splits only while the feature map and
    the raw log are still those it was made from.

    Raises:
        ValueError: Preprocessing was interrupted, or a split cannot be validated or tested on.
    """
    encoded_from = {name: split["raw_fingerprint"] for name, split in summary["splits"].items()}
    checked = {name: split["fingerprint"] for name, split in raw_log["splits"].items()}
    if summary["fingerprint"] != feature_map.fingerprint or encoded_from != checked:
        raise ValueError(
            f"the encoded {feature_map.dataset} splits are not of the feature map and the raw log "
            "that lie beside them: preprocessing was interrupted; run "
            "`kedro run --pipeline=preprocess` again"
        )
    for split in ("valid", "test"):
        counted = summary["splits"][split]
        if not 0 < counted["clicks"] < counted["rows"]:
            raise ValueError(
                f"the {split} split of {feature_map.dataset} has {counted['clicks']:,} clicks in "
                f"{counted['rows']:,} rows, so one class alone and no AUC: give it rows of both"
            )


def resume_point(
    folder: Path,
    summary: dict[str, Any],
    training: TrainingParams,
    model: ModelParams,
    llm: LlmParams,
) -> ResumePoint:
    """Name the state file by the data and settings, so that going on is always the same run.

    An interrupted run with other settings has a file of its own and stays as it is.
    """
    settings = training.model_dump(exclude=NOT_IN_RESUME_KEY)
    same = [__version__, summary, settings, model.model_dump(), llm.model_dump()]
    key = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
    file = folder / f"{key[:16]}.pt"
    others = [str(other) for other in sorted(folder.glob("*.pt")) if other != file]
    if others:
        logger.info("Interrupted runs with other settings are kept in %s", ", ".join(others))
    if not training.resume and file.exists():
        logger.warning("Starting over: %s, this run's interrupted state, is discarded", file)
        file.unlink()
    return ResumePoint(file, key)


def log_validation(record: ValidationRecord) -> None:
    """Log a validation's figures to MLflow while training goes on, if a run is active."""
    if mlflow.active_run() is not None:
        figures = {key: value for key, value in asdict(record).items() if isinstance(value, float)}
        mlflow.log_metrics(figures, step=record.step)


def training_results(
    path: str, result: FitResult, training: TrainingParams, summary: dict[str, Any]
) -> dict[str, Any]:
    """Put what training gave into JSON types."""
    return {
        "path": path,
        "dataset": summary["dataset"],
        "source": summary["source"],
        "seed": training.seed,
        "stopped_early": result.stopped_early,
        "best": asdict(result.best),
        "seconds": sum(record.seconds for record in result.history),
        "epochs": [{**asdict(record), "best": record is result.best} for record in result.history],
    }


def draw_learning_curve(results: dict[str, Any]) -> go.Figure:
    """Draw losses and validation AUC over the epochs."""
    return learning_curve_figure(results["epochs"], title=f"Learning curve, {results['path']}")
