import os
from pathlib import Path, PurePosixPath

import pytest
from mlflow.utils.credentials import read_mlflow_creds

from llm_ctr_pipeline.data.storage.store_path import parse_path
from llm_ctr_pipeline.resolvers import artifact_folder, from_project, project_root, tracking_uri


def test_the_root_is_found_from_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "notebooks").mkdir()
    monkeypatch.chdir(project / "notebooks")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert project_root() == str(project)
    assert tracking_uri() == f"sqlite:///{project}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri() == "http://127.0.0.1:5000"
    assert from_project(PurePosixPath(project / "data" / "x4")) == Path("data/x4")
    assert from_project(Path("/elsewhere")) == Path("/elsewhere")
    address = parse_path("memory://bucket/data")
    assert from_project(address) is address


def test_a_servers_credentials_leave_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow prints the address, and looks for credentials in these places too."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:a%40b@host:5000/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    assert tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == "https://host:5000/mlflow"
    credentials = read_mlflow_creds()
    assert (credentials.username, credentials.password) == ("me", "a@b")


def test_a_server_knows_itself_where_artifacts_lie(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert artifact_folder() == f"{project}/mlartifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert artifact_folder() is None
