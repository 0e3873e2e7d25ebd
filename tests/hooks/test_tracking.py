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

from llm_ctr_pipeline.data.errors import SettingsError
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


def test_the_settings_that_a_training_uses_are_logged_and_no_others(run: Run) -> None:
    logged = run.data.params
    expected = {
        "Path": "single_phase",
        "model.embedding_dim": "4",
        "model.prompt_suffix": "",
        "llm.hidden_size": "16",
        "llm.tie_word_embeddings": "True",
        "training.epochs": "2",
        "training.seed": "42",
        "training.start": "new",
        "training.components": "all",
        # What `auto` came to.
        "training.precision": "32-true",
        "training.compile": "off",
        "llm.attention": "sdpa",
    }
    assert {name: logged.get(name) for name in expected} == expected
    assert float(logged["training.lr"]) > 0
    assert {name.partition(".")[0] for name in logged} == {"Path", "llm", "model", "training"}
    assert not [name for name in logged if "stages" in name or "evaluation" in name]


def test_metrics_of_every_epoch_and_of_the_test_are_logged(finished_run: Path, run: Run) -> None:
    client = MlflowClient(f"sqlite:///{finished_run}/mlflow.db")
    results = json.loads((finished_run / REPORTING / "training_results.json").read_text())
    names = {
        "train/loss": "train_loss",
        "train/accuracy": "train_accuracy",
        "train/epoch": "epoch",
        "train/lr": "lr",
        "train/rows_per_second": "rows_per_second",
        "valid/auc": "valid_auc",
        "valid/logloss": "valid_logloss",
    }
    for name, key in names.items():
        logged = client.get_metric_history(run.info.run_id, name)
        points = [(metric.step, metric.value) for metric in logged]
        assert points == [(epoch["step"], epoch[key]) for epoch in results["epochs"]], name
    report = json.loads((finished_run / REPORTING / "evaluation_x4_test.json").read_text())
    best = results["best"]
    for name in ("auc", "logloss", "accuracy", "share_of_best", "calibration_ratio"):
        # Two: the run's, and the logged model's.
        history = client.get_metric_history(run.info.run_id, f"test/{name}")
        points = {(metric.step, metric.value) for metric in history}
        assert points == {(best["step"], report[name])}
    assert "test/loss" not in run.data.metrics  # it is the log loss
    assert {name.partition("/")[0] for name in run.data.metrics} <= {
        *("best_valid_auc", "train", "valid", "test", "system")
    }


def test_the_best_validation_is_that_of_the_kept_model(
    trained_project: Path, run_here: Callable[..., None], mlflow_runs: Callable[[Path], list[Run]]
) -> None:
    """The last one is worse: sorted by it, the table would name the wrong model."""
    training = {"epochs": 3, "lr": 5e-4}
    run_here(trained_project, "train", params={"training": training})
    metrics = mlflow_runs(trained_project)[-1].data.metrics
    results = json.loads((trained_project / REPORTING / "training_results.json").read_text())
    last, best = results["epochs"][-1]["valid_auc"], results["best"]["valid_auc"]
    assert last < best
    assert (metrics["valid/auc"], metrics["best_valid_auc"]) == (last, best)
    assert next(iter(metrics)) == "best_valid_auc"  # MLflow shows it first


def test_the_rows_of_each_split_are_inputs(finished_run: Path, run: Run) -> None:
    summary = json.loads((finished_run / "data/05_model_input/x4/summary.json").read_text())
    inputs = {tag.value: each.dataset for each in run.inputs.dataset_inputs for tag in each.tags}
    assert {dataset.name for dataset in inputs.values()} == {"x4"}
    assert [*inputs] == ["train", "valid", "test"]
    for split, dataset in inputs.items():
        assert summary["splits"][split]["raw_fingerprint"].startswith(dataset.digest)
        assert json.loads(dataset.profile)["num_rows"] == summary["splits"][split]["rows"]


def test_the_machine_is_measured_while_a_training_goes_on_alone(
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    run_here(trained_project, "train", params={"training": {"seed": 1}})
    run_here(trained_project, "evaluate")
    *_, trained, tested = mlflow_runs(trained_project)
    assert "system/system_memory_usage_megabytes" in trained.data.metrics
    assert not [name for name in tested.data.metrics if name.startswith("system/")]
    # Before them stands what a reader looks for, though they came before the first validation.
    assert next(iter(trained.data.metrics)) == "best_valid_auc"
    assert "system metrics" not in capfd.readouterr().err


def test_a_run_says_what_it_is_and_how_it_was_started(run: Run) -> None:
    tags = run.data.tags
    assert run.info.run_name == "single_phase · x4 · env test"
    assert (tags["kind"], tags["path"], tags["kedro_command"]) == (
        *("training", "single_phase", "kedro run --env=test"),
    )
    note = tags["mlflow.note.content"]
    assert "```bash\nkedro run --env=test\n```" in note
    assert "| `training.epochs` | `2` | `5` |" in note
    assert "generated_log" not in note  # a setting of the data
    assert not {"runner", "run_id"} & tags.keys()


def test_runs_of_other_kinds_are_called_so(
    trained_project: Path, run_here: Callable[..., None], mlflow_runs: Callable[[Path], list[Run]]
) -> None:
    run_here(trained_project, "evaluate", params={"evaluation": {"split": "valid"}})
    tested = mlflow_runs(trained_project)[-1]
    assert tested.info.run_name == "evaluation · single_phase · x4 valid · env test"
    assert (tested.data.tags["kind"], tested.data.params) == ("evaluation", {})
    assert tested.data.tags["kedro_command"].endswith("--params evaluation.split=valid")
    (used,) = tested.inputs.dataset_inputs
    assert [tag.value for tag in used.tags] == ["valid"]


def test_a_refused_run_is_not_left_in_the_table(
    trained_project: Path, run_here: Callable[..., None], mlflow_runs: Callable[[Path], list[Run]]
) -> None:
    before = len(mlflow_runs(trained_project))
    with pytest.raises(SettingsError, match=r"register\.name is not set"):
        run_here(trained_project, "register")
    assert len(mlflow_runs(trained_project)) == before


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
    assert tags["path"] == "single_phase"
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
    assert "valid/share_of_best" in third.data.metrics


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
