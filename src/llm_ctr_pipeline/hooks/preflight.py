"""Checks before a run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines, settings
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from llm_ctr_pipeline.cli import (
    PATTERNS,
    check_folder,
    in_environment,
    meant,
    message_of,
    no_such_pipeline,
    types_of_settings,
)
from llm_ctr_pipeline.data.errors import RefusedError, StorageError, StoreError
from llm_ctr_pipeline.data.storage.disk import check_space
from llm_ctr_pipeline.data.storage.store_path import parse_path
from llm_ctr_pipeline.given_params import PLACES, RUNTIME_ONLY, below, tree_of
from llm_ctr_pipeline.hooks.missing_inputs import missing_input, unfetched_raw_log
from llm_ctr_pipeline.models.settings import BASELINES
from llm_ctr_pipeline.training.settings import (
    BASELINE_PATHS,
    DISTILLED_PATH,
    LLM_CTR_COMPONENTS,
    Stages,
)

# MLflow's database takes 1 MB before anything is logged.
LEAST_ROOM = 10_000_000
# Of a value that is refused, so many characters are shown.
LONGEST_SHOWN = 60
# What tells the training of a distilled model from that of a language model.
TEACHER = "params:distilled.teacher"
_LONG_WORD = re.compile(rf"(\S{{{LONGEST_SHOWN}}})\S{{{LONGEST_SHOWN},}}")
# How Kedro says that it finds none.
UNKNOWN_PIPELINE = re.compile(r"importing the 'llm_ctr_pipeline\.pipelines\.([^']+)' module")
# Without it MLflow would leave half of its database.
NO_ROOM = "the disk of {folder} has {free} free, and 10 MB are needed at the very least: make room"


class PreflightError(click.ClickException):
    """The run asked for cannot work, found before any node ran; shown without a traceback."""


class PreflightHook:
    """Refuses a run that cannot work, before MLflow hears of it and before minutes are spent."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse a full disk, names of nothing (environment, pipeline) and unfit parameters."""
        try:
            check_space(Path(context.project_path), LEAST_ROOM, NO_ROOM)
        except StorageError as error:
            raise PreflightError(str(error)) from error
        loader = context.config_loader
        assert isinstance(loader, OmegaConfigLoader)  # noqa: S101 - what settings.py configures
        _check_environment(loader)
        _check_pipelines()
        runtime = loader.runtime_params or {}
        _check_names(runtime, _configured_parameters(loader))
        _check_values(loader["parameters"])
        _check_stores(loader["globals"] | runtime)

    @hook_impl(tryfirst=True)  # before the MLflow run is started
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Refuse stale outputs, a missing input or device and a kernel that cannot run."""
        try:
            if run_params.get("only_missing_outputs"):
                _check_kept(pipeline, catalog)
            _check_run(pipeline, catalog)
        except RefusedError as error:
            raise PreflightError(message_of(error, run_params.get("env"))) from error
        except PreflightError as error:
            raise PreflightError(in_environment(error.message, run_params.get("env"))) from error


def _check_run(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Raise where the pipeline cannot run with this catalog on this machine.

    Raises:
        RefusedError: The device, the precision or the attention kernel cannot be had, the
            language model is damaged or does not fit, rows are to be grouped by what is no field,
            or the results to compare are missing or of different rows.
    """
    inputs = pipeline.inputs()
    for name in sorted(inputs):
        if not name.startswith("params:") and not catalog.exists(name):
            raise PreflightError(missing_input(name, catalog))
    unfetched = unfetched_raw_log(pipeline, catalog)
    if unfetched:
        raise PreflightError(unfetched)
    if "summary" in inputs:
        _check_source(catalog)
    _check_groups(inputs, catalog)
    if "params:training" in inputs:
        _check_machine(inputs, catalog)
    if "params:compare" in inputs:
        _check_compared(pipeline, catalog)
    # A teacher's language model is in its checkpoint.
    trained = [set(node.inputs) for node in pipeline.nodes if TEACHER not in node.inputs]
    if any({"params:model", "params:llm"} <= told for told in trained):
        from llm_ctr_pipeline.models.loading import check_llm

        check_llm(catalog.load("params:llm"))


def _check_machine(inputs: set[str], catalog: DataCatalog) -> None:
    """Raise where this machine lacks the device, the precision or the kernel that is needed."""
    from llm_ctr_pipeline.training.machine import devices

    training = catalog.load("params:training")
    devices.resolve_precision(training.precision, devices.resolve_device(training.device))
    using = (name for name in inputs if name.endswith(("evaluation", "params:predict")))
    tested = {catalog.load(name).path for name in using}
    # Testing takes the language model's settings, and a baseline has none; a teacher may have one.
    without = {*BASELINE_PATHS} | ({DISTILLED_PATH} if TEACHER not in inputs else set())
    if "params:llm" in inputs and not (tested and tested <= without):
        llm = catalog.load("params:llm")
        devices.choose_kernel(llm.attention, training, llm.architecture)


def _check_groups(inputs: set[str], catalog: DataCatalog) -> None:
    """Raise where a test is to group its rows by what is no field, which it would say at its end.

    The fields are those of the log, or those counted in the summary of what was made of it.
    """
    summaries = [name for name in ("evaluated_summary", "summary") if name in inputs]
    tests = [catalog.load(name) for name in sorted(inputs) if name.endswith("evaluation")]
    for test in tests:
        if test.group_by is None:
            continue
        if summaries:
            counted = catalog.load(summaries[0]).splits[test.split]
            test.group_position([*counted.unknown_share_by_field])
        elif "params:log" in inputs:
            test.group_position(catalog.load("params:log").names)


def _check_source(catalog: DataCatalog) -> None:
    """Raise where the encoded splits are the generated log's and the settings are for a folder."""
    from llm_ctr_pipeline.data.synthetic.generated_log import SOURCE

    summary = catalog.load("summary")
    is_given = catalog.load("params:raw.source") == "folder"
    is_given = is_given or catalog.load("params:generated_log") is None
    if summary.source == SOURCE and is_given:
        place = parse_path(str(getattr(catalog.get("summary"), "_filepath", ""))).parent
        raise PreflightError(
            f"{place} holds the generated log, and these settings are for a raw log: run "
            "`kedro run --pipeline=preprocess` first"
        )


def _check_environment(loader: OmegaConfigLoader) -> None:
    """Raise where there is no configuration, or `--env` names no folder of it."""
    source = Path(loader.conf_source)
    if "://" not in str(loader.conf_source) and not source.exists():
        raise PreflightError(
            f"there is no configuration at {source}: run this where the folder conf lies, or name "
            "it, or the archive that `kedro package` makes, by --conf-source"
        )
    folders = {path.name for path in source.glob("*/")}
    if loader.env and source.is_dir() and loader.env not in folders:
        raise PreflightError(
            f"--env names {loader.env}, which is no environment: {meant(loader.env, folders)}"
            f"there are {', '.join(sorted(folders))}"
        )


def _check_pipelines() -> None:
    """Raise where the run asks for a pipeline that does not exist."""
    try:
        dict(pipelines)  # imports those that the run asks for
    except ImportError as error:
        unknown = UNKNOWN_PIPELINE.search(str(error))
        if unknown is None or error.__cause__ is not None:  # it exists, and its import failed
            raise
        raise PreflightError(no_such_pipeline(unknown[1])) from error


def _check_names(runtime: dict[str, Any], configured: dict[str, Any]) -> None:
    """Raise where `--params` names what is no setting, whether or not a file sets it."""
    known = configured | dict.fromkeys(RUNTIME_ONLY)
    known |= _with_fields(configured, tree_of(types_of_settings()))
    if any(_unknown(runtime, known)):  # unless it is one of another pipeline's
        known |= _with_fields(configured, tree_of(_types_of_all_pipelines()))
    for name in _unknown(runtime, known):
        raise PreflightError(
            f"--params names {name}, which is no parameter: {meant(name, _full_names(known))}"
            f"the groups are {', '.join(sorted(known))}; docs/settings.md lists the settings"
            + ("" if "." in name else f"; a text with ', {name}=' in it is for a file of conf")
        )


def _with_fields(configured: Any, type_: Any) -> Any:
    """What is configured, with None for the settings of its type that no file names."""
    named = configured if isinstance(configured, dict) else {}
    fields = {name: _with_fields(named.get(name), of) for name, of in below(type_, named).items()}
    return named | fields or configured


def _types_of_all_pipelines() -> dict[str, Any]:
    """The types of the groups of all pipelines, of which the run's own are loaded again."""
    asked = [name for name in pipelines if name != "__default__"]
    pipelines.set_requested(None)
    types = types_of_settings()
    pipelines.set_requested(asked)
    return types


def _unknown(runtime: dict[str, Any], configured: dict[str, Any]) -> Iterator[str]:
    """The full names in `--params` that the configuration does not hold."""
    for name, value in runtime.items():
        if name not in configured:
            yield name
        elif isinstance(value, dict) and isinstance(configured[name], dict):
            yield from (f"{name}.{key}" for key in _unknown(value, configured[name]))


def _full_names(parameters: dict[str, Any]) -> Iterator[str]:
    """The names of all groups and settings."""
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from (f"{name}.{key}" for key in _full_names(value))
    yield from parameters


def _configured_parameters(loader: OmegaConfigLoader) -> dict[str, Any]:
    """The parameters in the configuration's files, without `--params`."""
    files = OmegaConfigLoader(loader.conf_source, env=loader.env, **settings.CONFIG_LOADER_ARGS)
    return dict(files["parameters"])


def _check_values(parameters: dict[str, Any]) -> None:
    """Validate the groups as Kedro will, to say what is wrong in one line and no traceback."""
    groups = {}
    for group, type_ in types_of_settings().items():
        value: Any = parameters
        for key in group.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        try:
            groups[group] = TypeAdapter(type_).validate_python(value)
        except ValidationError as error:
            faults = "; ".join(_fault(group, details) for details in error.errors())
            explained = (
                "docs/data_sets.md explains each key of a log"
                if group.endswith("log")
                else "docs/settings.md lists the settings"
            )
            raise PreflightError(f"{faults}; {explained}") from error

    if groups.keys() >= {"llm", "model"}:
        _check_llm(groups)
    if "x1.log" in groups:
        _check_datasets({name: groups[name].dataset for name in ("log", "x1.log", "x2.log")})


def _check_datasets(names: dict[str, str]) -> None:
    """Raise where two logs of a run would have one folder: folders are called as the logs are."""
    taken = {"x1.log": "x1", "x2.log": "x2"}
    for group, name in names.items():
        if name != taken.get(group, name) or (group == "log" and name in {"x1", "x2", "joint"}):
            raise PreflightError(
                f"{group}.dataset is {name!r}: in a run with x1 and x2 these and joint are the "
                f"names of their folders, so {taken.get(group, 'another name')} is needed"
            )


def _check_llm(groups: dict[str, Any]) -> None:
    """Raise where the language model to train is none, or larger than the memory by itself."""
    from llm_ctr_pipeline.training.machine import model_memory

    llm, training = groups["llm"], groups["training"]
    try:
        of_paths = [each for each in groups.values() if isinstance(each, Stages)]
        trained = [each for each in of_paths if each.COMPONENTS == LLM_CTR_COMPONENTS]
        if llm.freeze:
            trained = [stages.without("llm", LLM_CTR_COMPONENTS) for stages in trained]
        if llm.architecture is not None:
            weights = {"llm": model_memory.weights_of_architecture(llm.architecture)}
            for stages in trained:
                model_memory.check_memory(weights, stages, training)
    except RefusedError as error:
        raise PreflightError(message_of(error, None)) from error


def _fault(group: str, details: ErrorDetails) -> str:
    """One fault of a group: `training.epochs is -1: it should be greater than or equal to 1`."""
    # Which of a union's models it is stands there too, and is no part of the name.
    name = ".".join((group, *(str(key) for key in details["loc"] if key not in BASELINES)))
    if details["type"] == "extra_forbidden":
        return f"{name} is no parameter"
    given = details["input"]
    shown = name if isinstance(given, dict) else f"{name} is {_shown(given)}"
    is_name = details["type"] in {"string_type", "model_type"}
    cure = "; a name or text goes in quotes" if is_name and not isinstance(given, dict) else ""
    said = details["msg"].removeprefix("Value error, ").replace("Input", "it", 1)
    return _LONG_WORD.sub(r"\1…", f"{shown}: {said}{cure}")


def _shown(given: Any) -> str:
    """A value, cut where it is long."""
    written = repr(given)
    return written if len(written) <= LONGEST_SHOWN else f"{written[:LONGEST_SHOWN]}…{written[-1]}"


def _check_stores(named: dict[str, Any]) -> None:
    """Raise where data are in no folder, or on a store for which this machine has no driver."""
    for name in PLACES:
        place = str(named[name])
        if not place.strip():
            raise PreflightError(f"{name} is {place!r}: give a folder or an address")
        try:
            path = parse_path(place)
            if isinstance(path, Path):
                path.exists()  # raises where the system cannot even look
                if name == "store":
                    check_folder(place, name, PATTERNS)
        except StoreError as error:
            raise PreflightError(f"{name}: {error}") from error
        except click.ClickException as error:
            raise PreflightError(error.message) from error
        except OSError as error:
            raise PreflightError(
                f"{name} is {_shown(place)}: no folder can have this name ({error.strerror})"
            ) from error


def _check_kept(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Raise where `--only-missing-outputs` would keep what no longer fits."""
    from llm_ctr_pipeline.hooks.kept_outputs import reason_to_redo

    reason = reason_to_redo(pipeline, catalog)
    if reason is not None:
        raise PreflightError(f"{reason}: run without --only-missing-outputs")


def _check_compared(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Raise where results to compare are missing or of different rows, or this run makes them."""
    from llm_ctr_pipeline.pipelines.compare.sources import find_models

    if any(name.endswith("_predictions") for name in pipeline.all_outputs()):
        # It reads them by folder, so Kedro knows no order between the two.
        raise PreflightError(
            "compare reads results that other runs made, and this run would make some of them: "
            "run `kedro run --pipeline=compare` by itself afterwards"
        )
    folders = (catalog.load("model_output_folder"), catalog.load("reporting_folder"))
    find_models(*folders, catalog.load("params:compare"))
