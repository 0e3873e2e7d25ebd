from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from llm_ctr_pipeline.tracking.outbox import WAITING, Outbox


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """MLflow's store in files, which takes no time to make: it is gone while it is renamed."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    mlflow.set_experiment("one")
    yield tmp_path / "mlruns"
    mlflow.set_tracking_uri(before)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An open outbox; closed at the end, for the client of other tests."""
    opened = Outbox(tmp_path / WAITING)
    opened.open()
    yield opened
    mlflow.end_run()
    if Outbox.current is not None:
        opened.close()


@pytest.fixture
def client(store: Path) -> MlflowClient:
    return MlflowClient(store.as_uri())
