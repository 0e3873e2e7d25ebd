"""A folder as a dataset."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.store_path import AnyPath, parse_path
from llm_ctr_pipeline.datasets.path import PathDataset

if TYPE_CHECKING:  # it brings PyTorch along
    from llm_ctr_pipeline.serving.export import Export


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


class ExportDataset(PathDataset):
    """Writes an `Export` into a folder of its own, which replaces an earlier one as a whole."""

    def load(self) -> Path:
        """Return the folder: other tools read what is in it.

        Raises:
            DatasetError: There is none.
        """
        if not self._exists():
            raise DatasetError(f"{self._filepath} is not there: `kedro run --pipeline=export`")
        return Path(str(self._filepath))

    def save(self, data: "Export") -> None:
        """Write the folder, never half."""
        with drafted(Path(str(self._filepath))) as draft:
            draft.mkdir()
            data.write(draft)
