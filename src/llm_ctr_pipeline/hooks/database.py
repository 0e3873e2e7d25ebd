"""MLflow's database in a file, made whole or not at all.

MLflow makes its tables one by one, over seconds. A process that is killed meanwhile, or a second
one that begins at the same time, leaves a database that no later run can open.
"""

import os
from pathlib import Path

from mlflow import MlflowClient

from llm_ctr_pipeline.data.storage.atomic import Scratch

_SCHEME = "sqlite:///"


def provide_database(uri: str) -> None:
    """Make the database at a tracking address and put it in place, unless it is there.

    Args:
        uri: MLflow's tracking address; one that is no SQLite file is left to MLflow.
    """
    path = Path(uri.removeprefix(_SCHEME))
    if not uri.startswith(_SCHEME) or path.exists():
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
