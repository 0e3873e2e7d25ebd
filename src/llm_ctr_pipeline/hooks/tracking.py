"""The MLflow run beside a Kedro run."""

import atexit
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any

import mlflow
import plotly.graph_objects as go
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from pydantic import BaseModel

from llm_ctr_pipeline.hooks.database import provide_database
from llm_ctr_pipeline.resolvers import tracking_uri
from llm_ctr_pipeline.training.settings import PATHS, Stages


class TrackingHook(MlflowHook):  # type: ignore[misc]
    """kedro-mlflow's hook, with typed parameters flat, tags, and the true status at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._running = False
        atexit.register(self._end_as_killed)

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read MLflow's configuration and open its database."""
        provide_database(tracking_uri())
        super().after_context_created(context)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Start the MLflow run and tag it with the path and the git commit."""
        super().before_pipeline_run(run_params, pipeline, catalog)
        self._running = self._is_mlflow_enabled
        if not self._running:
            return
        _exit_on_sigterm()
        mlflow.set_tags(_git_tags(Path(run_params["project_path"])))
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
        """Log a figure as a page, which MLflow shows; its JSON would be shown as text."""
        if self._running and isinstance(data, go.Figure):
            name = dataset_name.rpartition(".")[2]
            mlflow.log_text(data.to_html(include_plotlyjs=True), f"figures/{name}.html")

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """End the MLflow run as finished."""
        super().after_pipeline_run(run_params, pipeline, catalog)
        self._running = False

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
        self._running = False

    def _end_as_killed(self) -> None:
        """End a run that Ctrl-C or SIGTERM cut off; MLflow itself would call it finished."""
        if self._running and mlflow.active_run() is not None:
            mlflow.end_run("KILLED")


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


def _git_tags(root: Path) -> dict[str, str]:
    """The commit that the code is of, and whether it was changed since."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown"}
