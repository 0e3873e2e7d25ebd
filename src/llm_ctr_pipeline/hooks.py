"""What happens around a run: checks before it, MLflow beside it, a summary after it."""

import atexit
import difflib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click
import mlflow
import plotly.graph_objects as go
from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.validation.type_extractor import TypeExtractor
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from rich.console import Console

from llm_ctr_pipeline.summary import summary_of_run

# Understood by the configuration although no parameter has the name.
RUNTIME_ONLY = ("raw_dir", "mlflow_run_id")


def project_root() -> str:
    """The project's root folder: the nearest above the working directory with a conf folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").exists() and (folder / "conf" / "base").is_dir():
            return folder.as_posix()
    return here.as_posix()


def tracking_uri() -> str:
    """Where MLflow keeps its runs: the shell's choice, or a database in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root()}/mlflow.db"


RESOLVERS = {"project_root": project_root, "tracking_uri": tracking_uri}


class PreflightError(click.ClickException):
    """The run asked for cannot work, found before any node ran; shown without a traceback."""


class PreflightHook:
    """Refuses a run that cannot work, before MLflow hears of it and before minutes are spent."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse names of nothing (environment, pipeline, parameter) and values out of bounds."""
        loader = context.config_loader
        assert isinstance(loader, OmegaConfigLoader)  # noqa: S101 - what settings.py configures
        _check_environment(loader)
        _check_pipelines()
        runtime = loader.runtime_params or {}
        configured = _configured_parameters(loader)
        groups = ", ".join(sorted({*configured, *RUNTIME_ONLY}))
        for name in _unknown(runtime, configured | dict.fromkeys(RUNTIME_ONLY)):
            raise PreflightError(
                f"--params names {name}, which is no parameter: {_suggest(name, configured)}"
                f"the groups are {groups}; the README has a table of settings"
            )
        _check_values(loader["parameters"])

    @hook_impl(tryfirst=True)  # before the MLflow run is started
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse a missing input, a missing device and a kernel that cannot run."""
        inputs = pipeline.inputs()
        for name in sorted(inputs):
            if _is_made_by_a_pipeline(name, catalog) and not catalog.exists(name):
                raise PreflightError(_missing_input(name, catalog))
        if {"params:training", "params:llm"} <= inputs:
            _check_device(catalog.load("params:training"), catalog.load("params:llm"))


def _check_environment(loader: OmegaConfigLoader) -> None:
    """Raise where `--env` names no folder of the configuration."""
    folders = {path.name for path in Path(loader.conf_source).glob("*/")}
    if loader.env and loader.env not in folders:
        raise PreflightError(
            f"--env names {loader.env}, which is no environment: there are "
            f"{', '.join(sorted(folders))}"
        )


def _check_pipelines() -> None:
    """Raise where the run asks for a pipeline that does not exist."""
    try:
        dict(pipelines)  # imports those that the run asks for
    except ImportError as error:
        if error.__cause__ is not None:  # it exists, and its import failed
            raise
        pipelines.set_requested(None)
        raise PreflightError(
            f"a pipeline of this run does not exist ({error}): there are "
            f"{', '.join(sorted(pipelines))}"
        ) from error


def _unknown(runtime: dict[str, Any], configured: dict[str, Any]) -> Iterator[str]:
    """The full names in `--params` that the configuration does not hold."""
    for name, value in runtime.items():
        if name not in configured:
            yield name
        elif isinstance(value, dict) and isinstance(configured[name], dict):
            yield from (f"{name}.{key}" for key in _unknown(value, configured[name]))


def _suggest(name: str, parameters: dict[str, Any]) -> str:
    """The setting that was probably meant: `epochs` is `training.epochs`."""
    # Of two with the same last part the one less deep prevails, the later entry in the dict.
    found = sorted(_full_names(parameters), key=lambda full: -full.count("."))
    full_names = {full.rpartition(".")[2]: full for full in found}
    close = difflib.get_close_matches(name.rpartition(".")[2], full_names, n=1)
    return f"did you mean {full_names[close[0]]}? " if close else ""


def _full_names(parameters: dict[str, Any]) -> Iterator[str]:
    """The names of all groups and settings."""
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from (f"{name}.{key}" for key in _full_names(value))
    yield from parameters


def _configured_parameters(loader: OmegaConfigLoader) -> dict[str, Any]:
    """The parameters in the configuration's files, without `--params`."""
    files = OmegaConfigLoader(
        conf_source=loader.conf_source,
        env=loader.env,
        base_env=loader.base_env,
        default_run_env=loader.default_run_env,
        merge_strategy=loader.merge_strategy,
        custom_resolvers=RESOLVERS,
    )
    return dict(files["parameters"])


def _check_values(parameters: dict[str, Any]) -> None:
    """Validate the groups as Kedro will, to say what is wrong in one line and no traceback."""
    types = TypeExtractor(dict(pipelines)).extract_types_from_pipelines()
    for group, type_ in types.items():
        value: Any = parameters
        for key in group.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        try:
            TypeAdapter(type_).validate_python(value)
        except ValidationError as error:
            faults = "; ".join(_fault(group, details) for details in error.errors())
            raise PreflightError(f"{faults}; the README has a table of settings") from error


def _fault(group: str, details: ErrorDetails) -> str:
    """One fault of a group: `training.epochs is -1: it should be greater than or equal to 1`."""
    name = ".".join((group, *(str(key) for key in details["loc"])))
    if details["type"] == "extra_forbidden":
        return f"{name} is no parameter"
    given = details["input"]
    shown = name if isinstance(given, dict) else f"{name} is {given!r}"
    return f"{shown}: {details['msg'].removeprefix('Value error, ').replace('Input', 'it', 1)}"


def _is_made_by_a_pipeline(name: str, catalog: DataCatalog) -> bool:
    """Whether a dataset is neither a parameter nor raw data, which preprocessing itself checks."""
    metadata = getattr(catalog.get(name), "metadata", None) or {}
    layer = metadata.get("kedro-viz", {}).get("layer")
    return not name.startswith("params:") and layer != "raw"


def _missing_input(name: str, catalog: DataCatalog) -> str:
    """Say which dataset is missing, where it should lie and which command makes it."""
    place = getattr(catalog.get(name), "_filepath", None)
    pipelines.set_requested(None)  # look among all, not just those of this run
    makers = [
        maker
        for maker in pipelines
        if maker != "__default__" and _makes(pipelines[maker], name, place, catalog)
    ]
    cure = f"run `kedro run{f' --pipeline={makers[0]}' if makers else ''}` first"
    where = place or "its place in the catalog"
    return f"{name.replace('_', ' ').replace('.', ' ')} not found at {where}: {cure}"


def _makes(pipeline: Pipeline, name: str, place: Any, catalog: DataCatalog) -> bool:
    """Whether a pipeline makes a dataset: under its name, or under another at the same place."""
    outputs = pipeline.all_outputs()
    places = {getattr(catalog.get(output), "_filepath", None) for output in outputs}
    return name in outputs or (place is not None and place in places)


def _check_device(training: Any, llm: Any) -> None:
    """Raise where the device, the precision or the attention kernel cannot be had."""
    from llm_ctr_pipeline.models.kernels import KernelError, resolve_kernel
    from llm_ctr_pipeline.training.devices import DeviceError, resolve_device, resolve_precision

    try:
        device = resolve_device(training.device)
        resolve_precision(training.precision, device)
        resolve_kernel(llm.attention, device)
    except (DeviceError, KernelError) as error:
        raise PreflightError(str(error)) from error


class TrackingHook(MlflowHook):  # type: ignore[misc]
    """kedro-mlflow's hook, with typed parameters flat, tags, and the true status at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._running = False
        atexit.register(self._end_as_killed)

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
        paths = {node.namespace for node in pipeline.nodes if node.namespace}
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
        plain = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in inputs.items()
        }
        super().before_node_run(node, catalog, plain, is_async)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Tag the run with the data that its model was trained or tested on."""
        if self._running and dataset_name.endswith("_feature_map"):
            mlflow.set_tags(
                {
                    "dataset": data["dataset"],
                    "data_source": data["fit_on"]["source"],
                    "data_fingerprint": data["fingerprint"],
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


class SummaryHook:
    """Says after a run what came out and where it lies."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print the summary, if the run tested a model."""
        text = summary_of_run(pipeline, catalog)
        if text:
            Console().print(text, highlight=False, soft_wrap=True)
