"""What the configuration may ask for with `${name:}`."""

import os
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urlsplit


def project_root() -> str:
    """The project's root folder: the nearest above the working directory with a conf folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").exists() and (folder / "conf" / "base").is_dir():
            return folder.as_posix()
    return here.as_posix()


def from_project(path: Any) -> Any:
    """A path relative to the project's folder, if it is below it; an address as it is."""
    local = Path(path) if isinstance(path, PurePath) else path
    is_below = isinstance(local, Path) and local.is_relative_to(project_root())
    return local.relative_to(project_root()) if is_below else local


def tracking_uri() -> str:
    """Where MLflow keeps its runs: the shell's choice, or a database in the project's root.

    A server's user and password are moved from the address to where MLflow looks for them too:
    MLflow prints the address.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return f"sqlite:///{project_root()}/mlflow.db"
    parts = urlsplit(uri)
    if parts.scheme in {"http", "https"} and parts.password:
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(parts.username or ""))
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(parts.password))
        uri = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        os.environ["MLFLOW_TRACKING_URI"] = uri
    return uri


def artifact_folder() -> str | None:
    """Where runs' artifacts lie: a server knows that itself."""
    return None if tracking_uri().startswith("http") else f"{project_root()}/mlartifacts"


def of_model(path: str, model: str, precision: str | None = None) -> str:
    """The folder of what a path's model gave: the path's own for its best model as trained."""
    parts = (path, None if model == "best_model" else model, precision)
    return "/".join(part for part in parts if part)


def source_of(given: str, configured: str) -> str:
    """What a raw folder holds: a log of its own, if the command line names the folder."""
    return "folder" if given else configured


RESOLVERS: dict[str, Callable[..., str | None]] = {
    "artifact_folder": artifact_folder,
    "of_model": of_model,
    "project_root": project_root,
    "source_of": source_of,
    "tracking_uri": tracking_uri,
}
