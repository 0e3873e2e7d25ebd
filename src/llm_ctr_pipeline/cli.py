"""The project's commands: Kedro's own, and a `kedro run` that refuses in one line.

It reads `--params` by the types of the settings, and has one runner.

What the project refuses on purpose says in its message what is wrong and what to do. A traceback
would bury that; any other error keeps its own.
"""

import copy
import difflib
import functools
import os
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.validation.type_extractor import TypeExtractor

from llm_ctr_pipeline import given_params
from llm_ctr_pipeline import pipelines as all_pipelines
from llm_ctr_pipeline.data.errors import (
    EngineError,
    EngineMemoryError,
    RefusedError,
    StaleDataError,
)
from llm_ctr_pipeline.redaction import redacted
from llm_ctr_pipeline.resolvers import project_root

# Patterns of files to DuckDB and Kedro, of datasets to Kedro, and what pathlib does not part at.
PATTERNS = "*?[{}\\"
# The options that leave out nodes, by what Click calls them, and what they name.
FILTERS = {
    "node_names": ("--nodes", "node"),
    "from_nodes": ("--from-nodes", "node"),
    "to_nodes": ("--to-nodes", "node"),
    "namespaces": ("--namespaces", "namespace"),
    "tags": ("--tags", "tag"),
    "from_inputs": ("--from-inputs", "dataset"),
    "to_outputs": ("--to-outputs", "dataset"),
}
# What helps against a fault, where a command or a file of the project does.
CURES: dict[type[RefusedError], str] = {
    StaleDataError: "run `kedro run --pipeline=preprocess` again, or preprocess_all where x1 or x2 "
    "is asked for",
    EngineError: "set another backend in globals.yml",
    EngineMemoryError: "raise engine.memory_limit in globals.yml",
}


def refusal_in(error: BaseException | None) -> RefusedError | None:
    """The refusal that an error is, or was raised from: Kedro wraps those of datasets."""
    while error is not None and not isinstance(error, RefusedError):
        error = error.__cause__
    return error


def message_of(refusal: RefusedError, env: str | None) -> str:
    """Say in one line what was refused and what helps."""
    said = " ".join(line.strip() for line in str(refusal).splitlines())
    cures = [cure for kind, cure in CURES.items() if isinstance(refusal, kind)]
    return in_environment(": ".join([said, *cures]), env)


def in_environment(message: str, env: str | None) -> str:
    """Name the environment in the commands of a message: without it they would do another thing."""
    return message.replace("kedro run", f"kedro run --env {env}") if env else message


def meant(name: str, known: Iterable[str]) -> str:
    """Ask whether another name was meant, whose last part is near: `epochs`, `training.epochs`.

    Of several with the same last part it is the one in the same group, else the least deep.
    """
    group, _, last = name.rpartition(".")
    names = [full.rpartition(".") for full in sorted(known)]
    near = difflib.get_close_matches(last, {end for _, _, end in names}, n=1)
    found = [above + dot for above, dot, end in names if [end] == near]
    nearest = min(found, key=lambda above: (above != f"{group}.", above.count(".")), default="")
    return f"did you mean {nearest}{near[0]}? " if near else ""


def no_such_pipeline(name: str) -> str:
    """Say that there is no pipeline of this name, and which there are."""
    known = {"__default__", *pipeline_names()}
    return (
        f"--pipeline names {name}, which does not exist: {meant(name, known)}there are "
        f"{', '.join(sorted(known))}"
    )


def pipeline_names() -> list[str]:
    """The names of the pipelines, none of which is imported for it."""
    found = pkgutil.iter_modules(all_pipelines.__path__)
    return sorted(module.name for module in found if module.ispkg)


def types_of_settings() -> dict[str, Any]:
    """The types of the groups of settings that the pipelines asked for take."""
    return TypeExtractor(dict(pipelines)).extract_types_from_pipelines()


def _read_params(options: dict[str, Any]) -> dict[str, Any]:
    """What `--params` gives, its texts as they were typed; as it is where a file gives it.

    Raises:
        click.ClickException: It cannot be read.
    """
    given = options["params"]
    if not isinstance(given, str):
        return dict(given)
    texts = given_params.split(given)
    asked = [*options["pipelines"], *filter(None, [options["pipeline"]])]
    pipelines.set_requested(asked or None)
    try:
        types = types_of_settings() if texts else {}
    except ImportError:  # of a pipeline that does not exist, which is told before the run
        types = {}
    return given_params.read(texts, types)


def _check_names(options: dict[str, Any]) -> None:
    """Refuse pipelines, nodes, namespaces, tags and datasets that do not exist.

    Raises:
        click.ClickException: One does not, or no node is all that is asked for.
    """
    asked = [*options["pipelines"], *filter(None, [options["pipeline"]])]
    for name in asked:
        if name not in {"__default__", *pipeline_names()}:
            raise click.ClickException(no_such_pipeline(name))
    given = {key: options[key] for key in FILTERS if options[key]}
    if not given:
        return
    pipelines.set_requested(asked or None)
    run = sum((pipelines[name] for name in asked or ["__default__"]), Pipeline([]))
    there = {
        "node": {node.name for node in run.nodes},
        "namespace": {name for node in run.nodes for name in node.namespace_prefixes},
        "tag": {tag for node in run.nodes for tag in node.tags},
        "dataset": run.datasets(),
    }
    for key, names in given.items():
        option, what = FILTERS[key]
        for name in names:
            if name not in there[what]:
                of_run = ", ".join(asked) or "the default pipeline"
                raise click.ClickException(
                    f"{option} names {name}, which is no {what} of {of_run}: "
                    f"{meant(name, there[what])}`kedro registry describe NAME` lists a pipeline's "
                    "nodes"
                )
    try:
        run.filter(**{key.replace("namespaces", "node_namespaces"): given[key] for key in given})
    except ValueError as error:
        raise click.ClickException(
            f"no node is all that {', '.join(FILTERS[key][0] for key in given)} ask for: leave "
            "one of them out"
        ) from error


def _check_runner(options: dict[str, Any]) -> None:
    """Refuse what runs nodes or saves datasets beside the thread that the run's records are of.

    Raises:
        click.ClickException: Another runner than Kedro's own is asked for.
    """
    is_plain = options["runner"] in {None, "SequentialRunner", "kedro.runner.SequentialRunner"}
    if options["is_async"] or options["runner_params"] or not is_plain:
        raise click.ClickException(
            "--async, --runner and --runner-params run nodes or save their outputs in other "
            "threads or processes, where MLflow and the engine do not know of this run: leave "
            "them out, and nodes run one after another by Kedro's SequentialRunner"
        )


def _in_ranks(run: Callable[[], Any]) -> Any:
    """Run; of the processes that torchrun started the first runs, the others do their share."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        return run()
    from llm_ctr_pipeline.training.ranks import jobs

    if os.environ["RANK"] != "0":
        return jobs.work()
    with jobs.leading():
        return run()


def check_folder(folder: str, what: str, unfit: str) -> None:
    """Refuse a folder whose path one of the libraries would take for something else.

    Args:
        folder: Its path.
        what: What it is, for the message.
        unfit: Characters that it must not hold.

    Raises:
        click.ClickException: It holds one.
    """
    held = [character for character in unfit if character in folder]
    if held:
        raise click.ClickException(
            f"{what} is {folder}: a {held[0]} in a path means something else to Kedro, MLflow or "
            f"DuckDB, so take a folder with none of {' '.join(unfit)} in its path"
        )


def _reading_params(command: click.Command) -> click.Command:
    """`kedro run` with one runner, in a folder that will do, its settings read by their types."""
    callback = command.callback
    assert callback is not None  # noqa: S101 - a command, not a group

    @functools.wraps(callback)
    def call(**options: Any) -> Any:
        check_folder(project_root(), "the project's folder", f"{PATTERNS}'%")
        _check_runner(options)
        _check_names(options)
        return _in_ranks(lambda: callback(**options | {"params": _read_params(options)}))

    reading = copy.copy(command)
    reading.callback = call
    reading.params = [copy.copy(param) for param in command.params]
    for param in reading.params:
        if param.name == "params":
            param.callback = None  # Kedro's would split the text
    return reading


def _refusing_in_one_line(command: click.Command) -> click.Command:
    """The same command, with refusals turned into what Click shows in one line."""
    callback = command.callback
    assert callback is not None  # noqa: S101 - a command, not a group

    @functools.wraps(callback)
    def call(**options: Any) -> Any:
        try:
            return callback(**options)
        except click.ClickException as error:
            if redacted(error.message) == error.message:
                raise
            raise click.ClickException(redacted(error.message)) from error
        except Exception as error:
            refusal = refusal_in(error)
            if refusal is None:
                raise
            # Click shows the message and no traceback, and exits with 1.
            message = message_of(refusal, options.get("env"))
            raise click.ClickException(redacted(message)) from error

    wrapped = copy.copy(command)
    wrapped.callback = call
    return wrapped


@click.group(name="llm-ctr-pipeline")
def cli() -> None:
    """The commands that differ from Kedro's."""


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def send(folders: tuple[Path, ...]) -> None:
    """Send to MLflow what it did not take while runs went on: of all runs, or FOLDERS."""
    from llm_ctr_pipeline.tracking.upload import upload_waiting

    for run_id in upload_waiting(folders):
        click.echo(f"MLflow has now all of run {run_id}")


run = _refusing_in_one_line(_reading_params(kedro_run))
upload = _refusing_in_one_line(send)
cli.add_command(run)
cli.add_command(upload, "upload")
