"""The project's commands: Kedro's own, and a `kedro run` that refuses in one line.

What the project refuses on purpose says in its message what is wrong and what to do. A traceback
would bury that; any other error keeps its own.
"""

import copy
import functools
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from llm_ctr_pipeline.data.errors import (
    EngineError,
    EngineMemoryError,
    RefusedError,
    StaleDataError,
)
from llm_ctr_pipeline.redaction import redacted

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


run = _refusing_in_one_line(kedro_run)
upload = _refusing_in_one_line(send)
cli.add_command(run)
cli.add_command(upload, "upload")
