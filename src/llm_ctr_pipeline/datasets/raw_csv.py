"""A raw CSV file whose header is checked as it is loaded."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import DatasetError
from kedro_datasets.ibis import FileDataset

from llm_ctr_pipeline.data.raw_csv import RawFile, open_raw_file
from llm_ctr_pipeline.data.schema import AVAZU_X4, LogSchema

_SCHEMAS: dict[str, LogSchema] = {AVAZU_X4.dataset: AVAZU_X4}


class RawCsvDataset(FileDataset):  # type: ignore[misc]
    """One split of a raw log, every value a string; it can be loaded, not saved.

    ```yaml
    "{split}_raw":
      type: llm_ctr_pipeline.datasets.raw_csv.RawCsvDataset
      filepath: data/01_raw/avazu_x4/{split}.csv
      schema: x4
      connection: ${globals:engine}
    ```
    """

    def __init__(
        self,
        filepath: str,
        *,
        schema: str,
        connection: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Point to a raw file.

        Args:
            filepath: The CSV file.
            schema: Short name of the log whose columns the file must hold: `x4`.
            connection: Ibis backend and its options, shared by all datasets that give
                the same; DuckDB in memory by default.
            metadata: For other tools; Kedro ignores it.

        Raises:
            DatasetError: If no log has this name.
        """
        if schema not in _SCHEMAS:
            raise DatasetError(f"schema {schema!r} is unknown: it must be one of {[*_SCHEMAS]}")
        super().__init__(filepath, "csv", connection=connection, metadata=metadata)
        self._schema = _SCHEMAS[schema]

    def load(self) -> RawFile:
        """Check the header and name the rows; nothing else is read yet.

        Raises:
            RawLogError: If the file or its header will not do. Kedro puts the message
                into a DatasetError.
        """
        return open_raw_file(self.connection, Path(self._get_load_path()), self._schema)

    def save(self, data: RawFile) -> NoReturn:
        """Refuse: raw data is only read."""
        raise DatasetError(f"{self._filepath} is raw data: it is read, never written")
