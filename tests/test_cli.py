import importlib
import inspect
import pkgutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from kedro.framework.cli.utils import find_run_command
from kedro.io import DatasetError
from mlflow.entities import Run

import llm_ctr_pipeline
from llm_ctr_pipeline import cli
from llm_ctr_pipeline.data.errors import RawLogError, RefusedError, StaleDataError, StorageError
from llm_ctr_pipeline.data.hub.archive import BadArchiveError
from llm_ctr_pipeline.models.shared_prefix import UnsupportedModelError
from llm_ctr_pipeline.training.machine.memory import DeviceMemoryError


def failing_with(error: Exception) -> click.Command:
    """A command with an environment that fails, treated as `kedro run` is."""

    @click.command()
    @click.option("--env")
    def fail(env: str | None) -> None:
        raise error

    return cli._refusing_in_one_line(fail)


@pytest.mark.parametrize(
    "refusal",
    [RawLogError, StorageError, BadArchiveError, UnsupportedModelError, DeviceMemoryError],
)
def test_a_refusal_is_one_line(refusal: type[Exception]) -> None:
    done = CliRunner().invoke(failing_with(refusal("what is wrong:\n  do this")))
    assert done.exit_code == 1
    assert done.stderr == "Error: what is wrong: do this\n"


@pytest.mark.parametrize("refusal", [StorageError, click.ClickException])
def test_a_refusal_names_no_credentials(refusal: type[Exception]) -> None:
    done = CliRunner().invoke(failing_with(refusal("s3://me:hunter2@bucket cannot be read")))
    assert done.stderr == "Error: s3://***@bucket cannot be read\n"


def test_a_refusal_in_a_dataset_is_one_line() -> None:
    error = DatasetError("Failed while saving data to dataset X")
    error.__cause__ = StorageError("the disk is full")
    done = CliRunner().invoke(failing_with(error))
    assert (done.exit_code, done.stderr) == (1, "Error: the disk is full\n")


def test_commands_in_a_refusal_are_of_the_same_environment() -> None:
    command = failing_with(RawLogError("run `kedro run --pipeline=preprocess` first"))
    done = CliRunner().invoke(command, ["--env", "avazu"])
    assert done.stderr == "Error: run `kedro run --env avazu --pipeline=preprocess` first\n"


def test_a_refusal_says_which_command_helps() -> None:
    fault = StaleDataError("the encoded rows are not those of the summary")
    done = CliRunner().invoke(failing_with(fault), ["--env", "avazu"])
    assert done.stderr == (
        "Error: the encoded rows are not those of the summary: run `kedro run --env avazu "
        "--pipeline=preprocess` again, or preprocess_all where x1 or x2 is asked for\n"
    )


@pytest.mark.parametrize("error", [ValueError("a bug"), DatasetError("a bug"), OSError("a bug")])
def test_an_unexpected_error_keeps_its_traceback(error: Exception) -> None:
    done = CliRunner().invoke(failing_with(error))
    assert done.exception is error


def test_kedro_finds_the_command_in_a_project_and_in_the_package() -> None:
    assert cli.cli.commands["run"] is find_run_command("llm_ctr_pipeline") is cli.run


def test_every_error_of_the_project_is_a_refusal() -> None:
    errors = {
        value
        for module in pkgutil.walk_packages(llm_ctr_pipeline.__path__, "llm_ctr_pipeline.")
        if not module.name.endswith("__main__")
        for name, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        if value.__module__ == module.name and name.endswith("Error") and name[0] != "_"
    }
    assert len(errors) > 10
    others = {e.__name__ for e in errors if not issubclass(e, RefusedError | click.ClickException)}
    assert others == set()


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["preprocess", "__default__"])
def test_a_run_that_is_refused_in_a_node(
    project: Path,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
    mlflow_runs: Callable[[Path], list[Run]],
    pipeline: str,
) -> None:
    raw = project / "raw"
    raw.mkdir()
    (raw / "train.csv").write_text("id,click\n")
    done = kedro_run(project, f"--pipeline={pipeline}", "--params", f"raw_dir={raw}")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"Error: {raw}/train.csv, line 1: missing column 'hour'")
    assert "Node read_raw_log" in done.stdout
    assert "Traceback" not in done.stdout
    (run,) = mlflow_runs(project)
    assert run.info.status == "FAILED"
