import json
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from llm_ctr_pipeline.tracking.abandoned import ENDED
from llm_ctr_pipeline.tracking.continued import RUNS, continue_run
from llm_ctr_pipeline.tracking.outbox import WAITING, Outbox

KEY = "key of the training"


def train(folder: Path, goes_on: bool, key: str = KEY, **params: int) -> str:
    """Log a run that trains as the hook and the nodes do; its id at its beginning."""
    outbox = Outbox(Path(WAITING))
    outbox.open()
    run = mlflow.start_run()
    outbox.replaceable = str(run.info.run_id)
    mlflow.set_tags({"path": "deepfm", "git_commit": str(len(params))})
    mlflow.log_params(params)
    continue_run(folder, key, goes_on)
    mlflow.log_metrics({"valid/auc": 0.5 + len(params) / 100}, step=len(params))
    mlflow.end_run()
    outbox.close()
    return str(run.info.run_id)


def ids(client: MlflowClient, view: int = ViewType.ACTIVE_ONLY) -> set[str]:
    experiment = client.get_experiment_by_name("one")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], run_view_type=view)
    return {str(run.info.run_id) for run in found}


def test_what_goes_on_from_a_state_goes_on_with_its_run(
    client: MlflowClient, tmp_path: Path
) -> None:
    first = train(tmp_path, False, epochs=50)
    client.set_terminated(first, "KILLED")
    client.set_tag(first, ENDED, "by the run after")
    second = train(tmp_path, True, epochs=51, seed=1)
    assert ids(client) == {first}
    assert ids(client, ViewType.ALL) == {first, second}
    run = client.get_run(first)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "50", "seed": "1"}
    assert run.data.tags["epochs"] == "51"  # a parameter has one value
    assert run.data.tags["git_commit"] == "2"
    assert ENDED not in run.data.tags
    assert [m.step for m in client.get_metric_history(first, "valid/auc")] == [1, 2]
    assert json.loads((tmp_path / RUNS).read_text()) == {KEY: first}


def test_another_training_is_another_run(client: MlflowClient, tmp_path: Path) -> None:
    first = train(tmp_path, False)
    other = train(tmp_path, True, key="of another training")  # whose first stage has a state
    anew = train(tmp_path, False)
    assert ids(client) == {first, other, anew}
    runs = json.loads((tmp_path / RUNS).read_text())
    assert runs == {KEY: anew, "of another training": other}


def test_a_run_that_was_deleted_or_is_unknown_is_not_gone_on_with(
    client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.delete_run(train(tmp_path, False))
    second = train(tmp_path, True)
    assert ids(client) == {second}
    (tmp_path / RUNS).write_text(json.dumps({KEY: "0" * 32}))
    third = train(tmp_path, True)
    assert ids(client) == {second, third}
    assert "cannot be continued: Run '" in caplog.messages[-1]
    assert json.loads((tmp_path / RUNS).read_text()) == {KEY: third}


def test_without_mlflow_nothing_is_done(tmp_path: Path) -> None:
    continue_run(tmp_path, KEY, True)
    assert not (tmp_path / RUNS).exists()


def test_a_spoilt_file_or_a_full_disk_ends_no_training(
    client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / RUNS).write_text("{")
    first = train(tmp_path, True)
    assert json.loads((tmp_path / RUNS).read_text()) == {KEY: first}
    second = train(tmp_path / RUNS / "below a file", False)
    assert ids(client) == {first, second}
    assert "would be another MLflow run" in caplog.messages[-1]
