"""Where the results of trained and tested models are found: files of paths, or MLflow runs."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from llm_ctr_pipeline.metrics.comparison import (
    FEWEST_MODELS,
    ModelReport,
    NotComparableError,
    ScoredModel,
    check_reports,
)
from llm_ctr_pipeline.params import PATHS, CompareParams

TRAINING_PIPELINES = {
    "deepfm": "train_deepfm",
    "single_phase": "train",
    "two_phase": "train_two_phase",
    "two_phase_finetuned": "train_two_phase_finetuned",
}
TRAINING_RESULTS = "training_results.json"
BESIDE_THE_LOG = ("x1", "x2")  # no path is tested on them when it was trained
SHORT_ID = 8  # letters of a run's id that tell it from others


class Source(Protocol):
    """One model's result files."""

    def report(self, name: str) -> dict[str, Any] | None:
        """Read a report; None if there is none."""

    def predictions(self, name: str) -> pd.DataFrame | None:
        """Read predictions; None if there are none."""


@dataclass(frozen=True)
class PathFiles:
    """The files of a training path.

    Attributes:
        reports: its folder of reports.
        outputs: its folder of predictions.
    """

    reports: Path
    outputs: Path

    def report(self, name: str) -> dict[str, Any] | None:
        """Read a report; None if there is none."""
        return _read_json(self.reports / name)

    def predictions(self, name: str) -> pd.DataFrame | None:
        """Read predictions; None if there are none."""
        file = self.outputs / name
        return pd.read_parquet(file) if file.exists() else None


@dataclass(frozen=True)
class MlflowRun:
    """The artifacts of an MLflow run.

    Attributes:
        run_id: its id.
    """

    run_id: str

    def report(self, name: str) -> dict[str, Any] | None:
        """Read a report; None if there is none."""
        with tempfile.TemporaryDirectory() as scratch:
            file = self._fetch(name, scratch)
            return _read_json(file) if file else None

    def predictions(self, name: str) -> pd.DataFrame | None:
        """Read predictions; None if there are none."""
        with tempfile.TemporaryDirectory() as scratch:
            file = self._fetch(name, scratch)
            return pd.read_parquet(file) if file else None

    def _fetch(self, name: str, scratch: str) -> Path | None:
        # a bar for each of three small files says nothing
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        client = mlflow.MlflowClient()
        if name not in {artifact.path for artifact in client.list_artifacts(self.run_id)}:
            return None
        return Path(client.download_artifacts(self.run_id, name, scratch))


@dataclass(frozen=True)
class FoundModel:
    """A model whose reports were found.

    Attributes:
        report: what they say.
        source: where its predictions are.
    """

    report: ModelReport
    source: Source


@dataclass(frozen=True)
class FoundModels:
    """All models to compare.

    Attributes:
        models: in the order asked for.
        baseline: the name of the one that the others are compared with.
        missing: the command that makes the results, for each path that has none.
    """

    models: list[FoundModel]
    baseline: str
    missing: dict[str, str]

    def score(self, settings: CompareParams) -> list[ScoredModel]:
        """Read the predictions.

        Raises:
            NotComparableError: Predictions are missing where there is a report.
        """
        return [_score(found, predictions_name(settings)) for found in self.models]


def find_models(outputs: Path, reports: Path, settings: CompareParams) -> FoundModels:
    """Find the models that the settings name, and check that their reports can be compared.

    Args:
        outputs: the folder with one folder of predictions a path.
        reports: the folder with one folder of reports a path.
        settings: what to compare.

    Returns:
        The models with their reports; predictions are not read yet.

    Raises:
        NotComparableError: Results are missing, or were not made on the same rows.
    """
    if settings.run_ids:
        models = _find_runs(settings)
        missing: dict[str, str] = {}
    else:
        models, missing = _find_paths(outputs, reports, settings)
    baseline = _baseline_name([found.report for found in models], settings.baseline)
    check_reports([found.report for found in models], baseline)
    return FoundModels(models, baseline, missing)


def evaluation_name(settings: CompareParams) -> str:
    """The file name of a test's report."""
    return f"evaluation_{settings.dataset}_{settings.split}.json"


def predictions_name(settings: CompareParams) -> str:
    """The file name of a test's predictions."""
    return f"{settings.dataset}_{settings.split}_predictions.parquet"


def _find_paths(
    outputs: Path, reports: Path, settings: CompareParams
) -> tuple[list[FoundModel], dict[str, str]]:
    """Read the reports of the paths; of those that have none, the commands that make them."""
    found, missing = [], {}
    for path in settings.path_names or PATHS:
        source = PathFiles(reports / path, outputs / path)
        evaluation = source.report(evaluation_name(settings))
        training = source.report(TRAINING_RESULTS)
        has_predictions = (source.outputs / predictions_name(settings)).exists()
        if evaluation is None or training is None or not has_predictions:
            missing[path] = _command(path, settings, trained=training is not None)
        else:
            found.append(FoundModel(ModelReport(path, path, evaluation, training), source))
    wanted = {*settings.path_names, settings.baseline} & {*missing}
    if wanted or len(found) < FEWEST_MODELS:
        commands = "; ".join(
            f"for {path} run `{command}`"
            for path, command in missing.items()
            if path in wanted or len(found) < FEWEST_MODELS
        )
        raise NotComparableError(
            f"a comparison needs the results of {FEWEST_MODELS} models on {settings.dataset} "
            f"{settings.split}, one of them {settings.baseline}, and some are missing: {commands}"
        )
    return found, missing


def _command(path: str, settings: CompareParams, *, trained: bool) -> str:
    """The command that makes a path's results."""
    train = f"kedro run --pipeline={TRAINING_PIPELINES[path]}"
    asked = {"path": path, "dataset": settings.dataset, "split": settings.split}
    chosen = ",".join(f"evaluation.{key}={value}" for key, value in asked.items())
    evaluate = f"kedro run --pipeline=evaluate --params {chosen}"
    if trained:
        return evaluate
    tested_by_training = settings.split == "test" and settings.dataset not in BESIDE_THE_LOG
    return train if tested_by_training else f"{train} && {evaluate}"


def _find_runs(settings: CompareParams) -> list[FoundModel]:
    """Read the reports of MLflow runs."""
    reports = []
    for run_id in settings.run_ids:
        source = MlflowRun(run_id)
        try:
            evaluation = source.report(evaluation_name(settings))
            training = source.report(TRAINING_RESULTS)
        except MlflowException as error:
            raise NotComparableError(
                f"compare.runs names {run_id}, which cannot be read at "
                f"{mlflow.get_tracking_uri()} ({error.message}): copy the id from `mlflow ui`"
            ) from error
        if evaluation is None or training is None:
            absent = TRAINING_RESULTS if evaluation else evaluation_name(settings)
            raise NotComparableError(
                f"the MLflow run {run_id} has no artifact {absent}: name runs that trained a "
                f"model and tested it on {settings.dataset} {settings.split}"
            )
        reports.append((run_id, evaluation, training))
    paths = [evaluation["path"] for _, evaluation, _ in reports]
    found = []
    for run_id, evaluation, training in reports:
        path = evaluation["path"]
        name = path if paths.count(path) == 1 else f"{path} {run_id[:SHORT_ID]}"
        report = ModelReport(name, path, evaluation, training, run_id)
        found.append(FoundModel(report, MlflowRun(run_id)))
    return found


def _baseline_name(reports: list[ModelReport], baseline: str) -> str:
    """The name of the model that a path or the id of a run stands for."""
    names = [
        report.name
        for report in reports
        if baseline in {report.name, report.path} or report.run_id == baseline
    ]
    if len(names) == 1:
        return names[0]
    choices = ", ".join(report.run_id or report.name for report in reports)
    what = f"the path of {len(names)} of the runs" if names else "none of those compared"
    raise NotComparableError(
        f"compare.baseline is {baseline}, which is {what}: choose one of {choices}"
    )


def _score(found: FoundModel, name: str) -> ScoredModel:
    predictions = found.source.predictions(name)
    if predictions is None:
        raise NotComparableError(f"{found.report.name} has a report but no {name}: test it again")
    return ScoredModel(
        found.report, predictions["label"].to_numpy(), predictions["probability"].to_numpy()
    )


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text())
    return content
