"""Which models are compared: those of training paths by folder, or those of MLflow runs."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from llm_ctr_pipeline.params import FEWEST_COMPARED, CompareParams
from llm_ctr_pipeline.reporting.comparison import baseline_name, check_reports
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.results import (
    TRAINING_RESULTS,
    ModelReport,
    NotComparableError,
    PathFiles,
    ResultFiles,
    evaluation_name,
    predictions_name,
    read_report,
)
from llm_ctr_pipeline.training.history import TrainingResults
from llm_ctr_pipeline.training.paths import PATHS

BESIDE_THE_LOG = ("x1", "x2")  # no path is tested on them when it was trained
SHORT_ID = 8  # letters of a run's id that tell it from others

FoundModels = list[tuple[ModelReport, ResultFiles]]


@dataclass(frozen=True)
class MlflowRun:
    """The artifacts of an MLflow run, as result files.

    Attributes:
        run_id: Its id.
    """

    run_id: str

    def has(self, name: str) -> bool:
        """Whether there is such an artifact."""
        artifacts = mlflow.MlflowClient().list_artifacts(self.run_id)
        return name in {artifact.path for artifact in artifacts}

    def read(self, name: str) -> bytes:
        """Read an artifact that is there."""
        # A bar for each of three small files says nothing.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with tempfile.TemporaryDirectory() as scratch:
            file = mlflow.MlflowClient().download_artifacts(self.run_id, name, scratch)
            return Path(file).read_bytes()


def find_models(
    outputs: Path, reports: Path, settings: CompareParams
) -> tuple[FoundModels, dict[str, str]]:
    """Find the models that the settings name, and check that their reports can be compared.

    Args:
        outputs: The folder with one folder of predictions a path.
        reports: The folder with one folder of reports a path.
        settings: What to compare.

    Returns:
        The models' reports and files in the order asked for, predictions not read yet; and the
        command that makes the results, for each path that has none.

    Raises:
        NotComparableError: Results are missing, or were not made on the same rows.
    """
    missing: dict[str, str] = {}
    if settings.run_ids:
        found = _find_runs(settings)
    else:
        found, missing = _find_paths(outputs, reports, settings)
    baseline_name([report for report, _ in found], settings.baseline)
    check_reports([report for report, _ in found])
    return found, missing


def pipeline_of(path: str) -> str:
    """Name the pipeline that trains a path."""
    return "train" if path == "single_phase" else f"train_{path}"


def _find_paths(
    outputs: Path, reports: Path, settings: CompareParams
) -> tuple[FoundModels, dict[str, str]]:
    tested = evaluation_name(settings.dataset, settings.split)
    needed = (TRAINING_RESULTS, tested, predictions_name(settings.dataset, settings.split))
    found: FoundModels = []
    missing = {}
    for path in settings.path_names or PATHS:
        files = PathFiles(reports / path, outputs / path)
        if all(files.has(name) for name in needed):
            evaluation = read_report(files, path, Evaluation, tested)
            training = read_report(files, path, TrainingResults, TRAINING_RESULTS)
            found.append((ModelReport(path, evaluation, training), files))
        else:
            missing[path] = _command(path, settings, trained=files.has(TRAINING_RESULTS))
    wanted = {*settings.path_names, settings.baseline} & {*missing}
    if wanted or len(found) < FEWEST_COMPARED:
        commands = "; ".join(
            f"for {path} run `{command}`"
            for path, command in missing.items()
            if path in wanted or len(found) < FEWEST_COMPARED
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


def _find_runs(settings: CompareParams) -> FoundModels:
    tested = evaluation_name(settings.dataset, settings.split)
    read = []
    for run_id in settings.run_ids:
        files = MlflowRun(run_id)
        try:
            absent = [name for name in (tested, TRAINING_RESULTS) if not files.has(name)]
        except MlflowException as error:
            raise NotComparableError(
                f"compare.runs names {run_id}, which cannot be read at "
                f"{mlflow.get_tracking_uri()} ({error.message}): copy the id from `mlflow ui`"
            ) from error
        if absent:
            raise NotComparableError(
                f"the MLflow run {run_id} has no artifact {absent[0]}: name runs that trained a "
                f"model and tested it on {settings.dataset} {settings.split}"
            )
        evaluation = read_report(files, run_id, Evaluation, tested)
        training = read_report(files, run_id, TrainingResults, TRAINING_RESULTS)
        read.append((files, evaluation, training))
    paths = [evaluation.path for _, evaluation, _ in read]
    found: FoundModels = []
    for files, evaluation, training in read:
        path, run_id = evaluation.path, files.run_id
        name = path if paths.count(path) == 1 else f"{path} {run_id[:SHORT_ID]}"
        found.append((ModelReport(name, evaluation, training, run_id), files))
    return found
