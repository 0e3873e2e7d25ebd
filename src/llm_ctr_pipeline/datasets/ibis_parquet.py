"""Parquet written through Ibis, whole or not at all."""

from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.draft import drafted
from llm_ctr_pipeline.data.engine import write_parquet
from llm_ctr_pipeline.datasets.engine import EngineDataset


class IbisParquetDataset(EngineDataset):
    """A table in Parquet that readers never see half-written.

    ```yaml
    train_encoded:
      type: llm_ctr_pipeline.datasets.ibis_parquet.IbisParquetDataset
      filepath: data/05_model_input/x4/train.parquet
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
        """Point to a local Parquet file, or the folder that Spark makes of one.

        Args:
            filepath: Where it is or will be.
            connection: Ibis backend and its options, shared by all datasets that give
                the same; DuckDB in memory by default.
            metadata: For other tools; Kedro ignores it.
        """
        super().__init__(filepath, "parquet", connection=connection, metadata=metadata)

    def load(self) -> ir.Table:
        """Name the file's rows as a table; nothing is read until it is executed."""
        return super().load()

    def save(self, data: ir.Table) -> None:
        """Execute the table and put the result in place in one step."""
        with drafted(Path(self._get_save_path())) as draft:
            write_parquet(self.connection, data, draft)
