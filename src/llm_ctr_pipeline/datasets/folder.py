"""A folder as a dataset."""

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from llm_ctr_pipeline.data.storage.store_path import AnyPath, parse_path


class FolderDataset(AbstractDataset[AnyPath, AnyPath]):
    """Hands a node the absolute path or the address of a folder, which need not exist.

    A path in the catalog is relative to the project, wherever `kedro run` is called; one
    among the parameters would be relative to the caller.

    Args:
        path: The folder, or its address on a store; Kedro makes a path absolute.
        metadata: For other tools; Kedro ignores it.
    """

    def __init__(self, path: str, *, metadata: dict[str, Any] | None = None) -> None:
        self._path = parse_path(path)
        self.metadata = metadata

    def load(self) -> AnyPath:
        """Return the path."""
        return self._path

    def save(self, data: AnyPath) -> NoReturn:
        """Refuse: the path is configuration."""
        raise DatasetError(f"{self._path} is named in the catalog: change it there")

    def _exists(self) -> bool:
        """Whether there is something to load: a path always."""
        return True

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
