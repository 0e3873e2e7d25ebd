"""A raw log's rows in Parquet."""

from pathlib import Path
from typing import Any

from llm_ctr_pipeline.data.raw_log import RawRows
from llm_ctr_pipeline.datasets.engine import EngineDataset


class RawRowsDataset(EngineDataset):
    """A folder of a checked log's rows, one Parquet file for each raw file.

    ```yaml
    raw_rows:
      type: llm_ctr_pipeline.datasets.raw_rows.RawRowsDataset
      filepath: data/02_intermediate/x4/raw_rows
      connection: ${globals:engine}
    ```
    """

    def __init__(
        self,
        filepath: str,
        *,
        connection: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Point to a folder.

        Args:
            filepath: The folder.
            connection: Ibis backend and its options, shared by all datasets that give
                the same; DuckDB in memory by default.
            metadata: For other tools; Kedro ignores it.
        """
        super().__init__(filepath, "parquet", connection=connection, metadata=metadata)

    def load(self) -> RawRows:
        """Name the rows; nothing is read yet."""
        return RawRows(Path(self._get_load_path()), self.connection)

    def save(self, data: RawRows) -> None:
        """Put a draft, all files of it, in place."""
        data.put_in_place(Path(self._get_save_path()))
