import shutil
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from llm_ctr_pipeline.cli import upload
from llm_ctr_pipeline.tracking.outbox import WAITING, Outbox, TrackingError
from llm_ctr_pipeline.tracking.upload import upload_waiting


@pytest.fixture
def kept(store: Path, outbox: Outbox, tmp_path: Path) -> str:
    """The id of a run of which a tag waits; MLflow is back."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "conf/base").mkdir(parents=True)
    run = mlflow.start_run()
    gone = store.rename(tmp_path / "gone")
    mlflow.set_tag("path", "deepfm")
    mlflow.end_run()
    outbox.close()
    shutil.rmtree(store, ignore_errors=True)
    gone.rename(store)
    return str(run.info.run_id)


def test_what_waits_is_sent(kept: str, client: MlflowClient, tmp_path: Path) -> None:
    done = CliRunner().invoke(upload, [])
    assert (done.exit_code, done.stdout) == (0, f"MLflow has now all of run {kept}\n")
    run = client.get_run(kept)
    assert (run.data.tags["path"], run.info.status) == ("deepfm", "FINISHED")
    assert [*upload_waiting()] == []


def test_what_mlflow_does_not_know_stays(kept: str, store: Path, tmp_path: Path) -> None:
    folder = tmp_path / WAITING / kept
    store.rename(tmp_path / "gone")
    done = CliRunner().invoke(upload, [str(folder)])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert str(folder) in line
    assert "MLFLOW_TRACKING_URI" in line
    assert folder.is_dir()


def test_a_run_that_goes_on_sends_it_itself(store: Path, outbox: Outbox, tmp_path: Path) -> None:
    run = mlflow.start_run()
    store.rename(tmp_path / "gone")
    mlflow.set_tag("path", "deepfm")
    with pytest.raises(TrackingError, match="a run that goes on"):
        [*upload_waiting([tmp_path / WAITING / run.info.run_id])]
