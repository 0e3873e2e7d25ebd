"""What the configuration may ask for with `${name:}`."""

import os
from collections.abc import Callable
from pathlib import Path


def project_root() -> str:
    """The project's root folder: the nearest above the working directory with a conf folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").exists() and (folder / "conf" / "base").is_dir():
            return folder.as_posix()
    return here.as_posix()


def tracking_uri() -> str:
    """Where MLflow keeps its runs: the shell's choice, or a database in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root()}/mlflow.db"


def of_model(path: str, model: str) -> str:
    """The folder of what a path's model gave: the path's own for its best model."""
    return path if model == "best_model" else f"{path}/{model}"


def source_of(given: str, configured: str) -> str:
    """What a raw folder holds: a log of its own, if the command line names the folder."""
    return "folder" if given else configured


RESOLVERS: dict[str, Callable[..., str]] = {
    "of_model": of_model,
    "project_root": project_root,
    "source_of": source_of,
    "tracking_uri": tracking_uri,
}
