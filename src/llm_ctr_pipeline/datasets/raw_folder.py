"""A folder of raw files and the engine that reads them."""

from typing import Any, NoReturn

from kedro.io import DatasetError

from llm_ctr_pipeline.data.raw.raw_log import RawFolder
from llm_ctr_pipeline.data.storage.store_path import place_of
from llm_ctr_pipeline.datasets.engine import EngineDataset


class RawFolderDataset(EngineDataset):
    """Hands a node the folder of a raw log, which need not exist; it is never written.

    Which files it holds and what is in them stands in the parameters (`log`).

    ```yaml
    raw_folder:
      type: llm_ctr_pipeline.datasets.raw_folder.RawFolderDataset
      filepath: data/01_raw/avazu_x4
      connection: ${globals:engine}
      rows: {path: data/02_intermediate/x4/raw_rows}
    ```
    """

    def __init__(
        self,
        filepath: str,
        *,
        rows: dict[str, str],
        connection: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Point to a folder.

        Args:
            filepath: The folder, or its address on a store; Kedro makes a path absolute.
            rows: `path`, where its rows will be in Parquet: they are read into a draft beside it.
            connection: Ibis backend and its options, shared by all datasets that give
                the same; DuckDB in memory by default.
            metadata: For other tools; Kedro ignores it.
        """
        super().__init__(filepath, connection=connection, metadata=metadata)
        self._rows = place_of(rows["path"])

    def load(self) -> RawFolder:
        """Name the folder; nothing is read yet."""
        return RawFolder(self._filepath, self.connection, self._rows)

    def save(self, data: RawFolder) -> NoReturn:
        """Refuse: raw data is only read."""
        raise DatasetError(f"{self._filepath} is raw data: it is read, never written")
