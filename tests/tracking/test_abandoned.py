import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from llm_ctr_pipeline.tracking.abandoned import ENDED, NOTE, end_abandoned, process_tags


@pytest.fixture(scope="module")
def gone() -> str:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


def begin(client: MlflowClient, **tags: str) -> str:
    """Begin a run that nobody ends; its id."""
    experiment = client.get_experiment_by_name("one")
    assert experiment is not None
    return str(client.create_run(experiment.experiment_id, tags=tags).info.run_id)


def end_all(client: MlflowClient, own: str) -> None:
    experiment = client.get_experiment_by_name("one")
    assert experiment is not None
    end_abandoned(experiment.experiment_id, own)


def test_a_run_whose_process_is_gone_is_ended_with_a_note(client: MlflowClient, gone: str) -> None:
    left = begin(client, **process_tags() | {"process": gone})
    # In another container, or before a restart, the number may have been this process's.
    same_number = begin(client, **process_tags())
    client.log_metric(left, "train/loss", 0.5, timestamp=4_000_000_000_000, step=1)
    own = begin(client, **process_tags())
    end_all(client, own)
    for run_id in (left, same_number):
        run = client.get_run(run_id)
        assert (run.info.status, run.data.tags[ENDED]) == ("KILLED", NOTE)
    assert client.get_run(left).info.end_time == 4_000_000_000_000  # when it was last heard of
    assert client.get_run(own).info.status == "RUNNING"


def test_all_other_runs_are_left_alone(client: MlflowClient, gone: str) -> None:
    left = [
        begin(client, host="another machine", process=gone),
        begin(client, host=socket.gethostname(), process=str(os.getppid())),
        begin(client, host=socket.gethostname()),
        begin(client),
    ]
    finished = begin(client, **process_tags() | {"process": gone})
    client.set_terminated(finished, "FINISHED")
    end_all(client, begin(client, **process_tags()))
    assert {client.get_run(run_id).info.status for run_id in left} == {"RUNNING"}
    assert client.get_run(finished).info.status == "FINISHED"


def test_a_server_that_is_away_ends_no_run(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", away)
    end_abandoned("0", "0" * 32)
    assert "cannot be ended: refused" in caplog.messages[-1]


def test_a_run_that_a_kill_left_running_is_ended_or_gone_on_with(
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
    gone: str,
) -> None:
    client = MlflowClient(f"sqlite:///{trained_project}/mlflow.db")
    training = {"seed": 1}
    run_here(trained_project, "train", params={"training": training})
    *_, first = mlflow_runs(trained_project)

    def leave_running() -> None:
        client.update_run(first.info.run_id, status="RUNNING")
        client.set_tag(first.info.run_id, "process", gone)

    leave_running()
    run_here(trained_project, "evaluate")
    ended = client.get_run(first.info.run_id)
    assert (ended.info.status, ended.data.tags[ENDED]) == ("KILLED", NOTE)
    leave_running()
    run_here(trained_project, "train", params={"training": training | {"epochs": 3}})
    ended = client.get_run(first.info.run_id)
    assert ended.info.status == "FINISHED"
    assert ENDED not in ended.data.tags
    assert ended.data.tags["process"] == str(os.getpid())
    assert ended.data.metrics["train/epoch"] == 3
    assert len(mlflow_runs(trained_project)) == 3  # the last training goes on with the first
