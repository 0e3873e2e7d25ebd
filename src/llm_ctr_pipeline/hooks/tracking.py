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
from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from kedro_mlflow.io.metrics import MlflowMetricsHistoryDataset
from mlflow.exceptions import MlflowException
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from llm_ctr_pipeline.hooks.database import bring_home, provide_database
from llm_ctr_pipeline.hooks.run_facts import git_tags
from llm_ctr_pipeline.redaction import redacted
from llm_ctr_pipeline.resolvers import artifact_folder, project_root, tracking_uri
from llm_ctr_pipeline.tracking.logged_model import log_checkpoint, log_test
from llm_ctr_pipeline.tracking.outbox import (
    WAITING,
    Outbox,
    TrackingError,
    limit_patience,
    reason_of,
)
from llm_ctr_pipeline.training.history import TrainingResults
from llm_ctr_pipeline.training.settings import PATHS, Stages

if TYPE_CHECKING:  # it brings PyTorch along, and every command imports this module
    from llm_ctr_pipeline.training.checkpoint import Checkpoint

ANSWER_SECONDS = 5
logger = logging.getLogger(__name__)


class TrackingHook(MlflowHook):  # type: ignore[misc]
    """kedro-mlflow's hook, with typed parameters flat, tags, and the true status at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.run_id: str | None = None
        self._is_mlflow_enabled: bool = True
        self._running = False
        self._wanted = True
        self._outbox: Outbox | None = None
        self._catalog: DataCatalog | None = None
        self._model_id: str | None = None  # of the model that this run trained
        atexit.register(self._end_as_killed)

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read MLflow's configuration and open its database, or find its server.

        Raises:
            TrackingError: It cannot be used, or `tracking` is neither true nor false.
        """
        self._wanted = _is_wanted(context.config_loader)
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
        """Start the MLflow run and tag it with the path and the git commit.

        Raises:
            TrackingError: No run can be started.
        """
        self.run_id = self._model_id = None  # of an earlier run in this process
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
        self._outbox = outbox = Outbox(Path(project_root()) / WAITING)
        try:
            with _told(tracking_uri()):
                outbox.open()
                super().before_pipeline_run(run_params, pipeline, catalog)
        except BaseException:
            self._close()
            raise
        self._running = self._is_mlflow_enabled
        if not self._running:
            self._close()
            return
        if self.mlflow_config.tracking.run.id is None and not self._already_active_mlflow:
            outbox.replaceable = self.run_id
        _exit_on_sigterm()
        mlflow.set_tags(git_tags(Path(run_params["project_path"])))
        paths = {node.namespace for node in pipeline.nodes if node.namespace in PATHS}
        if "params:evaluation" in pipeline.inputs():
            paths = {catalog.load("params:evaluation").path}
        if paths:
            path = ",".join(sorted(paths))
            mlflow.set_tags({"path": path, "mlflow.runName": path})

    @hook_impl
    def before_node_run(
        self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Log the node's parameters, each key of a typed group as a parameter of its own."""
        plain = {name: _plain(value) for name, value in inputs.items()}
        super().before_node_run(node, catalog, plain, is_async)

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
        if self._running and dataset_name.endswith(".best_model"):
            self._log_model(dataset_name, data)
        if self._running and self._model_id and dataset_name.endswith(".evaluation_test"):
            log_test(data, str(self.run_id), self._model_id)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """End the MLflow run as finished."""
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
        """End the MLflow run as failed."""
        super().on_pipeline_error(error, run_params, pipeline, catalog)
        self._close()

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


def _plain(value: Any) -> Any:
    """A typed group as JSON types; of a stage what it sets itself, since the rest is training's."""
    if not isinstance(value, BaseModel):
        return value
    return value.model_dump(mode="json", exclude_unset=isinstance(value, Stages))


def _exit_on_sigterm() -> None:
    """Let SIGTERM unwind the process as Ctrl-C does, so that the run's end is recorded."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, leave)
