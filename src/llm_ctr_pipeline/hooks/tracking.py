"""The MLflow run beside a Kedro run."""

import atexit
import logging
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import mlflow
import requests
from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from kedro_mlflow.io.metrics import MlflowMetricsHistoryDataset
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from llm_ctr_pipeline.cli import refusal_in
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.hooks.database import bring_home, provide_database
from llm_ctr_pipeline.hooks.run_facts import (
    changed_settings,
    command_of,
    git_tags,
    groups_of,
    settings_in_files,
)
from llm_ctr_pipeline.params import EvaluationParams
from llm_ctr_pipeline.redaction import redacted
from llm_ctr_pipeline.reporting.pages.facts import ChangedSetting
from llm_ctr_pipeline.resolvers import artifact_folder, project_root, tracking_uri
from llm_ctr_pipeline.tracking.abandoned import end_abandoned, process_tags
from llm_ctr_pipeline.tracking.effective import NOT_YET_KNOWN, settings_of_trainings, trains
from llm_ctr_pipeline.tracking.inputs import inputs_of
from llm_ctr_pipeline.tracking.logged_model import log_checkpoint, log_test
from llm_ctr_pipeline.tracking.naming import TRAINING, kind_of, name_of, note_of, paths_of
from llm_ctr_pipeline.tracking.outbox import (
    LOCAL_SERVER,
    WAITING,
    Outbox,
    TrackingError,
    limit_patience,
    reason_of,
)
from llm_ctr_pipeline.training.history import TrainingResults

if TYPE_CHECKING:  # it brings PyTorch along, and every command imports this module
    from llm_ctr_pipeline.training.checkpoint import Checkpoint

ANSWER_SECONDS = 5
# MLflow's pages are otherwise those for chat applications, until one of these was opened.
OF_TRAINING = "?workflowType=machine_learning"
logger = logging.getLogger(__name__)


class TrackingHook(MlflowHook):  # type: ignore[misc]
    """kedro-mlflow's hook, with the settings in use, names, tags, inputs and the true status.

    Attributes:
        address: Where MLflow shows the run that ended last; None for none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.run_id: str | None = None
        self._is_mlflow_enabled: bool = True
        self._running = False
        self._wanted = True
        self._outbox: Outbox | None = None
        self._catalog: DataCatalog | None = None
        self._loader: OmegaConfigLoader | None = None
        self.address: str | None = None
        self._model_id: str | None = None  # of the model that this run trained
        atexit.register(self._end_as_killed)

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read MLflow's configuration and open its database, or find its server.

        Raises:
            TrackingError: It cannot be used, or `tracking` is neither true nor false.
        """
        assert isinstance(context.config_loader, OmegaConfigLoader)  # noqa: S101 - by settings.py
        self._loader = context.config_loader
        self._wanted = _is_wanted(self._loader)
        limit_patience()
        uri = tracking_uri()
        if not self._wanted:
            mlflow.set_tracking_uri(uri)  # runs may be compared
            return
        with _told(uri):
            if uri.startswith("http"):
                with suppress(requests.exceptions.SSLError):  # MLflow may be told to pass over it
                    requests.get(uri, timeout=ANSWER_SECONDS, stream=True).close()
            provide_database(uri)
            database = Path(project_root()) / "mlflow.db"
            if uri == f"sqlite:///{database}":
                bring_home(database, Path(artifact_folder() or ""))
            super().after_context_created(context)

    @hook_impl
    def after_catalog_created(self) -> None:
        """Leave the catalog as it is.

        kedro-mlflow would make every entry, and import what each needs, to name metrics that have
        no `prefix` or `key`; ours say theirs.
        """

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Start the MLflow run; name it, describe it, and tag it with what it is and where it runs.

        Raises:
            TrackingError: No run can be started.
        """
        self.run_id = self._model_id = self.address = None  # of an earlier run in this process
        self._catalog = catalog
        if not self._wanted:
            self._is_mlflow_enabled = False
            for name in pipeline.datasets():
                dataset: Any = catalog.get(name)
                if isinstance(dataset, MlflowMetricsHistoryDataset):
                    catalog[name] = MemoryDataset()  # it would make a database to log nothing to
                elif hasattr(dataset, "_logging_activated"):
                    dataset._logging_activated = False
            return
        kind = kind_of(pipeline)
        # MLflow measures the machine while a training goes on.
        os.environ[MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.name] = str(kind == TRAINING)
        self._outbox = outbox = Outbox(Path(project_root()) / WAITING)
        try:
            with _told(tracking_uri()):
                outbox.open()
                apart = {"run_id": None, "runner": None}  # they say nothing of a run to its readers
                super().before_pipeline_run(run_params | apart, pipeline, catalog)
        except BaseException:
            self._close()
            raise
        self._running = self._is_mlflow_enabled
        if not self._running:
            self._close()
            return
        _exit_on_sigterm()
        settings = settings_of_trainings(pipeline, catalog)
        names = {name.rpartition(".")[2] for name in settings} | NOT_YET_KNOWN
        mlflow.set_tags(process_tags())
        mlflow.set_tags(self._tags_of(kind, run_params, pipeline, catalog, names))
        mlflow.log_params(settings)
        if self.mlflow_config.tracking.run.id is None and not self._already_active_mlflow:
            outbox.replaceable = self.run_id
        experiment_id = self.mlflow_config.tracking.experiment._experiment.experiment_id
        end_abandoned(experiment_id, str(self.run_id))

    def _tags_of(
        self,
        kind: str,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        catalog: DataCatalog,
        settings: set[str],
    ) -> dict[str, str]:
        """What a run is called, which kind it is, and how it was started."""
        loader = self._loader
        assert loader is not None  # noqa: S101 - a context was created
        env, command = run_params.get("env"), command_of(run_params)
        groups, used = groups_of(pipeline), loader["parameters"]

        def changed_from(named_env: str | None) -> list[ChangedSetting]:
            files = settings_in_files(loader, named_env)
            changed = changed_settings(files, used, groups)
            if kind != TRAINING:
                return [*changed]
            return [one for one in changed if one.name.rpartition(".")[2] in settings]

        name = name_of(kind, pipeline, catalog, env, changed_from(None if env == "local" else env))
        changed = changed_from(None)
        tags = git_tags(Path(run_params["project_path"])) | {
            "kind": kind,
            "kedro_command": command,
            "mlflow.runName": name,
            "mlflow.note.content": note_of(name, kind, command, changed),
        }
        paths = paths_of(pipeline, catalog)
        return tags | ({"path": ",".join(paths)} if paths else {})

    @hook_impl
    def before_node_run(
        self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Log the settings that a training uses, and the rows that are trained or tested on."""
        super().before_node_run(node, catalog, {}, is_async)  # no parameters of its
        if not self._running:
            return
        summaries = [each for each in inputs.values() if isinstance(each, DatasetSummary)]
        tests = [each for each in inputs.values() if isinstance(each, EvaluationParams)]
        client, run_id = mlflow.MlflowClient(), str(self.run_id)
        if trains(node):
            for summary in summaries:
                client.log_inputs(run_id, inputs_of(summary, ("train", "valid")))
        elif any(name.endswith("_predictions") for name in node.outputs):
            for summary, test in zip(summaries, tests, strict=True):
                client.log_inputs(run_id, inputs_of(summary, [test.split]))

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Tag the run with the data that its model was trained or tested on."""
        if self._running and dataset_name in {"summary", "evaluated_summary"}:
            mlflow.set_tags(
                {
                    "dataset": data.dataset,
                    "data_source": data.source,
                    "data_fingerprint": data.fingerprint,
                }
            )

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log the model and its test, and tag the run with what tells trainings apart.

        Figures are in the report, which is logged as the page it is.
        """
        if self._running and isinstance(data, TrainingResults):
            mlflow.set_tags({"settings": data.settings, "seed": data.seed})
            for name, value in data.stages[-1].ran.model_dump(exclude_none=True).items():
                group = "llm" if name == "attention" else "training"
                mlflow.log_param(f"{group}.{name}", value)  # what `auto` came to
        if self._running and dataset_name.endswith(".best_model"):
            self._log_model(dataset_name, data)
        if self._running and self._model_id and dataset_name.endswith(".evaluation_test"):
            log_test(data, str(self.run_id), self._model_id)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """End the MLflow run as finished."""
        if self._running:
            self.address = self._find_address()
        super().after_pipeline_run(run_params, pipeline, catalog)
        self._close()

    @hook_impl
    def on_pipeline_error(
        self,
        error: Exception,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        catalog: DataCatalog,
    ) -> None:
        """End the MLflow run as failed; delete it where it was refused before it did anything."""
        super().on_pipeline_error(error, run_params, pipeline, catalog)
        outbox = self._outbox
        self._close()
        if outbox is not None and outbox.replaceable == self.run_id and refusal_in(error):
            _delete_refused(str(self.run_id), error)

    def _find_address(self) -> str:
        assert self._outbox is not None  # noqa: S101 - a run is open
        begun, uri = str(self.run_id), tracking_uri()
        server = redacted(uri).rstrip("/") if uri.startswith("http") else LOCAL_SERVER
        experiment = self.mlflow_config.tracking.experiment._experiment.experiment_id
        run_id = self._outbox.moved.get(begun, begun)
        return f"{server}/#/experiments/{experiment}/runs/{run_id}{OF_TRAINING}"

    def _log_model(self, name: str, checkpoint: "Checkpoint") -> None:
        """Log the checkpoint as a model; its files alone, where MLflow cannot take a model."""
        assert self._outbox is not None  # noqa: S101 - a run is open
        assert self._catalog is not None  # noqa: S101
        folder = Path(str(self._catalog.get(name)._filepath))  # type: ignore[union-attr]
        begun = str(self.run_id)
        if self._outbox.is_failing:  # which was told
            mlflow.log_artifact(str(folder))
            return
        try:
            run_id = self._outbox.moved.get(begun, begun)
            self._model_id = log_checkpoint(folder, checkpoint.summary, run_id)
        except Exception as error:  # no training ends for the sake of its log
            logger.warning("Logged as files, not as a model to serve: %s", reason_of(error))
            mlflow.log_artifact(str(folder))

    def _close(self) -> None:
        self._running = False
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def _end_as_killed(self) -> None:
        """End a run that Ctrl-C or SIGTERM cut off; MLflow itself would call it finished."""
        if self._running and mlflow.active_run() is not None:
            mlflow.end_run("KILLED")
        self._close()


def _is_wanted(loader: AbstractConfigLoader) -> bool:
    """Whether runs are to be logged.

    Raises:
        TrackingError: The setting is neither true nor false.
    """
    wanted = (loader["globals"] | (loader.runtime_params or {})).get("tracking", True)
    if not isinstance(wanted, bool):
        raise TrackingError(f"tracking is {wanted!r}: it should be true or false")
    return wanted


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """Say in one line that MLflow cannot be used, and what helps.

    Raises:
        TrackingError: What stands in the block failed.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        named = " (MLFLOW_TRACKING_URI)" if os.environ.get("MLFLOW_TRACKING_URI") else ""
        raise TrackingError(
            f"MLflow at {redacted(uri)}{named} cannot be used ({reason_of(error)}): make that "
            "work, set MLFLOW_TRACKING_URI to another place, or run without MLflow by `--params "
            "tracking=false`"
        ) from error


def _delete_refused(run_id: str, error: Exception) -> None:
    """Delete a run that a refusal ended, unless it had begun to train or to test.

    Deleted runs stay in MLflow's own list of these, from which they can be restored.
    """
    if isinstance(refusal_in(error), ArithmeticError | MemoryError | ConnectionError):
        return  # it diverged, or its memory or another process was lost
    client = mlflow.MlflowClient()
    with suppress(Exception):  # what is refused is told all the same
        metrics = client.get_run(run_id).data.metrics
        if all(name.startswith("system/") for name in metrics):
            client.delete_run(run_id)


def _exit_on_sigterm() -> None:
    """Let SIGTERM unwind the process as Ctrl-C does, so that the run's end is recorded."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, leave)
