"""Which models are compared: those of training paths by folder, or those of MLflow runs.

Of a path's other seeds the trainings are MLflow's too: its folder holds the last one alone.
"""

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from llm_ctr_pipeline.data.storage.record_text import RecordT
from llm_ctr_pipeline.params import FEWEST_COMPARED, CompareParams
from llm_ctr_pipeline.redaction import redacted
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
        if settings.seeds > 1:
            found = _with_seeds(found, settings)
    check_reports([report for report, _ in found], settings.baseline)
    return found, missing


def _find_paths(
    outputs: Path, reports: Path, settings: CompareParams
) -> tuple[list[FoundModel], dict[str, str]]:
    found: list[FoundModel] = []
    missing = {}
    for name in settings.path_names or PATHS:
        path, _, served = name.partition("/")
        asked = settings.dataset, settings.split
        model = find_path(outputs / path, reports / path, *asked, served)
        if model is None:
            trained = (reports / path / TRAINING_RESULTS).exists()
            missing[name] = _command(path, settings, served, trained=trained)
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


def _command(path: str, settings: CompareParams, served: str, *, trained: bool) -> str:
    """The command that makes a path's results."""
    train = f"kedro run --pipeline={pipeline_of(path)}"
    asked = {"path": path, "dataset": settings.dataset, "split": settings.split}
    if served:
        asked["serving_precision"] = served
    chosen = ",".join(f"evaluation.{key}={value}" for key, value in asked.items())
    evaluate = f"kedro run --pipeline=evaluate --params {chosen}"
    if trained:
        return evaluate
    enough = _tested_by_training(settings) and not served
    return train if enough else f"{train} && {evaluate}"


def _tested_by_training(settings: CompareParams) -> bool:
    return settings.split == "test" and settings.dataset not in BESIDE_THE_LOG


def _with_seeds(found: list[FoundModel], settings: CompareParams) -> list[FoundModel]:
    """Add trainings with the same settings and other seeds to each path's own.

    Raises:
        NotComparableError: There are not as many as asked for.
    """
    if not _tested_by_training(settings):
        raise NotComparableError(
            f"compare.seeds is {settings.seeds}, and other seeds' results are those that training "
            f"leaves: of the log's test split, not of {settings.dataset} {settings.split}; compare "
            "with compare.seeds=1, or name runs in compare.runs"
        )
    trainings: list[FoundModel] = []
    lacking: list[tuple[int, str]] = []
    for own in found:
        path, training = own[0].path, own[0].training
        try:
            several = [own, *islice(_other_seeds(path, training, settings), settings.seeds - 1)]
        except MlflowException as error:
            raise NotComparableError(
                f"compare.seeds needs the runs in MLflow, and {_place()} cannot be read "
                f"({redacted(error.message)}): make that work, or compare with compare.seeds=1"
            ) from error
        seeds = {report.training.seed for report, _ in several}
        free = (seed for seed in count(min(seeds)) if seed not in seeds)
        lacking += [(seed, path) for seed in islice(free, settings.seeds - len(seeds))]
        trainings += several
    if lacking:
        # By seed: the two-phase paths start from the deepfm that was trained last.
        commands = " && ".join(
            f"kedro run --pipeline={pipeline_of(path)} --params training.seed={seed}"
            for seed, path in sorted(lacking, key=lambda one: (one[0], PATHS.index(one[1])))
        )
        raise NotComparableError(
            f"compare.seeds is {settings.seeds}, and MLflow at {_place()} has "
            "fewer finished trainings of other seeds with the settings of those in the folders: "
            f"with these settings run `{commands}`"
        )
    return trainings


def _other_seeds(
    path: str, training: TrainingResults, settings: CompareParams
) -> Iterator[FoundModel]:
    """Yield the latest MLflow run of each other seed with the same settings."""
    seeds = {str(training.seed)}
    for run in _runs_like(path, training):
        seed = run.data.tags.get("seed")
        if seed is None or seed in seeds:
            continue
        run_id = run.info.run_id
        if not _names(settings) <= _artifacts(run_id):  # MLflow has not got all of it
            continue
        seeds.add(seed)
        yield _found(f"{path} {run_id[:SHORT_ID]}", run_id, _reports(run_id, settings), settings)


def _runs_like(path: str, training: TrainingResults) -> list[Run]:
    """The finished MLflow runs that trained a path with the same settings, the latest first."""
    client = mlflow.MlflowClient()
    return list(
        client.search_runs(
            [experiment.experiment_id for experiment in client.search_experiments()],
            f"attributes.status = 'FINISHED' and tags.path = '{path}' "
            f"and tags.settings = '{training.settings}'",
            order_by=["attributes.start_time DESC"],
        )
    )


def _place() -> str:
    return redacted(mlflow.get_tracking_uri())


def _find_runs(settings: CompareParams) -> list[FoundModel]:
    read = [_reports(run_id, settings) for run_id in settings.run_ids]
    paths = [evaluation.name for evaluation, _ in read]
    found: list[FoundModel] = []
    for run_id, path, reports in zip(settings.run_ids, paths, read, strict=True):
        name = path if paths.count(path) == 1 else f"{path} {run_id[:SHORT_ID]}"
        found.append(_found(name, run_id, reports, settings))
    return found


def _found(
    name: str, run_id: str, reports: tuple[Evaluation, TrainingResults], settings: CompareParams
) -> FoundModel:
    predictions = predictions_name(settings.dataset, settings.split)
    return ModelReport(name, *reports, run_id), partial(_artifact, run_id, predictions)


def _reports(run_id: str, settings: CompareParams) -> tuple[Evaluation, TrainingResults]:
    tested = evaluation_name(settings.dataset, settings.split)
    return (
        _report(run_id, Evaluation, tested, settings),
        _report(run_id, TrainingResults, TRAINING_RESULTS, settings),
    )


def _report(run_id: str, record: type[RecordT], name: str, settings: CompareParams) -> RecordT:
    try:
        content = _artifact(run_id, name)
    except MlflowException as error:
        raise NotComparableError(
            f"compare.runs names {run_id}, which cannot be read at "
            f"{_place()} ({redacted(error.message)}): copy the id from `mlflow ui`"
        ) from error
    if content is None:
        raise NotComparableError(
            f"the MLflow run {run_id} has no artifact {name}: name runs that trained a "
            f"model and tested it on {settings.dataset} {settings.split}"
        )
    return report_of(content, record, name, run_id)


def _names(settings: CompareParams) -> set[str]:
    """The files of a training and its test."""
    asked = settings.dataset, settings.split
    return {TRAINING_RESULTS, evaluation_name(*asked), predictions_name(*asked)}


def _artifacts(run_id: str) -> set[str]:
    return {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run_id)}


def _artifact(run_id: str, name: str) -> bytes | None:
    """Read an artifact of an MLflow run; None if there is none."""
    # A bar for each of three small files says nothing.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if name not in _artifacts(run_id):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        client = mlflow.MlflowClient()
        return Path(client.download_artifacts(run_id, name, scratch)).read_bytes()
