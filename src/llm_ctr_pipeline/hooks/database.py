"""MLflow's database in a file, made whole or not at all, and of the folder it lies in.

MLflow makes its tables one by one, over seconds. A process that is killed meanwhile, or a second
one that begins at the same time, leaves a database that no later run can open.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient

from llm_ctr_pipeline.data.storage.atomic import Scratch

_SCHEME = "sqlite:///"
_LOCKED_SECONDS = 10


def provide_database(uri: str) -> None:
    """Make the database at a tracking address and put it in place, unless it is there.

    Args:
        uri: MLflow's tracking address; one that is no SQLite file is left to MLflow.

    Raises:
        sqlite3.Error: It is there and cannot be written: MLflow would try for minutes.
    """
    path = Path(uri.removeprefix(_SCHEME))
    if not uri.startswith(_SCHEME):
        return
    if path.exists():
        with closing(sqlite3.connect(path, _LOCKED_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
        return
    scratch = Scratch(path)
    try:
        MlflowClient(f"{_SCHEME}{scratch.draft}").search_experiments()
        try:
            os.link(scratch.draft, path)  # unlike a rename it does not replace another process's
        except OSError:
            if not path.exists():  # a file system without links
                os.replace(scratch.draft, path)
    finally:
        scratch.drop()


def bring_home(database: Path, artifacts: Path) -> None:
    """Let a project's own database name the project's own artifacts.

    MLflow keeps their place as an absolute path, so the runs of a project that was copied or moved
    would go on writing where it lay before. Earlier runs follow where their artifacts came along.

    Args:
        database: MLflow's database; nothing is done where there is none.
        artifacts: The folder of all runs' artifacts.

    Raises:
        sqlite3.Error: The database cannot be written.
    """
    if not database.exists():
        return
    here = artifacts.as_uri()
    with closing(sqlite3.connect(database, _LOCKED_SECONDS)) as connection, connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? "
            "WHERE artifact_location LIKE ? AND artifact_location != ?",
            (here, f"file:%/{artifacts.name}", here),
        )
        moved = connection.execute(
            "SELECT run_uuid, artifact_uri FROM runs "
            "WHERE artifact_uri LIKE ? AND substr(artifact_uri, 1, ?) != ?",
            (f"file:%/{artifacts.name}/%", len(here) + 1, f"{here}/"),
        ).fetchall()
        for run_id, place in moved:
            below = place.rpartition(f"/{artifacts.name}/")[2]
            if (artifacts / below).is_dir():
                connection.execute(
                    "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?",
                    (f"{here}/{below}", run_id),
                )
