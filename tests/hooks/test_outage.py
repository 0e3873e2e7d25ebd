"""What a run does without MLflow: refused before a node runs, and never ended by it later."""

import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow
import pytest
import requests
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from mlflow import MlflowClient
from mlflow.entities import Run

from llm_ctr_pipeline.hooks import database, tracking
from llm_ctr_pipeline.pipelines.train import nodes
from llm_ctr_pipeline.tracking.outbox import WAITING, Outbox, TrackingError
from llm_ctr_pipeline.tracking.upload import upload_waiting

REPORTS = "data/08_reporting/single_phase"


def run_there(folder: Path, uri: str | None, *pipelines: str, **params: Any) -> None:
    """Run pipelines with MLflow at an address."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    changes = {} if uri is None else {"MLFLOW_TRACKING_URI": uri}
    with mock.patch.dict(os.environ, changes), mock.patch.object(sys, "path", sys.path[:]):
        try:
            bootstrap_project(folder)
            with KedroSession.create(folder, env="test", runtime_params=params) as session:
                session.run(pipeline_names=[*pipelines])
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://me:hunter2@127.0.0.1:9"])
def test_a_server_that_is_not_there_is_told_at_once(project: Path, uri: str) -> None:
    started = time.monotonic()
    with pytest.raises(TrackingError) as refused:
        run_there(project, uri, "preprocess")
    assert time.monotonic() - started < 20
    message = str(refused.value)
    assert message.startswith("MLflow at http://127.0.0.1:9 (MLFLOW_TRACKING_URI) cannot be used")
    assert "tracking=false" in message
    assert "\n" not in message
    assert not [*(project / "data").rglob("*.parquet")]


def test_a_server_that_hangs_is_told_at_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TrackingError, match=r"cannot be used \(timed out\)"):
            run_there(project, uri, "preprocess")


@pytest.mark.parametrize("content", ["no database", None])
def test_a_database_that_cannot_be_used_is_told_at_once(
    project: Path, run_here: Callable[..., None], monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(database, "_LOCKED_SECONDS", 0.1)
    with closing(sqlite3.connect(project / "mlflow.db")) as other:
        if content is None:
            other.execute("BEGIN EXCLUSIVE")
        else:
            (project / "mlflow.db").write_text(content)
        with pytest.raises(TrackingError) as refused:
            run_here(project, "preprocess")
    assert f"sqlite:///{project}/mlflow.db cannot be used" in str(refused.value)
    reason = "database is locked" if content is None else "file is not a database"
    assert reason in str(refused.value)


def test_a_run_without_mlflow(
    trained_project: Path, run_here: Callable[..., None], mlflow_runs: Callable[[Path], list[Run]]
) -> None:
    (trained_project / "mlflow.db").rename("moved")
    report = trained_project / REPORTS / "evaluation_x4_valid.json"
    evaluation = {"split": "valid"}
    run_here(trained_project, "evaluate", params={"tracking": False, "evaluation": evaluation})
    assert report.exists()
    assert not (trained_project / "mlflow.db").exists()
    (trained_project / "moved").rename("mlflow.db")
    run_here(trained_project, "evaluate", params={"evaluation": evaluation})
    assert len(mlflow_runs(trained_project)) == 2  # and MLflow is used again afterwards


def test_a_setting_that_says_neither_is_refused(
    project: Path, run_here: Callable[..., None]
) -> None:
    with pytest.raises(TrackingError, match="tracking is 'flase': it should be true or false"):
        run_here(project, "preprocess", params={"tracking": "flase"})


def test_credentials_of_a_run_are_not_published(
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = "memory://key:hunter2@bucket/x1"
    run_here(trained_project, "evaluate", params={"x1_raw_dir": address})
    run = mlflow_runs(trained_project)[-1]
    assert "memory://***@bucket/x1" in run.data.tags["runtime_params"]
    assert "hunter2" not in str(run.to_dictionary())
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err


@pytest.mark.slow
def test_a_database_that_is_locked_meanwhile_ends_no_run(
    trained_project: Path, mlflow_runs: Callable[[Path], list[Run]]
) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{trained_project}/mlflow.db")
    outbox = Outbox(trained_project / WAITING)
    outbox.open()
    try:
        mlflow.start_run(experiment_id=mlflow_runs(trained_project)[0].info.experiment_id)
        with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            mlflow.log_metrics({"auc": 0.5}, step=1)
            mlflow.log_metrics({"auc": 0.6}, step=2)
        mlflow.end_run()
    finally:
        outbox.close()
        mlflow.set_tracking_uri(before)
    run = mlflow_runs(trained_project)[-1]
    assert (run.data.metrics["auc"], run.info.status) == (0.6, "FINISHED")


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Start MLflow's server on a database; its address, and what kills it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", uri.rpartition(":")[2]]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            try:
                requests.get(f"{uri}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        yield uri, kill
    finally:
        kill()


@pytest.mark.slow
def test_a_server_that_is_killed_meanwhile_ends_no_training(
    trained_project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copy("mlflow.db", tmp_path / "server.db")  # a new one takes long to make
    with closing(sqlite3.connect(tmp_path / "server.db")) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/1'")
    (trained_project / REPORTS / "training_results.json").unlink()
    with server(tmp_path) as (uri, kill):
        told: list[Any] = []

        def log_validation(*arguments: Any) -> None:
            if told:
                kill()
            told.append(arguments)
            original(*arguments)

        original = nodes.log_validation
        monkeypatch.setattr(nodes, "log_validation", log_validation)
        run_there(trained_project, uri, "train")
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    (first, last) = [warning for warning in warnings if "MLflow" in warning]
    assert "MLflow cannot be used ([Errno 111] Connection refused): the run goes on" in first
    assert "`kedro upload` sends what waits in" in last
    results = json.loads((trained_project / REPORTS / "training_results.json").read_text())
    (folder,) = (trained_project / WAITING).iterdir()
    with server(tmp_path) as (uri, _), mock.patch.dict(os.environ, MLFLOW_TRACKING_URI=uri):
        assert [*upload_waiting()] == [folder.name]
        client = MlflowClient(uri)
        run = client.get_run(folder.name)
        assert run.info.status == "FINISHED"
        logged = client.get_metric_history(folder.name, "valid/auc")
        assert [m.value for m in logged] == [epoch["valid_auc"] for epoch in results["epochs"]]
        assert "test/auc" in run.data.metrics
        assert run.data.tags["settings"] == results["settings"]
        artifacts = {each.path for each in client.list_artifacts(folder.name)}
        assert {"best_model", "report.html", "training_results.json"} <= artifacts
    assert not folder.exists()
