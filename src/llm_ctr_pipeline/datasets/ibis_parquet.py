"""Parquet written through Ibis, whole or not at all."""

import builtins

import ibis
import ibis.expr.types as ir
from kedro_datasets._typing import TablePreview

from llm_ctr_pipeline.data.features.encode import Encoded, write_encoded
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.engine import read_parquet
from llm_ctr_pipeline.datasets.engine import EngineDataset
from llm_ctr_pipeline.datasets.path import where_there


class IbisParquetDataset(EngineDataset):
    """A table in Parquet that readers never see half-written."""

    def load(self) -> ir.Table:
        """Name the file's rows as a table; nothing is read until it is executed.

        Where somebody looks at it, in IPython or a notebook, it shows its first rows.
        """
        if hasattr(builtins, "__IPYTHON__"):
            ibis.options.interactive = True
        with self._reading_files():
            return read_parquet(self.connection, self._filepath)

    def save(self, data: Encoded) -> None:
        """Write the rows and put the result in its place when it is whole."""
        with drafted(self._filepath) as draft:
            write_encoded(self.connection, data, draft)
        self._wrote_files()

    @where_there
    def preview(self, nrows: int = 5) -> TablePreview:
        """What Kedro-Viz shows."""
        return TablePreview(self.load().limit(nrows).to_pandas().to_dict(orient="split"))
