import hashlib
import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from llm_ctr_pipeline.hooks.database import bring_home, provide_database


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


def test_a_copied_project_writes_to_its_own_folder(
    finished_run: Path,
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
) -> None:
    """The copy has no artifacts: those of the earlier run are still found where they lie."""
    before = [*(finished_run / "mlartifacts").rglob("*")]
    run_here(trained_project, "evaluate")
    first, second = mlflow_runs(trained_project)
    own = trained_project / "mlartifacts" / second.info.run_id / "artifacts"
    assert second.info.artifact_uri == own.as_uri()
    assert (own / "evaluation_x4_test.json").exists()
    assert first.info.artifact_uri.startswith((finished_run / "mlartifacts").as_uri())
    assert [*(finished_run / "mlartifacts").rglob("*")] == before


def test_a_copied_project_goes_on_with_a_training_in_a_run_of_its_own(
    finished_run: Path,
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
) -> None:
    def logged() -> dict[Path, bytes]:
        files = (path for path in (finished_run / "mlartifacts").rglob("*") if path.is_file())
        return {file: hashlib.sha256(file.read_bytes()).digest() for file in files}

    before = logged()
    run_here(trained_project, "train", params={"training": {"epochs": 3}})
    assert logged() == before
    first, second = mlflow_runs(trained_project)
    assert first.info.status == second.info.status == "FINISHED"
    own = trained_project / "mlartifacts" / second.info.run_id / "artifacts"
    assert (own / "training_results.json").exists()


def test_earlier_runs_follow_where_their_artifacts_came_along(
    trained_project: Path, mlflow_runs: Callable[[Path], list[Run]]
) -> None:
    (run,) = mlflow_runs(trained_project)
    own = trained_project / "mlartifacts" / run.info.run_id / "artifacts"
    own.mkdir(parents=True)
    for _ in range(2):  # and then they stay
        bring_home(trained_project / "mlflow.db", trained_project / "mlartifacts")
        (run,) = mlflow_runs(trained_project)
        assert run.info.artifact_uri == own.as_uri()
    bring_home(trained_project / "none.db", trained_project / "mlartifacts")
    assert not (trained_project / "none.db").exists()
