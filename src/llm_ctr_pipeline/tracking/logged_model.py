"""A trained checkpoint as an MLflow model: raw rows in, probabilities out."""

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow.entities import LoggedModel, Metric
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.tracking.inputs import digest_of

if TYPE_CHECKING:  # it brings scikit-learn along, and every command imports this module
    from llm_ctr_pipeline.reporting.evaluation import Evaluation

PACKAGE = Path(__file__).parents[1]
CODE = Path(__file__).with_name("pyfunc_model.py")
# What the code that scores imports.
REQUIRED = (
    *("mlflow", "ibis-framework", "duckdb", "numpy", "pandas", "pyarrow"),
    *("pydantic", "rich", "safetensors", "torch", "transformers"),
)
# The artifact, and a tag: the SHA-256 of its weights.
CHECKPOINT = "checkpoint"


def log_checkpoint(folder: Path, summary: DatasetSummary, run_id: str) -> str:
    """Log a checkpoint as a model of a run.

    It is no pickle, and holds this package's code, so that it can be served where the package is
    not installed.

    Args:
        folder: Where the checkpoint lies.
        summary: Its log's.
        run_id: The run that trained it.

    Returns:
        The model's id.
    """
    columns = summary.log.feature_columns
    # A cell may come as text or as a number, and is empty where it is null.
    any_ = AnyType()  # type: ignore[no-untyped-call]
    inputs = Schema([ColSpec(any_, column) for column in columns])
    logged = Model.log(
        artifact_path=None,
        flavor=mlflow.pyfunc,
        name=folder.parent.name,
        run_id=run_id,
        python_model=str(CODE),
        artifacts={CHECKPOINT: str(folder)},
        code_paths=[str(PACKAGE)],
        signature=ModelSignature(inputs, Schema([ColSpec(DataType.double)])),
        input_example=pd.DataFrame(summary.example, columns=[*columns]),
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIRED],
        tags={CHECKPOINT: weights_of(folder), "dataset": summary.dataset},
        flavor_name="pyfunc.ModelFromCode",
    )
    return str(logged.model_id)


def log_test(evaluation: "Evaluation", run_id: str, model_id: str) -> None:
    """Log a test's metrics as the model's, on the rows that it was tested on."""
    now = time.time_ns() // 1_000_000
    tested = {
        "model_id": model_id,
        "dataset_name": evaluation.dataset,
        "dataset_digest": digest_of(evaluation.data_fingerprint),
    }
    step = evaluation.trained.best.step
    figures = evaluation.figures.items()
    metrics = [Metric(name, value, now, step, **tested) for name, value in figures]
    mlflow.MlflowClient().log_batch(run_id, metrics=metrics)


def weights_of(folder: Path) -> str:
    """SHA-256 of a checkpoint's weights."""
    # It brings PyTorch along, which every command would wait for.
    from llm_ctr_pipeline.training.checkpoint import MANIFEST, WEIGHTS

    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return str(manifest["files"][WEIGHTS])


def find_logged(weights: str) -> LoggedModel | None:
    """The newest model whose weights have a SHA-256; None if there is none."""
    experiments = [each.experiment_id for each in mlflow.search_experiments()]
    found: list[LoggedModel] = mlflow.search_logged_models(
        experiment_ids=experiments,
        filter_string=f"tags.{CHECKPOINT} = '{weights}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        max_results=1,
        output_format="list",
    )
    return found[0] if found else None
