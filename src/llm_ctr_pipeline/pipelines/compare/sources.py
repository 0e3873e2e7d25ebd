"""Which models are compared: those of training paths by folder, or those of MLflow runs."""

import os
import tempfile
from functools import partial
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from llm_ctr_pipeline.data.storage.record_text import RecordT
from llm_ctr_pipeline.params import FEWEST_COMPARED, CompareParams
from llm_ctr_pipeline.reporting.comparison import check_reports
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.results import (
    TRAINING_RESULTS,
    FoundModel,
    ModelReport,
    NotComparableError,
    evaluation_name,
    find_path,
    pipeline_of,
    predictions_name,
    report_of,
)
from llm_ctr_pipeline.training.history import TrainingResults
from llm_ctr_pipeline.training.settings import PATHS

BESIDE_THE_LOG = ("x1", "x2")  # no path is tested on them when it was trained
SHORT_ID = 8  # letters of a run's id that tell it from others


def find_models(
    outputs: Path, reports: Path, settings: CompareParams
) -> tuple[list[FoundModel], dict[str, str]]:
    """Find the models that the settings name, and check that their reports can be compared.

    Args:
        outputs: The folder with one folder of predictions a path.
        reports: The folder with one folder of reports a path.
        settings: What to compare.

    Returns:
        The models in the order asked for, predictions not read yet; and the command that makes
        the results, for each path that has none.

    Raises:
        NotComparableError: Results are missing, or were not made on the same rows.
    """
    missing: dict[str, str] = {}
    if settings.run_ids:
        found = _find_runs(settings)
    else:
        found, missing = _find_paths(outputs, reports, settings)
    check_reports([report for report, _ in found], settings.baseline)
    return found, missing


def _find_paths(
    outputs: Path, reports: Path, settings: CompareParams
) -> tuple[list[FoundModel], dict[str, str]]:
    found: list[FoundModel] = []
    missing = {}
    for path in settings.path_names or PATHS:
        model = find_path(outputs / path, reports / path, settings.dataset, settings.split)
        if model is None:
            trained = (reports / path / TRAINING_RESULTS).exists()
            missing[path] = _command(path, settings, trained=trained)
        else:
            found.append(model)
    wanted = {*settings.path_names, settings.baseline} & {*missing}
    if len(found) < FEWEST_COMPARED:
        wanted = {*missing}
    if wanted:
        commands = "; ".join(
            f"for {path} run `{command}`" for path, command in missing.items() if path in wanted
        )
        raise NotComparableError(
            f"a comparison needs the results of {FEWEST_COMPARED} models on {settings.dataset} "
            f"{settings.split}, one of them {settings.baseline}, and some are missing: {commands}"
        )
    return found, missing


def _command(path: str, settings: CompareParams, *, trained: bool) -> str:
    """The command that makes a path's results."""
    train = f"kedro run --pipeline={pipeline_of(path)}"
    asked = {"path": path, "dataset": settings.dataset, "split": settings.split}
    chosen = ",".join(f"evaluation.{key}={value}" for key, value in asked.items())
    evaluate = f"kedro run --pipeline=evaluate --params {chosen}"
    if trained:
        return evaluate
    tested_by_training = settings.split == "test" and settings.dataset not in BESIDE_THE_LOG
    return train if tested_by_training else f"{train} && {evaluate}"


def _find_runs(settings: CompareParams) -> list[FoundModel]:
    tested = evaluation_name(settings.dataset, settings.split)
    read = [
        (
            _report(run_id, Evaluation, tested, settings),
            _report(run_id, TrainingResults, TRAINING_RESULTS, settings),
        )
        for run_id in settings.run_ids
    ]
    paths = [evaluation.path for evaluation, _ in read]
    predictions = predictions_name(settings.dataset, settings.split)
    found: list[FoundModel] = []
    for run_id, path, reports in zip(settings.run_ids, paths, read, strict=True):
        name = path if paths.count(path) == 1 else f"{path} {run_id[:SHORT_ID]}"
        report = ModelReport(name, *reports, run_id)
        found.append((report, partial(_artifact, run_id, predictions)))
    return found


def _report(run_id: str, record: type[RecordT], name: str, settings: CompareParams) -> RecordT:
    try:
        content = _artifact(run_id, name)
    except MlflowException as error:
        raise NotComparableError(
            f"compare.runs names {run_id}, which cannot be read at "
            f"{mlflow.get_tracking_uri()} ({error.message}): copy the id from `mlflow ui`"
        ) from error
    if content is None:
        raise NotComparableError(
            f"the MLflow run {run_id} has no artifact {name}: name runs that trained a "
            f"model and tested it on {settings.dataset} {settings.split}"
        )
    return report_of(content, record, name, run_id)


def _artifact(run_id: str, name: str) -> bytes | None:
    """Read an artifact of an MLflow run; None if there is none."""
    # A bar for each of three small files says nothing.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = mlflow.MlflowClient()
    if name not in {artifact.path for artifact in client.list_artifacts(run_id)}:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return Path(client.download_artifacts(run_id, name, scratch)).read_bytes()
