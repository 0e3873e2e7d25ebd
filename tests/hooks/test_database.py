import multiprocessing
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from llm_ctr_pipeline.hooks.database import provide_database


def experiments(path: Path) -> list[str]:
    return [found.name for found in MlflowClient(f"sqlite:///{path}").search_experiments()]


def test_the_database_is_whole_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    provide_database(f"sqlite:///{path}")
    assert [*tmp_path.iterdir()] == [path]
    MlflowClient(f"sqlite:///{path}").create_experiment("mine")
    provide_database(f"sqlite:///{path}")
    assert sorted(experiments(path)) == ["Default", "mine"]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "file:mlruns", "databricks"])
def test_what_is_no_file_is_left_to_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.chdir(tmp_path)
    provide_database(uri)
    assert [*tmp_path.iterdir()] == []


def test_what_another_process_made_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"

    def made_by_another(self: MlflowClient) -> None:
        path.write_text("another's")

    monkeypatch.setattr(MlflowClient, "search_experiments", made_by_another)
    provide_database(f"sqlite:///{path}")
    assert path.read_text() == "another's"
    assert [*tmp_path.iterdir()] == [path]


def test_a_kill_while_the_tables_are_made_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    context = multiprocessing.get_context("fork")
    process = context.Process(target=provide_database, args=(f"sqlite:///{path}",))
    process.start()
    while not (found := [*tmp_path.glob(".mlflow.db-*/mlflow.db")]) or not tables(found[0]):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not path.exists()
    provide_database(f"sqlite:///{path}")
    assert experiments(path) == ["Default"]
    assert [*tmp_path.iterdir()] == [path]


def tables(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(number)
