import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from mlflow.entities import Run

from llm_ctr_pipeline.hooks.preflight import PreflightError, _check_machine, _check_run
from llm_ctr_pipeline.models.acceptance.files import DamagedModelError
from llm_ctr_pipeline.models.kernels import KernelError

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "setting without its group": ("train", {"epochs": 3}, "did you mean training.epochs?"),
    "misspelt folder": ("train", {"rawdir": "elsewhere"}, "did you mean raw_dir?"),
    "misspelt group": ("train", {"trainin": {"lr": 0.1}}, "did you mean training?"),
    "misspelt setting": (
        "train",
        {"training": {"epcohs": 3}},
        "--params names training.epcohs, which is no parameter: did you mean training.epochs?",
    ),
    "misspelt deep setting": (
        "train",
        {"llm": {"architecture": {"hiden_size": 8}}},
        "did you mean llm.architecture.hidden_size?",
    ),
    "setting in the wrong group": (
        "train",
        {"single_phase": {"epochs": 3}},
        "--params names single_phase.epochs, which is no parameter: did you mean training.epochs?",
    ),
    "setting that no file sets": (
        "train",
        {"single_phase": {"stages": {"end_to_end": {"epochs": 0}}}},
        "single_phase.stages.end_to_end.epochs is 0: it should be greater",
    ),
    "setting of another pipeline": (
        "preprocess",
        {
            "single_phase": {"stages": {"end_to_end": {"epochs": 3}}},
            "preprocess": {"min_count": 0},
        },
        "preprocess.min_count is 0: it should be greater",
    ),
    "misspelt setting of a stage": (
        "train",
        {"single_phase": {"stages": {"end_to_end": {"patienec": 3}}}},
        "--params names single_phase.stages.end_to_end.patienec, which is no parameter: "
        "did you mean single_phase.stages.end_to_end.patience?",
    ),
    "no text": ("train", {"model": {"prompt": 2024}}, "string; a name or text goes in quotes"),
    "name that YAML reads as another thing": (
        "preprocess",
        {"log": {"fields": ["C14", False]}},
        "log.fields.1 is False: it should be a valid dictionary or instance of FieldSource; a name",
    ),
    "log that is called as another's folder": (
        "preprocess_all",
        {"log": {"dataset": "x1"}},
        "log.dataset is 'x1': in a run with x1 and x2 these and joint are the names of their "
        "folders, so another name is needed",
    ),
    "other log under another name": (
        "preprocess_all",
        {"x2": {"log": {"dataset": "y2"}}},
        "x2.log.dataset is 'y2': in a run with x1 and x2 these and joint are the names of their "
        "folders, so x2 is needed",
    ),
    "store that DuckDB takes for a pattern": (
        "preprocess",
        {"store": "st[1]"},
        "store is st[1]: a [ in a path means something else to Kedro, MLflow or DuckDB",
    ),
    "no folder at all": ("preprocess", {"raw_dir": " "}, "raw_dir is ' ': give a folder"),
    "name that no folder can have": (
        "preprocess",
        {"raw_dir": "x" * 300},
        "xxx…': no folder can have this name (File name too long)",
    ),
    "boolean for a number": ("train", {"training": {"epochs": True}}, "it should be a number"),
    "architecture that is not known": (
        "train",
        {"llm": {"architecture": {"model_type": "qwen99"}}},
        "no language model of type qwen99 (ValueError: Unrecognized model identifier: qwen99.",
    ),
    "heads that do not divide": (
        "train",
        {"llm": {"architecture": {"model_type": "llama", "hidden_size": 17}}},
        "The hidden size (17) is not a multiple of the number of attention heads (2)",
    ),
    "a language model that no machine holds": (
        "train",
        {"llm": {"architecture": {"hidden_size": 2**20, "intermediate_size": 2**20}}},
        "lower llm.architecture",
    ),
    "a frozen language model that a stage trains alone": (
        "train",
        {
            "single_phase": {"stages": {"end_to_end": {"components": "llm"}}},
            "llm": {"freeze": True},
        },
        "stage end_to_end trains llm alone, and llm.freeze is true: set it to false",
    ),
    "out of bounds": (
        "train",
        {"training": {"epochs": -1}},
        "training.epochs is -1: it should be greater than or equal to 1",
    ),
    "out of bounds in a network": (
        "train_dcnv2",
        {"dcnv2": {"network": {"cross_layers": 0}}},
        "dcnv2.network.cross_layers is 0: it should be greater than or equal to 1",
    ),
    "no baseline's name": (
        "train_deepfm",
        {"deepfm": {"network": {"model": "lstm"}}},
        "deepfm.network: its model should be one of deepfm, logistic_regression, dcnv2, finalmlp",
    ),
    "another baseline's settings": (
        "train_dcnv2",
        {"dcnv2": {"network": {"heads": 3}}},
        "dcnv2.network.heads is no parameter",
    ),
    "no device's name": ("train", {"training": {"device": "tpu"}}, "training.device is 'tpu'"),
    "no kernel's name": ("train", {"llm": {"attention": "fast"}}, "llm.attention is 'fast'"),
    "value for a group": ("train", {"single_phase": 3}, "single_phase.stages is None"),
    "no such pipeline": (
        "trian",
        {},
        "did you mean train? there are __default__, compare, ",
    ),
    "no kind of field": (
        "preprocess",
        {"log": {"fields": ["C14", {"name": "C15", "kind": "number"}]}},
        "log.fields.1.kind is 'number': it should be 'categorical', ",
    ),
    "two sources of weights": (
        "train",
        {"llm": {"pretrained": "some/model"}},
        "llm needs either `pretrained` (a name or a folder) or `architecture`",
    ),
    "store that nothing here can open": (
        "preprocess",
        {"store": "nfs4://host/lake"},
        "store: nfs4://host/lake cannot be reached: fsspec, which opens such addresses, knows no",
    ),
    "device that is not there": (
        "train",
        {"training": {"device": "cuda:9"}},
        "training.device is 'cuda:9', and this machine has",
    ),
    "precision of another device": (
        "evaluate",
        {"training": {"device": "cpu", "precision": "16-mixed"}},
        "training.precision is 16-mixed, which needs a CUDA device",
    ),
    "kernel of another device": (
        "evaluate",
        {"training": {"device": "cpu"}, "llm": {"attention": "flash_attention_2"}},
        "flash_attention_2 needs a CUDA GPU",
    ),
    "device of the baseline alone": (
        "train_deepfm",
        {"training": {"device": "cuda:9"}, "llm": {"attention": "flash_attention_2"}},
        "training.device is 'cuda:9', and this machine has",
    ),
    "kernel of a path to train": (
        "train",
        {"training": {"device": "cpu"}, "llm": {"attention": "flex_attention"}},
        "flex_attention trains on CUDA devices alone",
    ),
    "kernel of a path that teaches": (
        "train_distilled",
        {"training": {"device": "cpu"}, "llm": {"attention": "flash_attention_2"}},
        "flash_attention_2 needs a CUDA GPU",
    ),
    "language model that cannot be exact": (
        "train",
        {"llm": {"architecture": {"model_type": "mamba"}}},
        "a language model of type mamba cannot be used: it has layers of the kind linear_attention",
    ),
    "folder that holds no language model": (
        "train",
        {"llm": {"pretrained": "conf", "architecture": None}},
        "language model 'conf': no file of a tokenizer is there",
    ),
    "no such split": (
        "evaluate",
        {"evaluation": {"split": "holdout"}},
        "evaluation.split is 'holdout': it should be 'train', 'valid' or 'test'",
    ),
    "no such field": (
        "evaluate",
        {"evaluation": {"group_by": "user"}},
        "evaluation.group_by is user, which is no field of x4: its fields are C1,",
    ),
    "no such field after a training": (
        "train",
        {"single_phase": {"evaluation": {"group_by": "user"}}},
        "evaluation.group_by is user, which is no field of x4",
    ),
    "no such field after preprocessing and a training": (
        "__default__",
        {"single_phase": {"evaluation": {"group_by": "user"}}},
        "evaluation.group_by is user, which is no field of x4",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_run_that_cannot_work_is_refused_before_anything_happens(
    fault: str,
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
) -> None:
    pipeline, params, message = REFUSED[fault]
    files = sorted((trained_project / "data").rglob("*"))
    times = [file.stat().st_mtime_ns for file in files]
    with pytest.raises(PreflightError, match=re.escape(message)) as caught:
        run_here(trained_project, pipeline, params=params)
    # Click shows such an error as one line, without a traceback.
    assert isinstance(caught.value, click.ClickException)
    assert "\n" not in caught.value.format_message()
    assert len(mlflow_runs(trained_project)) == 1  # the finished one
    assert sorted((trained_project / "data").rglob("*")) == files
    assert [file.stat().st_mtime_ns for file in files] == times


@pytest.mark.parametrize(
    ("pipeline", "params"),
    [
        ("train_deepfm", {}),
        ("train_dcnv2", {}),
        ("evaluate", {"evaluation": {"path": "deepfm"}}),
        ("evaluate", {"evaluation": {"path": "finalmlp"}}),
        ("evaluate", {"evaluation": {"path": "distilled"}}),
    ],
)
def test_a_kernel_that_a_baseline_does_not_use_keeps_nothing_from_running(
    trained_project: Path, pipeline: str, params: dict[str, Any]
) -> None:
    bootstrap_project(trained_project)
    at_fault = {"training": {"device": "cpu"}, "llm": {"attention": "flash_attention_2"}}
    runtime = at_fault | params
    with KedroSession.create(trained_project, env="test", runtime_params=runtime) as session:
        catalog = session.load_context().catalog
        _check_machine(pipelines[pipeline].inputs(), catalog)
        with pytest.raises(KernelError, match="needs a CUDA GPU"):
            _check_machine(pipelines["train"].inputs(), catalog)


def test_a_teacher_needs_no_language_model_but_its_checkpoints(trained_project: Path) -> None:
    bootstrap_project(trained_project)
    missing = {"llm": {"pretrained": "conf", "architecture": None}}
    with KedroSession.create(trained_project, env="test", runtime_params=missing) as session:
        catalog = session.load_context().catalog
        _check_run(pipelines["train_distilled"], catalog)
        with pytest.raises(DamagedModelError, match="no file of a tokenizer is there"):
            _check_run(pipelines["train"], catalog)


def test_an_unknown_environment_is_refused(project: Path, run_here: Callable[..., None]) -> None:
    said = r"names avasu, which is no environment: did you mean avazu\? .*avazu, avazu_x4_002"
    with pytest.raises(PreflightError, match=said):
        run_here(project, env="avasu")


def test_values_in_the_configuration_are_checked_as_those_of_the_command_line(
    project: Path, run_here: Callable[..., None]
) -> None:
    local = {"training": {"epochs": 0, "momentum": 0.9}}
    (project / "conf/local/parameters.yml").write_text(yaml.safe_dump(local))
    (project / "conf/test/parameters.yml").write_text(yaml.safe_dump(local))
    with pytest.raises(PreflightError) as caught:
        run_here(project, "train")
    assert "training.epochs is 0: it should be greater" in caught.value.message
    assert "training.momentum is no parameter" in caught.value.message


def test_what_only_the_configuration_reads_is_no_unknown_parameter(
    project: Path, run_here: Callable[..., None]
) -> None:
    with pytest.raises(Exception, match=r"raw folder .*nowhere not found: set raw_dir") as caught:
        run_here(project, "preprocess", params={"raw_dir": str(project / "nowhere")})
    assert not isinstance(caught.value, PreflightError)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params", "epochs=3"], "did you mean training.epochs?"),
        (["--params", "training.epochs=-1"], "training.epochs is -1"),
        (
            ["--params", f"training.seed={2**64}"],
            "training.seed is 18446744073709551616: it should",
        ),
        (["--params", "model.prompt=${who}"], "model.prompt=${who} cannot be read"),
        (["--async"], "by Kedro's SequentialRunner"),
        (["--params", "training.device=cuda:9"], "cuda:9"),
        (["--pipeline=trian"], "did you mean train? there are __default__, compare, "),
        (["--pipeline=train"], "run `kedro run --env test --pipeline=preprocess` first"),
        (["--pipeline=evaluate"], "run `kedro run --env test --pipeline=train` first"),
    ],
)
def test_a_refusal_is_one_line_without_a_traceback(
    project: Path,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
    arguments: list[str],
    message: str,
) -> None:
    done = kedro_run(project, "--env", "test", *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert "Traceback" not in done.stdout
    assert "ERROR" not in done.stdout
    assert not (project / "mlartifacts").exists()
    assert not (project / "data").exists()


def test_the_generated_log_is_not_taken_for_a_raw_one(
    trained_project: Path, run_here: Callable[..., None]
) -> None:
    with pytest.raises(
        PreflightError,
        match=r"data/05_model_input/x4 holds the generated log, and these settings are for a raw "
        r"log: run `kedro run --env test --pipeline=preprocess` first",
    ):
        run_here(trained_project, "train", params={"generated_log": None})


def test_a_full_disk_is_refused_before_mlflow_writes(
    project: Path, run_here: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=9_900_000))
    with pytest.raises(PreflightError, match=r"has 9\.9 MB free, and 10 MB are needed"):
        run_here(project, "preprocess")
    assert not (project / "mlflow.db").exists()
