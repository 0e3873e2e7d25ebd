"""A raw log's rows in Parquet."""

from llm_ctr_pipeline.data.raw.raw_log import RawRows
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

    def load(self) -> RawRows:
        """Name the rows; nothing is read yet."""
        return RawRows(self._filepath, self.connection)

    def save(self, data: RawRows) -> None:
        """Put a draft, all files of it, in place."""
        data.put_in_place(self._filepath)
