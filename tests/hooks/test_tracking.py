import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from llm_ctr_pipeline.training.kept import finished
from tests.records import content_of

PROJECT = Path(__file__).parents[2]
REPORTING = Path("data/08_reporting/single_phase")
CHECKPOINT = Path("data/06_models/single_phase/best_model")
INTERRUPTED = Path("data/06_models/single_phase/interrupted")
CHECKPOINT_FILES = {
    "config.json",
    "model.safetensors",
    "feature_map.json",
    "vocabulary.parquet",
    "summary.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "manifest.json",
}


@pytest.fixture(scope="module")
def run(finished_run: Path, mlflow_runs: Callable[[Path], list[Run]]) -> Run:
    """The MLflow run of the finished run: exactly one, though two pipelines ran."""
    (only,) = mlflow_runs(finished_run)
    return only


def test_a_finished_run_is_finished(run: Run) -> None:
    assert run.info.status == "FINISHED"
    assert run.info.end_time is not None


def test_every_parameter_is_logged_by_its_full_name(run: Run) -> None:
    logged = run.data.params
    expected = {
        "preprocess.min_count": "2",
        "generated_log.train_rows": "2000",
        "model.embedding_dim": "4",
        "model.prompt_suffix": "",
        "llm.pretrained": "None",
        "llm.architecture.hidden_size": "16",
        "llm.architecture.tie_word_embeddings": "True",
        "training.epochs": "2",
        "training.seed": "42",
        "training.resume": "True",
        "single_phase.evaluation.split": "test",
        "single_phase.stages.end_to_end.start": "new",
    }
    assert {name: logged.get(name) for name in expected} == expected
    assert float(logged["training.lr"]) > 0
    # A group as one value would be a dump that nobody can sort a table by.
    assert {name.partition(".")[0] for name in logged if "." not in name} == set()
    groups = {
        "generated_log",
        "llm",
        "log",
        "model",
        "preprocess",
        "raw",
        "single_phase",
        "training",
    }
    assert {name.partition(".")[0] for name in logged} == groups


def test_of_a_stage_only_what_it_sets_itself_is_logged(run: Run) -> None:
    stage = "single_phase.stages.end_to_end."
    logged = {name.removeprefix(stage) for name in run.data.params if name.startswith(stage)}
    assert logged == {"datasets", "components", "start"}  # all else is logged as training's


def test_metrics_of_every_epoch_and_of_the_test_are_logged(finished_run: Path, run: Run) -> None:
    client = MlflowClient(f"sqlite:///{finished_run}/mlflow.db")
    results = json.loads((finished_run / REPORTING / "training_results.json").read_text())
    for name in ("train_loss", "train_accuracy", "valid_auc", "valid_logloss", "rows_per_second"):
        logged = client.get_metric_history(run.info.run_id, name)
        points = [(metric.step, metric.value) for metric in logged]
        assert points == [(epoch["step"], epoch[name]) for epoch in results["epochs"]], name
    report = json.loads((finished_run / REPORTING / "evaluation_x4_test.json").read_text())
    for name in ("auc", "logloss", "accuracy", "loss", "share_of_best", "calibration_ratio"):
        assert run.data.metrics[f"test_{name}"] == report[name]


def test_artifacts_are_logged(finished_run: Path, run: Run) -> None:
    client = MlflowClient(f"sqlite:///{finished_run}/mlflow.db")
    logged = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    reports = {"evaluation_x4_test.json", "training_results.json", "x4_test_predictions.parquet"}
    assert logged >= {"report.html", "slices_x4_test.json"} | reports
    assert "figures" not in logged  # they are in the report, with one Plotly for all
    folder = Path(run.info.artifact_uri.removeprefix("file:"))
    assert folder.is_relative_to(finished_run)
    assert "ROC, single_phase on x4 test" in (folder / "report.html").read_text()


def test_the_checkpoint_is_logged_as_a_model_of_the_run(finished_run: Path, run: Run) -> None:
    client = MlflowClient(f"sqlite:///{finished_run}/mlflow.db")
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, model.source_run_id) == ("single_phase", run.info.run_id)
    place = Path(model.artifact_location.removeprefix("file:"))
    assert place.is_relative_to(finished_run)
    logged = place / "artifacts/best_model"
    assert {file.name for file in logged.iterdir()} == CHECKPOINT_FILES
    # Their digests: should they differ, pytest would set the bytes beside each other for an hour.
    files = (folder / "model.safetensors" for folder in (logged, finished_run / CHECKPOINT))
    assert len({hashlib.sha256(file.read_bytes()).digest() for file in files}) == 1


def test_tags_name_the_path_the_data_and_the_code(finished_run: Path, run: Run) -> None:
    file = finished_run / "data/04_feature/x4/feature_map.json"
    tags = run.data.tags
    assert tags["path"] == run.info.run_name == "single_phase"
    assert tags["dataset"] == "x4"
    assert tags["data_source"] == "generated log"
    assert tags["data_fingerprint"] == json.loads(file.read_text())["fingerprint"]
    results = json.loads((finished_run / REPORTING / "training_results.json").read_text())
    assert (tags["seed"], tags["settings"]) == ("42", results["settings"])
    assert len(results["settings"]) == 64
    assert tags["git_commit"] == "unknown"  # a project outside of any repository


def test_the_commit_is_tagged_and_whether_it_was_changed(
    project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
) -> None:
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "pyproject.toml"], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=project, check=True)  # noqa: S607
    run_here(project, "preprocess")
    (run,) = mlflow_runs(project)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.data.tags["git_commit"] == head.stdout.strip()
    assert run.data.tags["git_dirty"] == "true"
    assert "path" not in run.data.tags


def test_an_error_in_a_node_fails_the_run(
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
    diverging: None,
) -> None:
    with pytest.raises(ArithmeticError):
        run_here(trained_project, "train")
    first, second = mlflow_runs(trained_project)
    assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")
    run_here(trained_project, "evaluate", params={"evaluation": {"split": "valid"}})
    *_, third = mlflow_runs(trained_project)
    assert third.info.status == "FINISHED"
    assert third.info.run_id != second.info.run_id
    assert third.data.tags["path"] == "single_phase"
    assert "valid_share_of_best" in third.data.metrics


@pytest.fixture
def long_training(project: Path, run_here: Callable[..., None]) -> Path:
    """A preprocessed project whose training takes some seconds."""
    file = project / "conf/test/parameters.yml"
    parameters = yaml.safe_load(file.read_text())
    parameters["generated_log"] = {"train_rows": 20000, "valid_rows": 500, "test_rows": 500}
    parameters["training"] |= {"epochs": 4, "patience": 9}
    file.write_text(yaml.safe_dump(parameters))
    run_here(project, "preprocess")
    return project


def states(project: Path) -> list[Path]:
    """The kept states of interrupted runs."""
    folder = project / INTERRUPTED
    of_finished = finished.files(folder, finished.listed(folder))
    return sorted({*folder.glob("*.pt")} - {*of_finished})


def interrupt(project: Path, number: signal.Signals) -> tuple[int, str]:
    """Train, and send a signal after the first epoch; return the exit code and the output."""
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipeline=train"]
    changes = {"COLUMNS": "1000", "OMP_NUM_THREADS": "1"}
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    log = project / "interrupted.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=project, env=env | changes, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + 120
            while not states(project):  # written after the first epoch
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.01)
            time.sleep(0.2)  # into the second epoch
            process.send_signal(number)
            code = process.wait(timeout=60)
        finally:
            process.kill()
    return code, log.read_text()


def outcome(project: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """What training gave, but for what the clock says."""
    results = content_of(project / REPORTING / "training_results.json")
    report = content_of(project / REPORTING / "evaluation_x4_test.json")
    del report["timestamp"]
    bests = (results["best"], report["trained"]["best"], *(s["best"] for s in results["stages"]))
    for record in (results, *results["epochs"], *results["stages"], *bests):
        del record["seconds"]
        record.pop("rows_per_second", None)
    return results, report, (project / CHECKPOINT / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, {143}), (signal.SIGINT, {130, 1})])
def test_a_killed_run_is_killed_and_goes_on_exactly(
    number: signal.Signals,
    codes: set[int],
    long_training: Path,
    run_here: Callable[..., None],
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
    mlflow_runs: Callable[[Path], list[Run]],
) -> None:
    train = ("--env", "test", "--pipeline=train")
    done = kedro_run(long_training, *train)
    assert done.returncode == 0, done.stderr
    uninterrupted = outcome(long_training)

    code, log = interrupt(long_training, number)
    assert code in codes, log
    assert mlflow_runs(long_training)[-1].info.status == "KILLED"
    assert len(states(long_training)) == 1
    assert outcome(long_training) == uninterrupted  # untouched by the one that was killed

    (long_training / CHECKPOINT).rename(long_training / "moved")
    resumed = kedro_run(long_training, *train)
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on from step" in resumed.stdout
    assert outcome(long_training) == uninterrupted
    assert not states(long_training)
    statuses = [run.info.status for run in mlflow_runs(long_training)]
    assert statuses == ["FINISHED", "FINISHED", "FINISHED"]  # it goes on with its run


@pytest.mark.slow
def test_a_killed_run_is_started_over_where_that_is_asked_for(
    long_training: Path, kedro_run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    interrupt(long_training, signal.SIGTERM)
    done = kedro_run(
        long_training, "--env", "test", "--pipeline=train", "--params", "training.resume=false"
    )
    assert done.returncode == 0, done.stderr
    assert "Starting over: " in done.stdout
    assert "Going on from step" not in done.stdout
    results, _, _ = outcome(long_training)
    assert len(results["epochs"]) == 4
    assert not states(long_training)


@pytest.mark.slow
def test_a_killed_run_with_other_settings_is_left_alone(
    long_training: Path, kedro_run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    interrupt(long_training, signal.SIGTERM)
    (kept,) = states(long_training)
    before = kept.read_bytes()
    done = kedro_run(
        long_training, "--env", "test", "--pipeline=train", "--params", "training.seed=1"
    )
    assert done.returncode == 0, done.stderr
    assert f"Interrupted runs with other settings are kept in {kept}" in done.stdout
    assert "Going on from step" not in done.stdout
    assert states(long_training) == [kept]
    assert kept.read_bytes() == before
