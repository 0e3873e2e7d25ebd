"""What is read and written by its path, on this machine or on a store."""

from typing import Any

from kedro.io import AbstractDataset

from llm_ctr_pipeline.data.storage.atomic import sweep
from llm_ctr_pipeline.data.storage.store_path import is_whole, parse_path


class PathDataset(AbstractDataset[Any, Any]):
    """A file or a folder that exists once it is whole.

    Args:
        filepath: Where it is or will be: a path, or an address such as `hdfs://HOST/PATH`.
        metadata: For other tools; Kedro ignores it.
    """

    def __init__(self, filepath: str, *, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = parse_path(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        sweep(self._filepath)
        return is_whole(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
