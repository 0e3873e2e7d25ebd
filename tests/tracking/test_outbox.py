import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from llm_ctr_pipeline.tracking import outbox as module
from llm_ctr_pipeline.tracking.inputs import inputs_of
from llm_ctr_pipeline.tracking.outbox import CALLS, WAITING, Outbox, reason_of
from tests.records import summary_of


def log_all(folder: Path) -> None:
    """Log one of everything that a run logs."""
    model = folder / "best_model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    mlflow.log_param("lr", 0.1)
    mlflow.log_params({"epochs": 3, "seed": None})
    mlflow.set_tag("path", "deepfm")
    mlflow.set_tags({"dataset": "x4"})
    mlflow.log_metrics({"auc": 0.5, "loss": float("nan")}, step=7)
    MlflowClient().log_metric(active(), "test/auc", 0.75, step=9)
    MlflowClient().log_inputs(active(), inputs_of(summary_of("x4"), ["train"]))
    mlflow.log_artifact(str(model))
    mlflow.log_text("<html>", "figures/roc.html")


def active() -> str:
    run = mlflow.active_run()
    assert run is not None
    return str(run.info.run_id)


def assert_has_all(client: MlflowClient, run_id: str) -> None:
    run = client.get_run(run_id)
    assert run.data.params == {"lr": "0.1", "epochs": "3", "seed": "None"}
    assert (run.data.tags["path"], run.data.tags["dataset"]) == ("deepfm", "x4")
    (metric,) = client.get_metric_history(run_id, "auc")
    assert (metric.value, metric.step) == (0.5, 7)
    assert [m.step for m in client.get_metric_history(run_id, "test/auc")] == [9]
    assert [each.path for each in client.list_artifacts(run_id, "best_model")] == [
        "best_model/config.json"
    ]
    assert [each.path for each in client.list_artifacts(run_id, "figures")] == ["figures/roc.html"]
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.tags[0].value) == ("x4", "train")
    assert run.info.status == "FINISHED"


def test_what_mlflow_takes_is_not_kept(
    store: Path, client: MlflowClient, outbox: Outbox, tmp_path: Path
) -> None:
    run = mlflow.start_run()
    log_all(tmp_path)
    mlflow.end_run()
    assert_has_all(client, run.info.run_id)
    assert not (tmp_path / WAITING).exists()


def test_what_mlflow_does_not_take_is_kept_and_sent_at_the_end(
    store: Path,
    client: MlflowClient,
    outbox: Outbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")  # would fail in another thread
    run = mlflow.start_run()
    gone = store.rename(tmp_path / "gone")
    log_all(tmp_path)
    mlflow.end_run()
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(tmp_path / WAITING / run.info.run_id) in warning.getMessage()
    shutil.rmtree(store, ignore_errors=True)  # MLflow began it anew
    gone.rename(store)
    shutil.rmtree(tmp_path / "best_model")  # what is kept is a copy
    outbox.close()
    assert_has_all(client, run.info.run_id)
    assert not any((tmp_path / WAITING).iterdir())


def test_of_several_parameters_only_the_changed_one_becomes_a_tag(
    store: Path, client: MlflowClient, outbox: Outbox
) -> None:
    run_id = mlflow.start_run().info.run_id
    mlflow.log_params({"lr": 0.1})
    log_batch = outbox._methods["log_batch"]

    def as_a_database_would(client: MlflowClient, run_id: str, **given: Any) -> None:
        if given.get("params"):
            raise MlflowException("changed", INVALID_PARAMETER_VALUE)
        log_batch(client, run_id, **given)

    with mock.patch.dict(outbox._methods, log_batch=as_a_database_would):
        mlflow.log_params({"epochs": 3, "lr": 0.2, "seed": 1})
    data = client.get_run(run_id).data
    assert data.params == {"epochs": "3", "lr": "0.1", "seed": "1"}
    assert data.tags["lr"] == "0.2"


def test_the_systems_metrics_come_behind_the_first_others(
    store: Path, client: MlflowClient, outbox: Outbox
) -> None:
    """MLflow's page that compares runs opens on the metric that came first."""
    run_id = mlflow.start_run().info.run_id
    moved = mlflow.MlflowClient().create_run(client.get_run(run_id).info.experiment_id).info.run_id
    mlflow.log_metrics({"system/cpu": 1.0}, step=0)
    mlflow.log_metrics({"system/cpu": 2.0}, step=1)
    assert not client.get_run(run_id).data.metrics
    outbox.moved[run_id] = moved  # they are the run's that is gone on with
    mlflow.log_metrics({"best_valid_auc": 0.5}, step=9)
    mlflow.log_metrics({"system/cpu": 3.0}, step=2)
    assert not client.get_run(run_id).data.metrics
    history = client.get_metric_history(moved, "system/cpu")
    assert [metric.value for metric in history] == [1.0, 2.0, 3.0]


def test_the_systems_metrics_of_a_run_without_others_are_logged_at_its_end(
    store: Path, client: MlflowClient, outbox: Outbox
) -> None:
    run = mlflow.start_run()
    mlflow.log_metrics({"system/cpu": 1.0}, step=0)
    outbox.close()
    assert client.get_run(run.info.run_id).data.metrics == {"system/cpu": 1.0}


def test_it_is_sent_while_the_run_goes_on_too(
    store: Path,
    client: MlflowClient,
    outbox: Outbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = mlflow.start_run()
    gone = store.rename(tmp_path / "gone")
    log_all(tmp_path)
    shutil.rmtree(store, ignore_errors=True)
    gone.rename(store)
    mlflow.set_tag("later", "not yet")
    assert "later" not in client.get_run(run.info.run_id).data.tags  # it is not asked each time
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    mlflow.end_run()
    assert_has_all(client, run.info.run_id)
    assert not any((tmp_path / WAITING).iterdir())


def test_what_is_still_not_taken_waits_for_the_command(
    store: Path, outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = mlflow.start_run()
    store.rename(tmp_path / "gone")
    mlflow.set_tag("path", "deepfm")
    mlflow.end_run()
    outbox.close()
    assert "`kedro upload` sends what waits in" in caplog.messages[-1]
    assert (tmp_path / WAITING / run.info.run_id / CALLS).exists()
    assert MlflowClient.set_tag is outbox._methods["set_tag"]


def test_a_full_disk_ends_no_run(
    store: Path,
    outbox: Outbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = mlflow.start_run()

    def full(_source: Any, target: Any, *_: Any, **__: Any) -> None:
        if isinstance(target, Path):
            target.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)  # MLflow's way
    monkeypatch.setattr(shutil, "copyfile", full)  # ours
    figure = tmp_path / "roc.html"
    figure.write_text("<html>")
    mlflow.log_artifact(str(figure))
    mlflow.log_artifact(str(figure))
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "No space left on device" in caplog.messages[0]
    assert "lie in data/ all the same" in caplog.messages[1]
    assert not [*(tmp_path / WAITING / run.info.run_id).rglob("roc.html")]


def test_without_locks_it_is_kept_and_sent_all_the_same(
    store: Path,
    client: MlflowClient,
    outbox: Outbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on network file systems."""

    def flock(_descriptor: int, _kind: int) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("fcntl.flock", flock)
    run = mlflow.start_run()
    gone = store.rename(tmp_path / "gone")
    log_all(tmp_path)
    mlflow.end_run()
    shutil.rmtree(store, ignore_errors=True)
    gone.rename(store)
    outbox.close()
    assert_has_all(client, run.info.run_id)
    assert not (tmp_path / WAITING / run.info.run_id).exists()


def test_a_line_that_was_cut_off_spoils_no_other(
    store: Path, client: MlflowClient, outbox: Outbox, tmp_path: Path
) -> None:
    run = mlflow.start_run()
    gone = store.rename(tmp_path / "gone")
    mlflow.set_tag("one", "1")
    with (tmp_path / WAITING / run.info.run_id / CALLS).open("a") as file:
        file.write('\n{"call": "set_t')
    mlflow.set_tag("two", "2")
    shutil.rmtree(store, ignore_errors=True)
    gone.rename(store)
    outbox.close()
    tags = client.get_run(run.info.run_id).data.tags
    assert (tags["one"], tags["two"]) == ("1", "2")


def test_a_second_value_of_a_parameter_becomes_a_tag(
    store: Path, client: MlflowClient, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    run = mlflow.start_run()
    mlflow.log_param("epochs", 50)
    mlflow.log_param("epochs", 51)
    data = client.get_run(run.info.run_id).data
    assert (data.params["epochs"], data.tags["epochs"]) == ("50", "51")
    mlflow.set_tag("what?", "1")  # what else it refuses is told, and not kept
    assert "MLflow refuses to log this" in caplog.messages[-1]
    mlflow.set_tag("one", "1")
    assert client.get_run(run.info.run_id).data.tags["one"] == "1"


def test_mlflow_is_told_no_credentials(store: Path, client: MlflowClient, outbox: Outbox) -> None:
    run = mlflow.start_run()
    secret = "s3://key:hunter2@bucket/log"  # noqa: S105 - made up
    mlflow.log_param("a", secret)
    mlflow.log_param("b", [secret])
    mlflow.log_params({"c": secret})
    mlflow.set_tag("d", {"store": secret})
    mlflow.set_tags({"e": secret, "f": {"store": secret}})
    data = client.get_run(run.info.run_id).data
    values = [value for name, value in (data.params | data.tags).items() if len(name) == 1]
    assert len(values) == 6
    assert all("s3://***@bucket/log" in value and "hunter2" not in value for value in values)


def test_the_reason_is_what_lies_at_the_bottom() -> None:
    error = ValueError("API request to\n http://me:hunter2@host failed")
    assert reason_of(error) == "API request to http://***@host failed"
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert reason_of(error) == "[Errno 111] Connection refused"
    assert reason_of(KeyError()) == "KeyError"
