import contextlib
import copy
import importlib
import inspect
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from kedro.config import OmegaConfigLoader
from kedro.framework.cli.project import run as run_of_kedro
from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project, settings
from kedro.io import DatasetError
from mlflow.entities import Run

import llm_ctr_pipeline
from llm_ctr_pipeline import cli
from llm_ctr_pipeline.data.errors import RawLogError, RefusedError, StaleDataError, StorageError
from llm_ctr_pipeline.data.hub.archive import BadArchiveError
from llm_ctr_pipeline.models.shared_prefix import UnsupportedModelError
from llm_ctr_pipeline.training.machine.memory import DeviceMemoryError
from llm_ctr_pipeline.training.ranks import jobs

PROJECT = Path(__file__).parents[1]


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


def given_to(*arguments: str) -> dict[str, Any]:
    """What the command hands to Kedro's run for these arguments."""
    given: dict[str, Any] = {}
    kedro = copy.copy(run_of_kedro)
    kedro.callback = lambda **options: given.update(options)
    done = CliRunner().invoke(cli._reading_params(kedro), arguments, catch_exceptions=False)
    return given if done.exit_code == 0 else {"refused": done.stderr}


def test_params_reach_kedro_as_they_were_typed() -> None:
    configure_project("llm_ctr_pipeline")
    prompt = "Rank item # of clicks: 0, or 1"
    params = f"model.prompt={prompt}, training.epochs=3,raw_dir=/x/log #2"
    given = given_to("--pipeline=train", "--params", params)
    expected = {"model": {"prompt": prompt}, "training": {"epochs": 3}, "raw_dir": "/x/log #2"}
    assert given["params"] == expected
    files = OmegaConfigLoader(
        str(PROJECT / "conf"), "base", given["params"], **settings.CONFIG_LOADER_ARGS
    )
    assert files["parameters"]["model"]["prompt"] == prompt
    assert files["catalog"]["raw_folder"]["path"] == "/x/log #2"
    assert given_to()["params"] == {}


def test_params_of_a_file_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "run.yml"
    file.write_text("run: {pipeline: train, params: {model: {prompt: 'a # b'}}}")
    given = given_to("--config", str(file))
    assert given["params"] == {"model": {"prompt": "a # b"}}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--async"],
        ["--runner=ThreadRunner"],
        ["--runner", "kedro.runner.ParallelRunner"],
        ["--runner-params", "is_async=true"],
        ["--runner-params", "max_workers=2"],
    ],
)
def test_a_runner_that_mlflow_cannot_follow_is_refused(arguments: list[str]) -> None:
    refused = given_to(*arguments)["refused"]
    assert refused.startswith("Error: --async, --runner and --runner-params")
    assert "SequentialRunner" in refused
    assert refused.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pipeline=trane"], "--pipeline names trane, which does not exist: did you mean train?"),
        (["--pipelines=train,deepfm"], "did you mean train_deepfm?"),
        (["--pipeline=xyz"], "--pipeline names xyz, which does not exist: there are __default__,"),
        (
            ["--pipeline=preprocess", "--nodes=sumarise"],
            "--nodes names sumarise, which is no node of preprocess: did you mean summarise?",
        ),
        (
            ["--pipeline=preprocess_all", "--from-nodes=joint_x1.sumarise"],
            "did you mean joint_x1.summarise?",
        ),
        (["--pipeline=preprocess", "--to-nodes=nothing"], "no node of preprocess: `kedro registry"),
        (["--tags=fast"], "--tags names fast, which is no tag of the default pipeline: `kedro"),
        (
            ["--pipeline=preprocess_all", "--namespaces=joint_x3"],
            "--namespaces names joint_x3, which is no namespace of preprocess_all: did you mean "
            "joint_x",
        ),
        (["--pipeline=preprocess", "--to-outputs=sumary"], "did you mean summary?"),
        (["--pipeline=preprocess", "--from-inputs=raw_row"], "did you mean raw_rows?"),
        (
            ["--pipeline=preprocess", "--from-nodes=summarise", "--to-nodes=read_raw_log"],
            "no node is all that --from-nodes, --to-nodes ask for: leave one of them out",
        ),
    ],
)
def test_names_that_do_not_exist_are_refused_with_the_nearest(
    arguments: list[str], said: str
) -> None:
    configure_project("llm_ctr_pipeline")
    refused = given_to(*arguments)["refused"]
    assert said in refused
    assert refused.startswith("Error: ")
    assert refused.count("\n") == 1


def test_names_that_exist_are_taken() -> None:
    configure_project("llm_ctr_pipeline")
    given = given_to("--pipeline=preprocess", "--nodes=summarise", "--to-outputs=summary")
    assert given["node_names"] == ["summarise"]
    assert given_to("--pipeline=__default__")["pipeline"] == "__default__"


@pytest.mark.parametrize("name", ["x[1]", "100%25", "it's", "{a}"])
def test_a_project_in_a_folder_that_libraries_misread_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    (folder / "conf" / "base").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    refused = given_to()["refused"]
    assert refused.startswith(f"Error: the project's folder is {folder}: a ")
    assert refused.count("\n") == 1


def test_the_runner_that_serves_may_be_named() -> None:
    assert given_to("--runner", "SequentialRunner")["runner"] == "SequentialRunner"


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
    assert done.stdout.strip().endswith(" read_raw_log")
    assert "Traceback" not in done.stdout
    assert mlflow_runs(project) == []  # nothing was trained or tested


@pytest.mark.parametrize(
    ("of_torchrun", "done"),
    [
        ({}, ["run"]),
        ({"WORLD_SIZE": "2", "RANK": "1"}, ["run"]),  # a cluster's own variables
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "1", "RANK": "0"}, ["run"]),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "0"}, ["lead", "run"]),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "1"}, ["work"]),
    ],
)
def test_of_torchruns_processes_the_first_runs_and_the_others_work(
    monkeypatch: pytest.MonkeyPatch, of_torchrun: dict[str, str], done: list[str]
) -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    def leading() -> Iterator[None]:
        seen.append("lead")
        yield

    monkeypatch.setattr(jobs, "work", lambda: seen.append("work"))
    monkeypatch.setattr(jobs, "leading", leading)
    for name, value in of_torchrun.items():
        monkeypatch.setenv(name, value)
    cli._in_ranks(lambda: seen.append("run"))
    assert seen == done


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "there is no configuration at "),
        (["--conf-source", "conf.tar.gz", "--params", "epochs=1"], "did you mean training.epochs?"),
        (["--pipelines=preproces"], "--pipeline names preproces, which does not exist"),
    ],
)
def test_the_installed_package_takes_its_configuration_from_an_archive(
    tmp_path: Path, options: list[str], said: str
) -> None:
    shutil.make_archive(str(tmp_path / "conf"), "gztar", PROJECT, "conf")
    command = [sys.executable, "-m", "llm_ctr_pipeline", "--env", "test"]
    done = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
