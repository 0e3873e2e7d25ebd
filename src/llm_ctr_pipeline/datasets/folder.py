"""A folder as a dataset."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError


class FolderDataset(AbstractDataset[Path, Path]):
    """Hands a node the absolute path of a folder, which need not exist.

    A path in the catalog is relative to the project, wherever `kedro run` is called; one
    among the parameters would be relative to the caller.

    ```yaml
    raw_folder:
      type: llm_ctr_pipeline.datasets.folder.FolderDataset
      path: data/01_raw/avazu_x4
    ```
    """

    def __init__(self, path: str, *, metadata: dict[str, Any] | None = None) -> None:
        """Point to a folder.

        Args:
            path: The folder; Kedro makes it absolute.
            metadata: For other tools; Kedro ignores it.
        """
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> Path:
        """Return the path."""
        return self._path

    def save(self, data: Path) -> NoReturn:
        """Refuse: the path is configuration."""
        raise DatasetError(f"{self._path} is named in the catalog: change it there")

    def _exists(self) -> bool:
        """Whether there is something to load: a path always."""
        return True

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
